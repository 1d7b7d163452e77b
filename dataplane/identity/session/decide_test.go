package session

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/caly-dev/caly/internal/refreshtoken"
	"github.com/caly-dev/caly/internal/store"
)

const (
	tenant = "acme/support"
	id     = "00112233-4455-4677-8899-aabbccddeeff"
)

var (
	key   = bytes.Repeat([]byte{7}, refreshtoken.KeySize)
	start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
)

func tokenOf(t testing.TB, tenant, id string, generation int64, key []byte) refreshtoken.Token {
	t.Helper()
	tok, err := refreshtoken.Parse(refreshtoken.New(tenant, id, generation, key))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// state is that of a session in its fifth generation, which was rotated after seconds before now.
func state(ago time.Duration) store.RefreshState {
	return store.RefreshState{
		Session:   store.LoginSession{ID: id, LastSeenAt: start, ExpiresAt: start.Add(time.Hour)},
		Key:       key,
		Counter:   5,
		RotatedAt: start.Add(-ago),
		Now:       start,
	}
}

func TestDecide(t *testing.T) {
	const idle = 30 * time.Minute
	with := func(ago time.Duration, change func(*store.RefreshState)) store.RefreshState {
		st := state(ago)
		change(&st)
		return st
	}
	seenBefore := func(d time.Duration) store.RefreshState {
		return with(time.Hour, func(st *store.RefreshState) { st.Session.LastSeenAt = start.Add(-d) })
	}
	for name, tc := range map[string]struct {
		generation int64
		state      store.RefreshState
		want       store.Rotation
	}{
		"current":                                     {5, state(time.Hour), store.RotateAdvance},
		"current, rotated just now":                   {5, state(0), store.RotateAdvance},
		"one behind, at once":                         {4, state(0), store.RotateKeep},
		"one behind, at the interval's end":           {4, state(ReuseInterval), store.RotateKeep},
		"one behind, before it (the clock went back)": {4, state(-time.Second), store.RotateKeep},
		"one behind, after it":                        {4, state(ReuseInterval + 1), store.RotateRecover},
		"one behind, as late as may be":               {4, state(RecoveryInterval), store.RotateRecover},
		"one behind, too late":                        {4, state(RecoveryInterval + 1), store.RotateEnd},
		"one behind, a week later":                    {4, state(7 * 24 * time.Hour), store.RotateEnd},
		"current, a week later":                       {5, state(7 * 24 * time.Hour), store.RotateAdvance},
		"after it, recovered two ago": {
			4,
			with(time.Hour, func(st *store.RefreshState) { st.Recovered = 3 }),
			store.RotateRecover,
		},
		"after it, recovered one ago": {
			4,
			with(time.Hour, func(st *store.RefreshState) { st.Recovered = 4 }),
			store.RotateEnd,
		},
		"after it, recovered already": {
			4,
			with(time.Hour, func(st *store.RefreshState) { st.Recovered = 5 }),
			store.RotateEnd,
		},
		"within it, recovered already": {
			4,
			with(time.Second, func(st *store.RefreshState) { st.Recovered = 5 }),
			store.RotateKeep,
		},
		"two behind, at once": {3, state(0), store.RotateEnd},
		"the first":           {1, state(time.Hour), store.RotateEnd},
		"ahead":               {6, state(time.Hour), store.RotateEnd},
		"ended":               {5, with(0, func(st *store.RefreshState) { st.Ended = true }), store.RotateRefuse},
		"ended, reused":       {1, with(0, func(st *store.RefreshState) { st.Ended = true }), store.RotateRefuse},
		"taken back":          {5, with(0, func(st *store.RefreshState) { st.Blacklisted = true }), store.RotateRefuse},
		"disabled": {
			5,
			with(0, func(st *store.RefreshState) { st.User.DisabledAt = start }),
			store.RotateRefuse,
		},
		"expired": {
			5,
			with(0, func(st *store.RefreshState) { st.Session.ExpiresAt = start }),
			store.RotateRefuse,
		},
		"about to expire": {
			5,
			with(0, func(st *store.RefreshState) { st.Session.ExpiresAt = start.Add(1) }),
			store.RotateAdvance,
		},
		"idle":             {5, seenBefore(idle), store.RotateRefuse},
		"about to be idle": {5, seenBefore(idle - 1), store.RotateAdvance},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Decide(tenant, tokenOf(t, tenant, id, tc.generation, key), tc.state, idle); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

// TestForgedTokenEndsNothing checks that a client that knows only a session's id can neither refresh nor end the
// session. The id is not a secret.
func TestForgedTokenEndsNothing(t *testing.T) {
	other := bytes.Repeat([]byte{8}, refreshtoken.KeySize)
	for name, tok := range map[string]refreshtoken.Token{
		"another key":               tokenOf(t, tenant, id, 5, other),
		"another key, old":          tokenOf(t, tenant, id, 1, other),
		"another tenant":            tokenOf(t, "globex/sales", id, 5, key),
		"another session, this key": tokenOf(t, tenant, "ffffffff-4455-4677-8899-aabbccddeeff", 1, key),
	} {
		st := state(0)
		if name == "another session, this key" {
			tok.SessionID = id
		}
		if got := Decide(tenant, tok, st, DefaultIdle); got != store.RotateRefuse {
			t.Errorf("%s: %v, want RotateRefuse", name, got)
		}
	}
}

// model remembers everything and decides by it: which tokens were given, when, and which generations were given again late.
type model struct {
	given     []time.Time // of each generation, the last time that it counts as given
	recovered []int       // generations, in their order
	ended     bool
}

func (m *model) current() int { return len(m.given) }

// use says what a token of the generation must lead to, and takes it.
func (m *model) use(generation int, now time.Time) store.Rotation {
	current := m.current()
	switch {
	case m.ended:
		return store.RotateRefuse
	case generation == current:
		m.given = append(m.given, now)
		return store.RotateAdvance
	case generation < current-1:
		m.ended = true
		return store.RotateEnd
	case now.Sub(m.given[current-1]) <= ReuseInterval:
		return store.RotateKeep
	case now.Sub(m.given[current-1]) > RecoveryInterval:
		m.ended = true
		return store.RotateEnd
	case slices.Contains(m.recovered, current) || slices.Contains(m.recovered, current-1):
		m.ended = true
		return store.RotateEnd
	}
	m.recovered = append(m.recovered, current)
	m.given[current-1] = now
	return store.RotateRecover
}

// TestDecideAgreesWithTheModel verifies that Decide equals a model that remembers all refreshes, over any history of
// them.
func TestDecideAgreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := start
		m := model{given: []time.Time{now}}
		st := store.RefreshState{
			Session:   store.LoginSession{ID: id, ExpiresAt: start.Add(1 << 62)},
			Key:       key,
			Counter:   1,
			RotatedAt: now,
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			seconds := rapid.SampledFrom([]int{0, 1, 9, 10, 11, 60, 3599, 3600, 3601}).Draw(t, "seconds")
			now = now.Add(time.Duration(seconds) * time.Second)
			behind := rapid.SampledFrom([]int{0, 0, 0, 1, 1, 1, 2, 5}).Draw(t, "behind")
			generation := max(m.current()-behind, 1)
			st.Now = now
			st.Session.LastSeenAt = now
			raw := refreshtoken.New(tenant, id, int64(generation), key)
			tok, err := refreshtoken.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			got := Decide(tenant, tok, st, DefaultIdle)
			want := m.use(generation, now)
			if got != want {
				t.Fatalf("generation %d of %d: %v, want %v", generation, m.current(), got, want)
			}
			apply(&st, got)
		}
	})
}

// apply is what the store does to a row.
func apply(st *store.RefreshState, r store.Rotation) {
	switch r {
	case store.RotateAdvance:
		st.Counter++
		st.RotatedAt = st.Now
	case store.RotateRecover:
		st.Recovered = st.Counter
		st.RotatedAt = st.Now
	case store.RotateEnd:
		st.Ended = true
	}
}

// TestThiefAndOwnerEnd checks that a session ends soon when two clients keep using its token, in either order.
func TestThiefAndOwnerEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := store.RefreshState{
			Session:   store.LoginSession{ID: id, ExpiresAt: start.Add(1 << 62)},
			Key:       key,
			Counter:   1,
			RotatedAt: start,
			Now:       start,
		}
		holds := [2]int64{1, 1}
		for turn := range 8 {
			st.Now = st.Now.Add(ReuseInterval + time.Duration(rapid.IntRange(1, 3600).Draw(t, "pause"))*time.Second)
			st.Session.LastSeenAt = st.Now
			tok, err := refreshtoken.Parse(refreshtoken.New(tenant, id, holds[turn%2], key))
			if err != nil {
				t.Fatal(err)
			}
			rotation := Decide(tenant, tok, st, DefaultIdle)
			apply(&st, rotation)
			if rotation == store.RotateEnd {
				return
			}
			holds[turn%2] = st.Counter
		}
		t.Fatal("both still hold a good token after eight turns")
	})
}
