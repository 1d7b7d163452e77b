package keyring

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/secret"
)

// rotated is a ring with three keys: one that verifies on, one that signs, one that is published ahead.
func rotated(t testing.TB) *Ring {
	t.Helper()
	ring, _, _ := Rotate(nil, epoch, Policy{})
	ring, _, _ = Rotate(ring, epoch.Add(30*day), Policy{})
	ring, _, _ = Rotate(ring, epoch.Add(60*day), Policy{})
	if len(ring.Keys) != 3 {
		t.Fatalf("%d keys", len(ring.Keys))
	}
	return ring
}

func TestSigningAndVerifying(t *testing.T) {
	ring := rotated(t) // signs from 0, 720.25 h, 1440.5 h
	for name, tc := range map[string]struct {
		at         time.Time
		wantSigns  int
		wantVerify []int
	}{
		"long before the first":      {epoch.Add(-400 * day), 0, []int{0, 1, 2}},
		"at the first":               {epoch, 0, []int{0, 1, 2}},
		"just before the second":     {ring.Keys[1].SignsFrom.Add(-1), 0, []int{0, 1, 2}},
		"at the second":              {ring.Keys[1].SignsFrom, 1, []int{0, 1, 2}},
		"the first verifies on":      {ring.Keys[0].VerifiesUntil.Add(-1), 1, []int{0, 1, 2}},
		"the first verifies no more": {ring.Keys[0].VerifiesUntil, 1, []int{1, 2}},
		"long after":                 {epoch.Add(4000 * day), 2, []int{2}},
	} {
		t.Run(name, func(t *testing.T) {
			k, ok := ring.Signing(tc.at)
			if !ok || k.ID != ring.Keys[tc.wantSigns].ID {
				t.Errorf("it signs with %s", k.ID)
			}
			var want, got []string
			for _, i := range tc.wantVerify {
				want = append(want, ring.Keys[i].ID)
			}
			for _, k := range ring.Verifying(tc.at) {
				got = append(got, k.ID)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("verifying (-want +got):\n%s", d)
			}
		})
	}
	var none *Ring
	if _, ok := none.Signing(epoch); ok || none.Verifying(epoch) != nil {
		t.Error("no ring has keys")
	}
}

// TestDerive compares with RFC 5869 done by hand: extract without a salt, one block of expand.
func TestDerive(t *testing.T) {
	ring := rotated(t)
	mac := func(key, data []byte) []byte {
		hash := hmac.New(sha256.New, key)
		hash.Write(data)
		return hash.Sum(nil)
	}
	want := mac(mac(make([]byte, 32), []byte(ring.Secret)), []byte("caly/mail\x01"))
	if got := ring.Derive("mail"); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if bytes.Equal(ring.Derive("mail"), ring.Derive("codes")) {
		t.Error("two purposes have one key")
	}
	other := New(epoch)
	if bytes.Equal(ring.Derive("mail"), other.Derive("mail")) {
		t.Error("two rings have one key")
	}
}

func TestRoundTrip(t *testing.T) {
	ring := rotated(t)
	data, err := Encode(ring)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(ring, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	signed := ed25519.Sign(ring.Keys[1].Private(), []byte("m"))
	if !ed25519.Verify(got.Keys[1].Public(), []byte("m"), signed) {
		t.Error("the key is another one")
	}
}

func TestDecodeRefuses(t *testing.T) {
	type fields = map[string]any
	key := func(m fields, i int) fields { return m["keys"].([]any)[i].(fields) }
	b64 := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for name, tc := range map[string]struct {
		change func(fields)
		want   string
	}{
		"another version":          {func(m fields) { m["version"] = 2 }, "another version"},
		"no version":               {func(m fields) { delete(m, "version") }, "another version"},
		"no secret":                {func(m fields) { delete(m, "secret") }, "secret has 0 bytes"},
		"a short secret":           {func(m fields) { m["secret"] = b64(31) }, "secret has 31 bytes"},
		"a long secret":            {func(m fields) { m["secret"] = b64(33) }, "secret has 33 bytes"},
		"a secret of another kind": {func(m fields) { m["secret"] = 5 }, "not the JSON"},
		"a secret not in base64":   {func(m fields) { m["secret"] = "canary!" }, "not the JSON"},
		"no keys":                  {func(m fields) { m["keys"] = []any{} }, "0 keys"},
		"too many keys": {func(m fields) {
			for range 6 {
				m["keys"] = append(m["keys"].([]any), key(m, 0))
			}
		}, "9 keys"},
		"a key twice":             {func(m fields) { key(m, 1)["seed"], key(m, 1)["id"] = key(m, 0)["seed"], key(m, 0)["id"] }, "twice"},
		"a short seed":            {func(m fields) { key(m, 0)["seed"] = b64(31) }, "seed has 31"},
		"another seed":            {func(m fields) { key(m, 0)["seed"] = b64(32) }, "id is not"},
		"another id":              {func(m fields) { key(m, 0)["id"] = "../../etc/passwd" }, "id is not"},
		"an invalid time":         {func(m fields) { key(m, 0)["signsFrom"] = "soon" }, "not the JSON"},
		"no time":                 {func(m fields) { delete(key(m, 0), "signsFrom") }, "lacks a time"},
		"a time long ago":         {func(m fields) { key(m, 0)["createdAt"] = "1970-01-01T00:00:00Z" }, "year 1970"},
		"out of order":            {func(m fields) { key(m, 1)["signsFrom"] = "2026-01-01T00:00:00Z" }, "signs before"},
		"at the same time":        {func(m fields) { key(m, 1)["signsFrom"] = key(m, 0)["signsFrom"] }, "signs before"},
		"a gap":                   {func(m fields) { key(m, 0)["verifiesUntil"] = key(m, 0)["signsFrom"] }, "does not verify until"},
		"an end left out":         {func(m fields) { delete(key(m, 0), "verifiesUntil") }, "does not verify until"},
		"the last one has an end": {func(m fields) { key(m, 2)["verifiesUntil"] = "2030-01-01T00:00:00Z" }, "has an end"},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := Encode(rotated(t))
			if err != nil {
				t.Fatal(err)
			}
			var m fields
			if err := json.Unmarshal(data, &m); err != nil {
				t.Fatal(err)
			}
			tc.change(m)
			data, _ = json.Marshal(m)
			_, err = Decode(data)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if errors.Is(err, ErrVersion) != strings.Contains(name, "version") {
				t.Errorf("%v is of another version: %v", err, errors.Is(err, ErrVersion))
			}
		})
	}
	whole, _ := Encode(rotated(t))
	for name, data := range map[string][]byte{
		"nothing":          nil,
		"half":             whole[:len(whole)/2],
		"two":              append(bytes.Clone(whole), whole...),
		"null":             []byte("null"),
		"something behind": append(bytes.Clone(whole), '}'),
		"too much":         append(bytes.Clone(whole), bytes.Repeat([]byte(" "), maxEncoded)...),
	} {
		if _, err := Decode(data); err == nil {
			t.Errorf("%s is a ring", name)
		}
	}
	if _, err := Encode(&Ring{}); err == nil {
		t.Error("an empty ring can be written")
	}
}

// TestNothingPrintsASecret verifies that neither a ring nor a key prints a secret, whatever the format or the logger.
func TestNothingPrintsASecret(t *testing.T) {
	const canary = "canary-canary-canary-canary-1234"
	ring := rotated(t)
	ring.Secret = canary
	ring.Keys[0].Seed = secret.Sensitive(canary)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("ring", "ring", ring, "key", ring.Keys[0], "secret", ring.Secret)
	said := fmt.Sprint(ring, ring.Keys) + fmt.Sprintf(
		"%v %+v %#v %s %q %x", *ring, ring, ring, ring.Secret, ring.Secret, ring.Secret,
	) + log.String()
	if strings.Contains(said, canary) || strings.Contains(said, fmt.Sprintf("%x", canary)) {
		t.Errorf("the secret is in %s", said)
	}
}

// FuzzDecode verifies that each decoded ring can sign, and encodes to a ring with the same keys.
func FuzzDecode(f *testing.F) {
	whole, _ := Encode(rotated(f))
	f.Add(whole)
	f.Add([]byte(`{"version":1,"keys":[],"secret":""}`))
	f.Add(bytes.Replace(whole, []byte(`"version":1`), []byte(`"version":1e0`), 1))
	f.Add(bytes.Replace(whole, []byte(`2026`), []byte(`9999`), 3))
	f.Fuzz(func(t *testing.T, data []byte) {
		ring, err := Decode(data)
		if err != nil {
			return
		}
		now := time.Now()
		k, ok := ring.Signing(now)
		if !ok || len(k.Seed) != ed25519.SeedSize || len(ring.Derive("x")) != 32 || len(ring.Verifying(now)) == 0 {
			t.Fatalf("a ring without a key to use: %+v", ring)
		}
		again, err := Encode(ring)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(again)
		if err != nil || len(back.Keys) != len(ring.Keys) || back.Secret != ring.Secret {
			t.Fatalf("%v", err)
		}
		turned, _, next := Rotate(ring, now, Policy{})
		if !next.After(now.Add(-time.Second)) || turned.Secret != ring.Secret {
			t.Fatalf("next %s", next)
		}
		if err := turned.check(); err != nil {
			t.Fatal(err)
		}
	})
}
