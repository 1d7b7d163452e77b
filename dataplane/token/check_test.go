package token

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/keyring"
)

func TestMintAndCheck(t *testing.T) {
	rig := newService(t)
	want := rig.claims()
	want.ExpiresAt = want.ExpiresAt.Add(time.Millisecond)
	raw, err := rig.Mint(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, round := range []string{"verified", "remembered"} {
		got, err := rig.Check(raw)
		if err != nil {
			t.Fatalf("%s: %v", round, err)
		}
		if got.ID == "" {
			t.Error("it has no id")
		}
		want.ID, want.ExpiresAt = got.ID, want.ExpiresAt.Truncate(time.Second)
		if d := cmp.Diff(&want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", round, d)
		}
	}
	if rig.cache.len() != 1 {
		t.Errorf("%d tokens are remembered", rig.cache.len())
	}
	if other := rig.mint(t); other == raw {
		t.Error("two tokens are the same")
	}
}

// TestWhatATokenSays verifies the header and the claims of a token without our own parser. Their names and values are
// those of RFC 7519 and RFC 9068.
func TestWhatATokenSays(t *testing.T) {
	rig := newService(t)
	raw := rig.mint(t, func(c *Claims) { c.ID = "the-id" })
	parts := strings.Split(raw, ".")
	var header, body map[string]any
	for i, v := range []*map[string]any{&header, &body} {
		if err := json.Unmarshal(unb64(t, parts[i]), v); err != nil {
			t.Fatal(err)
		}
	}
	wantHeader := map[string]any{"alg": "EdDSA", "typ": "at+jwt", "kid": rig.ring.Load().Keys[0].ID}
	claims := rig.claims()
	at := float64(claims.IssuedAt.UnixMicro()) / 1e6
	wantBody := map[string]any{
		"iss":    issuer,
		"aud":    audience,
		"sub":    user1,
		"sid":    session1,
		"tenant": acme,
		"tuid":   claims.TenantUID,
		"role":   "agent",
		"jti":    "the-id",
		"iat":    at,
		"nbf":    math.Floor(at),
		"exp":    math.Floor(at) + 900,
	}
	if d := cmp.Diff([]any{wantHeader, wantBody}, []any{header, body}); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestMintRefuses(t *testing.T) {
	rig := newService(t)
	for name, change := range map[string]func(*Claims){
		"no tenant":                   func(c *Claims) { c.Tenant = "" },
		"no tenant's UID":             func(c *Claims) { c.TenantUID = "" },
		"no user":                     func(c *Claims) { c.UserID = "" },
		"no session":                  func(c *Claims) { c.SessionID = "" },
		"no role":                     func(c *Claims) { c.Role = "" },
		"no end":                      func(c *Claims) { c.ExpiresAt = time.Time{} },
		"an end before its beginning": func(c *Claims) { c.ExpiresAt = c.IssuedAt },
		"too long a life":             func(c *Claims) { c.ExpiresAt = c.IssuedAt.Add(MaxLifetime + 1) },
		"too long":                    func(c *Claims) { c.Role = strings.Repeat("x", maxToken) },
	} {
		claims := rig.claims()
		change(&claims)
		if raw, err := rig.Mint(claims); err == nil || raw != "" && name != "too long" {
			t.Errorf("%s: was minted", name)
		}
	}
	rig.ring.Store(nil)
	if _, err := rig.Mint(rig.claims()); err != ErrNotReady { //nolint:errorlint // the very value
		t.Errorf("without keys: %v", err)
	}
}

func TestTimes(t *testing.T) {
	for name, tc := range map[string]struct {
		issued time.Duration // from now
		life   time.Duration
		pass   time.Duration // between the two checks
		want   [2]Reason     // at first, and then
	}{
		"just issued":           {life: time.Minute},
		"a life of an hour":     {life: MaxLifetime, pass: 59 * time.Minute},
		"ends while remembered": {life: time.Minute, pass: time.Minute, want: [2]Reason{"", reasonExpired}},
		"ends to the second":    {life: time.Minute, pass: time.Minute - time.Second, want: [2]Reason{"", ""}},
		"ended: no grace": {
			issued: -time.Minute,
			life:   time.Minute,
			want:   [2]Reason{reasonExpired, reasonExpired},
		},
		"issued by a clock ahead": {issued: Skew, life: time.Minute},
		"issued in the future": {
			issued: Skew + time.Microsecond,
			life:   time.Minute,
			pass:   time.Millisecond,
			want:   [2]Reason{reasonNotYetValid, ""},
		},
		"issued far in the future": {
			issued: 24 * time.Hour,
			life:   time.Minute,
			want:   [2]Reason{reasonNotYetValid, reasonNotYetValid},
		},
		"issued and ended long ago": {
			issued: -24 * time.Hour,
			life:   time.Minute,
			want:   [2]Reason{reasonExpired, reasonExpired},
		},
		"a clock that jumped a year": {
			life: time.Minute,
			pass: 365 * 24 * time.Hour,
			want: [2]Reason{"", reasonExpired},
		},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newService(t)
			raw := rig.mint(t, func(c *Claims) {
				c.IssuedAt = c.IssuedAt.Add(tc.issued)
				c.ExpiresAt = c.IssuedAt.Add(tc.life)
			})
			rig.wantReason(t, raw, tc.want[0])
			rig.clock.pass(tc.pass)
			rig.wantReason(t, raw, tc.want[1])
			if n := rig.cache.len(); (tc.want[1] == "") != (n == 1) {
				t.Errorf("%d tokens are remembered", n)
			}
		})
	}
}

// TestRotation verifies that a token stays valid after its key stopped signing, until the key stops verifying.
func TestRotation(t *testing.T) {
	rig := newService(t)
	first := rig.mint(t)
	rig.wantReason(t, first, "")
	next, _, _ := keyring.Rotate(rig.ring.Load(), rig.clock.now().Add(30*24*time.Hour), keyring.Policy{})
	rig.ring.Store(next)
	rig.wantReason(t, first, "")
	rig.clock.pass(30*24*time.Hour + 16*time.Minute) // the second has taken over
	before := rig.mint(t)
	if kid, err := readHeader(before); err != nil || kid != next.Keys[1].ID {
		t.Errorf("signed by %s, %v", kid, err)
	}
	late, err := mintBy(rig, next.Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	rig.wantReason(t, late, "")
	rig.wantReason(t, before, "")
	rig.clock.pass(2 * time.Hour) // the first verifies no more
	again, err := mintBy(rig, next.Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	rig.wantReason(t, again, reasonUnknownKey)
}

// mintBy signs with one key, whosever turn it is.
func mintBy(r *service, k keyring.Key) (string, error) {
	k.VerifiesUntil = time.Time{}
	one := New(Options{
		Issuer:   issuer,
		Audience: audience,
		Now:      r.clock.now,
		Ring:     func() *keyring.Ring { return &keyring.Ring{Keys: []keyring.Key{k}} },
	})
	return one.Mint(r.claims())
}

// TestKeyThatEnds verifies that a key's end also ends tokens that are remembered.
func TestKeyThatEnds(t *testing.T) {
	rig := newService(t)
	ring := *rig.ring.Load()
	k := ring.Keys[0]
	k.VerifiesUntil = rig.clock.now().Add(time.Minute)
	ring.Keys = []keyring.Key{k}
	rig.ring.Store(&ring)
	raw := rig.mint(t)
	rig.wantReason(t, raw, "")
	rig.clock.pass(time.Minute)
	rig.wantReason(t, raw, reasonUnknownKey)
}

// TestRingThatIsReplaced verifies that no token of a replaced ring is valid, also if it is remembered. An operator
// replaces the Secret after a key has leaked.
func TestRingThatIsReplaced(t *testing.T) {
	rig := newService(t)
	raw := rig.mint(t)
	rig.wantReason(t, raw, "")
	old := rig.ring.Swap(keyring.New(rig.clock.now()))
	rig.wantReason(t, raw, reasonUnknownKey)
	rig.wantReason(t, rig.mint(t), "")
	// A key with a known id is not the known key.
	forged := keyring.New(rig.clock.now())
	forged.Keys[0].ID = old.Keys[0].ID
	rig.ring.Store(forged)
	rig.wantReason(t, raw, reasonSignature)
}

func TestReady(t *testing.T) {
	rig := newService(t)
	if err := rig.Ready(); err != nil {
		t.Error(err)
	}
	raw := rig.mint(t)
	rig.ring.Store(nil)
	if err := rig.Ready(); err == nil {
		t.Error("it is ready without keys")
	}
	rig.wantReason(t, raw, Reason(ErrNotReady.Error()))
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	rig := newService(t, func(o *Options) { o.Metrics = reg })
	raw := rig.mint(t)
	for _, s := range []string{raw, raw, "", raw + "x", strings.Replace(raw, ".", "..", 1)} {
		_, _ = rig.Check(s)
	}
	rig.clock.pass(time.Hour)
	_, _ = rig.Check(raw)
	rig.ring.Store(nil)
	_, _ = rig.Check(raw)
	want := map[string]float64{resultValid: 2, resultNotReady: 1}
	for _, reason := range Reasons() {
		want[string(reason)] = 0
	}
	want[string(reasonMalformed)], want[string(reasonExpired)] = 3, 1
	if d := cmp.Diff(want, values(t, reg, "caly_auth_token_checks_total")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// values of a metric's series by their one label, "" without.
func values(t *testing.T, reg *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != name {
				continue
			}
			label := ""
			if l := m.GetLabel(); len(l) > 0 {
				label = l[0].GetValue()
			}
			got[label] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return got
}
