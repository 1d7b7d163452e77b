package keyring

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// plan is what a ring's keys do, in hours from epoch.
func plan(r *Ring) string {
	var b strings.Builder
	for _, k := range r.Keys {
		fmt.Fprintf(&b, "%.2f-", k.SignsFrom.Sub(epoch).Hours())
		if !k.VerifiesUntil.IsZero() {
			fmt.Fprintf(&b, "%.2f", k.VerifiesUntil.Sub(epoch).Hours())
		}
		b.WriteByte(' ')
	}
	return strings.TrimSpace(b.String())
}

func TestRotate(t *testing.T) {
	const year = 365 * day
	// Rotate is asked at these times, one after the other, from no ring on.
	for name, tc := range map[string]struct {
		policy   Policy
		at       []time.Duration
		want     string
		wantNext time.Duration
	}{
		"the first key signs at once": {at: []time.Duration{0}, want: "0.00-", wantNext: 30*day - 15*time.Minute},
		"nothing to do": {
			at:       []time.Duration{0, 30*day - 16*time.Minute},
			want:     "0.00-",
			wantNext: 30*day - 15*time.Minute,
		},
		"the next is published ahead": {
			at:       []time.Duration{0, 30*day - 15*time.Minute},
			want:     "0.00-722.00 720.00-",
			wantNext: 60*day - 15*time.Minute,
		},
		"and it is published once": {
			at:       []time.Duration{0, 30*day - 15*time.Minute, 30*day - 14*time.Minute},
			want:     "0.00-722.00 720.00-",
			wantNext: 60*day - 15*time.Minute,
		},
		"late, and still published ahead": {
			at:       []time.Duration{0, 40 * day},
			want:     "0.00-962.25 960.25-",
			wantNext: 70 * day,
		},
		"what verifies no longer goes": {
			at:       []time.Duration{0, 30 * day, 60 * day, 91 * day, 91*day + time.Hour},
			want:     "720.25-1442.25 1440.25-2186.25 2184.25-",
			wantNext: 121 * day,
		},
		"another policy": {
			policy:   Policy{Period: 10 * time.Hour, Lead: time.Hour, Overlap: 2 * time.Hour},
			at:       []time.Duration{0, 9 * time.Hour, 19 * time.Hour},
			want:     "0.00-12.00 10.00-22.00 20.00-",
			wantNext: 29 * time.Hour,
		},
		"a clock that is behind": {at: []time.Duration{0, -year}, want: "0.00-", wantNext: 30*day - 15*time.Minute},
		"a clock that is behind, with a key to come": {
			at:       []time.Duration{0, 30*day - 15*time.Minute, -year, 29 * day},
			want:     "0.00-722.00 720.00-",
			wantNext: 60*day - 15*time.Minute,
		},
		"a clock that is ahead": {at: []time.Duration{0, year}, want: "0.00-8762.25 8760.25-", wantNext: 395 * day},
		"a clock that was ahead": {
			at:       []time.Duration{0, year, year + day, time.Hour},
			want:     "0.00-8762.25 720.00-",
			wantNext: 60*day - 15*time.Minute,
		},
		"a clock that was further and further": {
			at:       []time.Duration{0, year, 2 * year, time.Hour},
			want:     "0.00-8762.25 720.00-17522.25 1440.00-",
			wantNext: 90*day - 15*time.Minute,
		},
		"a clock that was ahead, found late": {
			at:       []time.Duration{0, year, 40 * day},
			want:     "0.00-8762.25 960.25-",
			wantNext: 70 * day,
		},
		"a clock that was a little ahead is let be": {
			at:       []time.Duration{0, 35 * day, 6 * day},
			want:     "0.00-842.25 840.25-",
			wantNext: 65 * day,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var r *Ring
			var next time.Time
			for _, at := range tc.at {
				r, _, next = Rotate(r, epoch.Add(at), tc.policy)
				if err := r.check(); err != nil {
					t.Fatal(err)
				}
			}
			if got := plan(r); got != tc.want || !next.Equal(epoch.Add(tc.wantNext)) {
				t.Errorf("keys %s, next after %s; want %s, %s", got, next.Sub(epoch), tc.want, tc.wantNext)
			}
		})
	}
}

func TestRotateLeavesItsInputAlone(t *testing.T) {
	ring, _, _ := Rotate(nil, epoch, Policy{})
	before := &Ring{Version: ring.Version, Secret: ring.Secret, Keys: slices.Clone(ring.Keys)}
	out, changed, _ := Rotate(ring, epoch.Add(400*day), Policy{})
	if !changed || len(out.Keys) != 2 || out.Secret != ring.Secret {
		t.Errorf("changed %v, %d keys, the same secret: %v", changed, len(out.Keys), out.Secret == ring.Secret)
	}
	if d := cmp.Diff(before, ring); d != "" {
		t.Errorf("the ring that was given (-want +got):\n%s", d)
	}
	if same, changed, _ := Rotate(ring, epoch.Add(day), Policy{}); changed || cmp.Diff(ring, same) != "" {
		t.Error("it is changed without a reason")
	}
}

func TestPolicyCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		policy Policy
		want   string // part of the error; none without
	}{
		"defaults":            {},
		"no lead":             {Policy{Lead: -1}, "published"},
		"no overlap":          {Policy{Overlap: time.Millisecond}, "verify"},
		"shorter than itself": {Policy{Period: 4 * time.Hour}, "twice"},
		"for ever":            {Policy{Period: 100 * 365 * day}, "ten years"},
		"as short as may be":  {Policy{Period: 12 * time.Second, Lead: 2 * time.Second, Overlap: 4 * time.Second}, ""},
	} {
		err := tc.policy.Check()
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// minted is a token, as far as keys go.
type minted struct {
	key     string
	expires time.Time
}

// TestRotationLosesNoToken verifies that a token is valid on each pod until it expires, over years of operation. The
// operator rotates at irregular times, is down at times, or has a clock that jumps.
func TestRotationLosesNoToken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := epoch
		ring, _, _ := Rotate(nil, now, Policy{})
		secret := ring.Secret
		skew := func() time.Duration { return time.Duration(rapid.IntRange(-30, 30).Draw(t, "skew")) * time.Second }
		var tokens []minted
		var trusted time.Time // until when the clock does not jump ahead again: what it made must have taken over
		turn := func(at time.Time) {
			next, changed, _ := Rotate(ring, at, Policy{})
			if !changed {
				return
			}
			if err := next.check(); err != nil || next.Secret != secret {
				t.Fatalf("ring %s at %s: %v", plan(next), at, err)
			}
			ring = next
		}
		t.Repeat(map[string]func(*rapid.T){
			"mint": func(t *rapid.T) {
				at := now.Add(skew())
				k, ok := ring.Signing(at)
				if !ok || slices.IndexFunc(ring.Verifying(at), func(v Key) bool { return v.ID == k.ID }) < 0 {
					t.Fatalf("the key that signs at %s does not verify: %s", at.Sub(epoch), plan(ring))
				}
				tokens = append(tokens, minted{k.ID, at.Add(time.Hour)})
			},
			"time passes": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 3600).Draw(t, "seconds")) * time.Second)
				turn(now)
			},
			"days pass": func(t *rapid.T) {
				for range rapid.IntRange(1, 50).Draw(t, "days") {
					now = now.Add(day)
					turn(now)
				}
			},
			"the operator is away": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 100).Draw(t, "days")) * day)
				turn(now)
			},
			"the clock jumps back": func(t *rapid.T) {
				at := now.Add(-time.Duration(rapid.IntRange(1, 400*24).Draw(t, "hours")) * time.Hour)
				if next, _, _ := Rotate(
					ring, at, Policy{},
				); next.Keys[len(next.Keys)-1].ID != ring.Keys[len(ring.Keys)-1].ID {
					t.Skip("a key falls due under it: the one case with a loss")
				}
				if _, changed, _ := Rotate(ring, at, Policy{}); changed {
					trusted = now.Add(3 * DefaultPeriod)
				}
				turn(at)
			},
			"the clock jumps ahead": func(t *rapid.T) {
				if now.Before(trusted) {
					t.Skip("one at a time")
				}
				ahead := time.Duration(rapid.IntRange(1, 400*24).Draw(t, "hours")) * time.Hour
				for h := range rapid.IntRange(1, 100).Draw(t, "for hours") {
					turn(now.Add(ahead + time.Duration(h)*time.Hour))
				}
				turn(now)
				trusted = now.Add(3 * DefaultPeriod)
			},
			"": func(t *rapid.T) {
				tokens = slices.DeleteFunc(tokens, func(m minted) bool { return !m.expires.After(now) })
				for _, m := range tokens {
					at := now.Add(skew())
					if m.expires.After(at) &&
						slices.IndexFunc(ring.Verifying(at), func(v Key) bool { return v.ID == m.key }) < 0 {
						t.Fatalf(
							"a token that lives until %s does not verify at %s: %s",
							m.expires.Sub(epoch),
							at.Sub(epoch),
							plan(ring),
						)
					}
				}
			},
		})
	})
}

// TestPublishedAhead verifies that a new key is published for at least the lead before it signs. A client may cache the
// public keys for that time.
func TestPublishedAhead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ring, _, _ := Rotate(nil, epoch, Policy{})
		published := map[string]time.Time{}
		now := epoch
		for range 200 {
			for _, k := range ring.Verifying(now) {
				if _, ok := published[k.ID]; !ok {
					published[k.ID] = now
				}
			}
			k, _ := ring.Signing(now)
			if since := now.Sub(published[k.ID]); k.ID != ring.Keys[0].ID && since < DefaultLead {
				t.Fatalf("a key signs %s after it was published", since)
			}
			now = now.Add(time.Duration(rapid.IntRange(1, 20*24*60).Draw(t, "minutes")) * time.Minute)
			ring, _, _ = Rotate(ring, now, Policy{})
		}
	})
}
