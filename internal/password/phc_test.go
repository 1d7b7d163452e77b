package password

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// cheap keeps the tests quick.
var cheap = Params{Memory: 64, Time: 1, Threads: 1}

const good = "some four words apart"

// reference is a vector of the reference implementation's own tests: argon2id, t=2, m=2^16, p=1, "password", "somesalt".
const reference = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"

func TestReferenceVector(t *testing.T) {
	hashed, err := parse(reference)
	if err != nil {
		t.Fatal(err)
	}
	if !hashed.matches("password") || hashed.matches("Password") {
		t.Error("the reference implementation's hash is not matched by its password alone")
	}
}

func TestParse(t *testing.T) {
	const salt, key = "c29tZXNhbHRzb21lc2FsdA", "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI"
	phc := func(params string) string { return "$argon2id$v=19$" + params + "$" + salt + "$" + key }
	for name, tc := range map[string]struct {
		phc  string
		want Params
		bad  bool
	}{
		"default":             {phc: phc("m=19456,t=2,p=1"), want: Default},
		"ceilings":            {phc: phc("m=65536,t=8,p=4"), want: Params{Memory: 65536, Time: 8, Threads: 4}},
		"empty":               {phc: "", bad: true},
		"memory above":        {phc: phc("m=65537,t=2,p=1"), bad: true},
		"memory of a bomb":    {phc: phc("m=4294967295,t=2,p=1"), bad: true},
		"memory overflows":    {phc: phc("m=4294967296,t=2,p=1"), bad: true},
		"memory below lanes'": {phc: phc("m=31,t=2,p=4"), bad: true},
		"passes above":        {phc: phc("m=19456,t=9,p=1"), bad: true},
		"no passes":           {phc: phc("m=19456,t=0,p=1"), bad: true},
		"lanes above":         {phc: phc("m=19456,t=2,p=5"), bad: true},
		"lanes overflow":      {phc: phc("m=19456,t=2,p=257"), bad: true},
		"no lanes":            {phc: phc("m=19456,t=2,p=0"), bad: true},
		"other order":         {phc: phc("t=2,m=19456,p=1"), bad: true},
		"leading zero":        {phc: phc("m=019456,t=2,p=1"), bad: true},
		"a sign":              {phc: phc("m=+19456,t=2,p=1"), bad: true},
		"one more":            {phc: phc("m=19456,t=2,p=1,x=1"), bad: true},
		"argon2i":             {phc: strings.Replace(phc("m=19456,t=2,p=1"), "2id", "2i", 1), bad: true},
		"old version":         {phc: strings.Replace(phc("m=19456,t=2,p=1"), "v=19", "v=16", 1), bad: true},
		"bcrypt":              {phc: "$2b$12$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234", bad: true},
		"no salt":             {phc: "$argon2id$v=19$m=19456,t=2,p=1$$" + key, bad: true},
		"short key":           {phc: "$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$MTIz", bad: true},
		"padded":              {phc: phc("m=19456,t=2,p=1") + "=", bad: true},
		"line break in it":    {phc: "$argon2id$v=19$m=19456,t=2,p=1$" + salt + "\n$" + key, bad: true},
		"something after":     {phc: phc("m=19456,t=2,p=1") + "$", bad: true},
		"something before":    {phc: "x" + phc("m=19456,t=2,p=1"), bad: true},
		"endless":             {phc: phc("m=19456,t=2,p=1") + strings.Repeat("A", 1<<20), bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			hashed, err := parse(tc.phc)
			if tc.bad != (err != nil) || tc.bad && !errors.Is(err, errHash) {
				t.Fatalf("error %v, want one: %v", err, tc.bad)
			}
			if d := cmp.Diff(tc.want, hashed.Params); !tc.bad && d != "" {
				t.Errorf("parameters (-want +got):\n%s", d)
			}
		})
	}
}

func TestWeaker(t *testing.T) {
	made := cheap.make(good)
	for name, tc := range map[string]struct {
		phc  string
		to   Params
		want bool
	}{
		"the same":         {made, cheap, false},
		"more memory":      {made, Default, true},
		"less memory":      {Params{Memory: 128, Time: 1, Threads: 1}.make(good), cheap, true},
		"a short salt":     {strings.Replace(reference, "m=65536,t=2", "m=64,t=1", 1), cheap, true},
		"cannot be read":   {"*", cheap, true},
		"there is no hash": {"", cheap, true},
	} {
		stored, err := parse(tc.phc)
		if got := err != nil || stored.weaker(tc.to); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestSaltsDiffer(t *testing.T) {
	if a, b := cheap.make(good), cheap.make(good); a == b {
		t.Error("two hashes of one password are equal")
	}
}

// FuzzParse verifies that each parsed hash is below the ceilings of cost and has one spelling.
func FuzzParse(f *testing.F) {
	f.Add(reference)
	f.Add(cheap.make(good))
	f.Add("$argon2id$v=19$m=8,t=1,p=1$$")
	f.Add("$argon2id$v=19$m=65536,t=8,p=4$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPd")
	f.Fuzz(func(t *testing.T, phc string) {
		hashed, err := parse(phc)
		if err != nil {
			return
		}
		if hashed.encode() != phc {
			t.Fatalf("%q is read as %q", phc, hashed.encode())
		}
		if hashed.Memory > maxMemory || hashed.Time > maxTime || hashed.Threads > maxThreads || hashed.Time == 0 ||
			hashed.Threads == 0 ||
			len(hashed.salt) > maxSalt ||
			len(hashed.key) > maxKey {
			t.Fatalf("%q costs %+v", phc, hashed.Params)
		}
	})
}
