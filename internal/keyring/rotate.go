package keyring

import (
	"errors"
	"slices"
	"time"
)

// Policy of rotation. Zero fields are the defaults.
type Policy struct {
	// Period is how long a key signs; default 30 days.
	Period time.Duration
	// Lead is how long a key is published before it signs: longer than anybody keeps a copy of the public keys; default 15 minutes.
	Lead time.Duration
	// Overlap is how long a key verifies after the next one took over: the longest life of a token and the skew of clocks; default 2 hours.
	Overlap time.Duration
}

// Defaults of Policy.
const (
	DefaultPeriod  = 30 * 24 * time.Hour
	DefaultLead    = 15 * time.Minute
	DefaultOverlap = 2 * time.Hour
)

// kept is how many keys stay, though the first of them verifies no longer: had the clock been wrong that said so, it would still sign
// elsewhere.
const kept = 3

// WithDefaults fills in what is zero.
func (p Policy) WithDefaults() Policy {
	if p.Period == 0 {
		p.Period = DefaultPeriod
	}
	if p.Lead == 0 {
		p.Lead = DefaultLead
	}
	if p.Overlap == 0 {
		p.Overlap = DefaultOverlap
	}
	return p
}

// Check returns why the policy cannot be used.
func (p Policy) Check() error {
	p = p.WithDefaults()
	switch {
	case p.Lead < time.Second:
		return errors.New("a key must be published at least a second before it signs")
	case p.Overlap < time.Second:
		return errors.New("a key must verify for at least a second after the next one took over")
	case p.Period < 2*(p.Lead+p.Overlap) || p.Period > 10*365*24*time.Hour:
		return errors.New(
			"a key must sign for at least twice the lead and the overlap together, and for at most ten years",
		)
	}
	return nil
}

// Rotate returns the ring as it should be now, whether that is another than r, and when to look again. A nil ring becomes a new one.
// It never changes r, nor the secret. The policy must be one that Check accepts.
//
// The clock may be wrong for a while. One that is behind makes nothing happen, as a rule: only where the next key falls due under it,
// and it is behind by more than the overlap, tokens die that the last key signed within the hour, and are refreshed. One that is ahead
// makes a key that signs in the future, and the one before it goes on until then; once the clock is right again that future is brought
// near. Which of the two it was cannot be told afterwards, so no key is ever cut short.
func Rotate(r *Ring, now time.Time, p Policy) (ring *Ring, changed bool, next time.Time) {
	p, now = p.WithDefaults(), now.UTC().Truncate(time.Second)
	if r == nil {
		r = New(now)
		changed = true
	}
	out := &Ring{Version: r.Version, Secret: r.Secret, Keys: slices.Clone(r.Keys)}
	changed = out.bringNear(now, p) || changed
	changed = out.addNext(now, p) || changed
	changed = out.drop(now) || changed
	return out, changed, out.nextChange(now, p)
}

// bringNear corrects keys that would sign later than any plan has them: the clock was ahead when they were made. The
// keys before them verify for as long as they would have, or until there are too many.
func (r *Ring) bringNear(now time.Time, p Policy) (changed bool) {
	for i := 1; i < len(r.Keys); i++ {
		before := &r.Keys[i-1]
		k := &r.Keys[i]
		if now.Before(before.SignsFrom) && !changed {
			continue // this clock is behind, or that key's turn is to come: nothing to judge by
		}
		latest := later(now, before.SignsFrom).Add(p.Period + p.Lead)
		if !k.SignsFrom.After(latest) {
			continue
		}
		k.SignsFrom = later(before.SignsFrom.Add(p.Period), now.Add(p.Lead))
		changed = true
	}
	return changed
}

// addNext publishes the next key once that is due.
func (r *Ring) addNext(now time.Time, p Policy) bool {
	last := &r.Keys[len(r.Keys)-1]
	if now.Before(last.SignsFrom.Add(p.Period - p.Lead)) {
		return false
	}
	k := newKey(now, later(last.SignsFrom.Add(p.Period), now.Add(p.Lead)))
	last.VerifiesUntil = k.SignsFrom.Add(p.Overlap)
	r.Keys = append(r.Keys, k)
	return true
}

// drop removes keys that verify no longer, from the first on.
func (r *Ring) drop(now time.Time) bool {
	n := 0
	for len(r.Keys)-n > kept && r.Keys[n].VerifiesUntil.Before(now) {
		n++
	}
	n = max(n, len(r.Keys)-maxKeys)
	r.Keys = r.Keys[n:]
	return n > 0
}

// nextChange is when Rotate will have something to do, if the clock is right.
func (r *Ring) nextChange(now time.Time, p Policy) time.Time {
	next := r.Keys[len(r.Keys)-1].SignsFrom.Add(p.Period - p.Lead)
	if len(r.Keys) > kept && r.Keys[0].VerifiesUntil.Before(next) {
		next = r.Keys[0].VerifiesUntil.Add(time.Second)
	}
	return later(next, now.Add(time.Second))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
