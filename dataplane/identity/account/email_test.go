package account

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/mail"
)

func TestNormalizeEmail(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"as it is":             {"jane@acme.example", "jane@acme.example"},
		"capitals and spaces":  {"\t Jane.Doe@ACME.Example \n", "jane.doe@acme.example"},
		"tag and signs":        {"o'neil+x=y@a-b.example", "o'neil+x=y@a-b.example"},
		"IDN in its xn-- form": {"jane@xn--bcher-kva.example", "jane@xn--bcher-kva.example"},
		"longest local part":   {strings.Repeat("a", 64) + "@a.example", strings.Repeat("a", 64) + "@a.example"},
		"local part too long":  {strings.Repeat("a", 65) + "@a.example", ""},
		"too long":             {"a@" + strings.Repeat("a.", 130) + "example", ""},
		"label too long":       {"a@" + strings.Repeat("a", 64) + ".example", ""},
		"empty":                {"", ""},
		"no at":                {"jane.acme.example", ""},
		"two ats":              {"jane@acme@acme.example", ""},
		"no local part":        {"@acme.example", ""},
		"no domain":            {"jane@", ""},
		"one label":            {"jane@localhost", ""},
		"address":              {"jane@192.0.2.1.", ""},
		"address in brackets":  {"jane@[192.0.2.1]", ""},
		"dot at its end":       {"jane.@acme.example", ""},
		"dot first":            {".jane@acme.example", ""},
		"two dots":             {"jane..doe@acme.example", ""},
		"domain's dot":         {"jane@acme.example.", ""},
		"domain's dash":        {"jane@-acme.example", ""},
		"with a name":          {"Jane <jane@acme.example>", ""},
		"quoted":               {`"jane doe"@acme.example`, ""},
		"comment":              {"jane(x)@acme.example", ""},
		"two of them":          {"jane@acme.example,joe@acme.example", ""},
		"line break, header":   {"jane@acme.example\r\nBcc: joe@acme.example", ""},
		"NUL":                  {"jane\x00@acme.example", ""},
		"beyond ASCII":         {"jané@acme.example", ""},
		"domain beyond ASCII":  {"jane@bücher.example", ""},
		"Kelvin sign, not a k": {"mi\u212ae@acme.example", ""},
		"right-to-left":        {"jane\u202e@acme.example", ""},
		"no-break space":       {"jane@acme.example\u00a0", "jane@acme.example"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := NormalizeEmail(tc.in)
			if got != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("%q, %v; want %q", got, err, tc.want)
			}
			if err != nil && tc.in != "" && strings.Contains(err.Error(), tc.in) {
				t.Error("the error quotes it")
			}
		})
	}
}

// FuzzNormalizeEmail verifies that an accepted address is its own normal form and a valid recipient of mail.
func FuzzNormalizeEmail(f *testing.F) {
	for _, s := range []string{
		"jane@acme.example", " JANE@ACME.EXAMPLE ", "a@b", "\"x\"@y.z", "a@b.c\r\nBcc: d@e.f",
		"mi\u212ae@acme.example",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		email, err := NormalizeEmail(s)
		if err != nil {
			return
		}
		if again, err := NormalizeEmail(email); err != nil || again != email {
			t.Fatalf("%q becomes %q, and that %q (%v)", s, email, again, err)
		}
		if err := mail.CheckAddress(email); err != nil {
			t.Fatalf("%q: %v", email, err)
		}
	})
}

func TestDomainAllowed(t *testing.T) {
	for name, tc := range map[string]struct {
		domains []string
		want    bool
	}{
		"any":            {nil, true},
		"the one":        {[]string{"other.example", "acme.example"}, true},
		"the one above":  {[]string{"example"}, false},
		"the one's end":  {[]string{"me.example"}, false},
		"the local part": {[]string{"jane"}, false},
	} {
		if got := domainAllowed("jane@acme.example", tc.domains); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestAddressKey(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7":           "192.0.2.7",
		"::ffff:192.0.2.7":    "192.0.2.7",
		"2001:db8:1:2:3::4":   "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::": "2001:db8:1:2::/64",
		"fe80::1%eth0":        "fe80::/64",
	} {
		if got := addressKey(netip.MustParseAddr(in)); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	if got := addressKey(netip.Addr{}); got == "" {
		t.Error("an address that is not known has an empty key")
	}
}

// TestCodes verifies that codes have six digits and are spread evenly. A hash is bound to its tenant, email and key.
func TestCodes(t *testing.T) {
	var first [10]int
	for range 5000 {
		code := newCode()
		if len(code) != codeDigits || strings.Trim(code, "0123456789") != "" {
			t.Fatalf("code %q", code)
		}
		first[code[0]-'0']++
	}
	for digit, n := range first {
		if n < 350 || n > 650 { // 500 expected; beyond seven standard deviations
			t.Errorf("%d of 5000 codes begin with %d", n, digit)
		}
	}
	ring := keyring.New(time.Now())
	base := codeHash(ring, "acme/support", "jane@acme.example", "123456")
	for name, other := range map[string][]byte{
		"code":   codeHash(ring, "acme/support", "jane@acme.example", "123457"),
		"email":  codeHash(ring, "acme/support", "joe@acme.example", "123456"),
		"tenant": codeHash(ring, "globex/sales", "jane@acme.example", "123456"),
		"key":    codeHash(keyring.New(time.Now()), "acme/support", "jane@acme.example", "123456"),
	} {
		if bytes.Equal(base, other) {
			t.Errorf("another %s has the same hash", name)
		}
	}
}

func TestResetTokens(t *testing.T) {
	a, stored := newResetToken(time.Hour)
	b, _ := newResetToken(time.Hour)
	if a == b || len(a) != 43 || !bytes.Equal(stored.Hash, resetHash(a)) || bytes.Contains(stored.Hash, []byte(a)) ||
		stored.Lifetime != time.Hour {
		t.Errorf("tokens of %d and %d characters", len(a), len(b))
	}
}
