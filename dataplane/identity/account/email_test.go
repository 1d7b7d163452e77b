package account

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/store"
)

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
	a, stored := store.NewResetToken(time.Hour)
	b, _ := store.NewResetToken(time.Hour)
	if a == b || len(a) != 43 || !bytes.Equal(stored.Hash, resetHash(a)) || bytes.Contains(stored.Hash, []byte(a)) ||
		stored.Lifetime != time.Hour {
		t.Errorf("tokens of %d and %d characters", len(a), len(b))
	}
}
