package token

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/metric"
	"github.com/caly-dev/caly/internal/store"
)

// fakeStore is the database with a clock that the test moves. The real one has tests of its own, in postgres_test.go.
type fakeStore struct {
	mu      sync.Mutex
	clock   *clock
	rows    []store.Revocation
	err     error
	reads   int
	widest  time.Duration
	tenants []string
}

func newFakeStore() *fakeStore { return &fakeStore{clock: newClock()} }

func (f *fakeStore) add(rows ...store.Revocation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range rows {
		if v.ID = int64(len(f.rows) + 1); v.At.IsZero() {
			v.At = f.clock.now()
		}
		f.rows = append(f.rows, v)
	}
}

func (f *fakeStore) RevocationsSince(
	_ context.Context,
	tenants []string,
	within time.Duration,
	afterID int64,
	limit int,
) ([]store.Revocation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	f.widest = max(f.widest, within)
	if f.err != nil {
		return nil, f.err
	}
	var list []store.Revocation
	for _, v := range f.rows {
		if slices.Contains(tenants, v.Tenant) && v.ID > afterID && !v.At.Before(f.clock.now().Add(-within)) &&
			len(list) < limit {
			list = append(list, v)
		}
	}
	return list, nil
}

func (f *fakeStore) know(tenants ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tenants = tenants
}

func (f *fakeStore) known() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.tenants)
}

func (f *fakeStore) revocations(t testing.TB, tenants ...string) *Revocations {
	t.Helper()
	f.know(tenants...)
	return NewRevocations(RevocationOptions{Store: f, Tenants: f.known, Now: f.clock.now})
}

// poll reads once. Pod and database have one clock, the rig's.
func (f *fakeStore) poll(t testing.TB, r *service) {
	t.Helper()
	f.clock.nanos.Store(r.clock.nanos.Load())
	if err := r.o.Revocations.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// newRevoking is a rig whose database is db, read once.
func newRevoking(t testing.TB, db *fakeStore, tenants ...string) *service {
	t.Helper()
	r := newService(t, func(o *Options) { o.Revocations = db.revocations(t, tenants...) })
	r.o.Revocations.o.Now = r.clock.now
	db.clock = r.clock
	db.poll(t, r)
	return r
}

func TestRevoked(t *testing.T) {
	for name, tc := range map[string]struct {
		v    store.Revocation
		age  time.Duration // of the token when it was revoked
		want Reason
	}{
		"its session": {v: store.Revocation{Tenant: acme, SessionID: session1}, want: reasonRevoked},
		"its session, and it is younger": {
			v:    store.Revocation{Tenant: acme, SessionID: session1},
			age:  -time.Minute,
			want: reasonRevoked,
		},
		"another session":                  {v: store.Revocation{Tenant: acme, SessionID: session2}},
		"its session's id elsewhere":       {v: store.Revocation{Tenant: globex, SessionID: session1}},
		"its user":                         {v: store.Revocation{Tenant: acme, UserID: user1}, want: reasonRevoked},
		"its user, the microsecond before": {v: store.Revocation{Tenant: acme, UserID: user1}, age: -time.Microsecond},
		"its user, a microsecond after": {
			v:    store.Revocation{Tenant: acme, UserID: user1},
			age:  time.Microsecond,
			want: reasonRevoked,
		},
		"another user":                      {v: store.Revocation{Tenant: acme, UserID: user2}},
		"a user of that id elsewhere":       {v: store.Revocation{Tenant: globex, UserID: user1}},
		"its tenant":                        {v: store.Revocation{Tenant: acme}, want: reasonRevoked},
		"its tenant, and it was made since": {v: store.Revocation{Tenant: acme}, age: -time.Second},
		"another tenant":                    {v: store.Revocation{Tenant: globex}},
		"a tenant that this pod knows not":  {v: store.Revocation{Tenant: "initech/help"}},
	} {
		t.Run(name, func(t *testing.T) {
			db := newFakeStore()
			rig := newRevoking(t, db, acme, globex)
			raw := rig.mint(t)
			rig.wantReason(t, raw, "")
			tc.v.At = rig.clock.now().Add(tc.age)
			db.add(tc.v)
			db.poll(t, rig)
			rig.wantReason(t, raw, tc.want)
			again := newRevoking(t, db, acme, globex) // as after a restart
			again.ring.Store(rig.ring.Load())
			again.wantReason(t, raw, tc.want)
		})
	}
}

// TestRevokedHere verifies that a revocation on this pod is in force at once, for a session, a user or a tenant.
func TestRevokedHere(t *testing.T) {
	for name, tc := range map[string]struct{ user, session string }{
		"session": {"", session1},
		"user":    {user1, ""},
		"tenant":  {"", ""},
		"both":    {user2, session1},
	} {
		t.Run(name, func(t *testing.T) {
			db := newFakeStore()
			rig := newRevoking(t, db, acme)
			raw := rig.mint(t)
			other := rig.mint(t, func(c *Claims) { c.UserID, c.SessionID = user2, session2 })
			rig.wantReason(t, raw, "")
			rig.wantReason(t, other, "")
			rig.o.Revocations.Revoke(acme, tc.user, tc.session)
			rig.wantReason(t, raw, reasonRevoked)
			want := Reason("")
			if name == "tenant" {
				want = reasonRevoked
			}
			rig.wantReason(t, other, want)
		})
	}
}

// TestRevokedHereByAnotherClock verifies a revocation on a pod whose clock is ahead of the database's. A login right
// after it is accepted within a second.
func TestRevokedHereByAnotherClock(t *testing.T) {
	const ahead = 5 * time.Second
	db := newFakeStore()
	rig := newRevoking(t, db, acme)
	old := rig.mint(t)
	at := rig.clock.now()
	rig.clock.pass(ahead)
	rig.o.Revocations.Revoke(acme, user1, "")
	fresh := rig.mint(t, func(c *Claims) { c.IssuedAt = at.Add(time.Second) }) // the database's time
	rig.wantReason(t, old, reasonRevoked)
	rig.wantReason(t, fresh, reasonRevoked)
	// A read that was under way when it was revoked tells nothing of it.
	rig.o.Revocations.install(nil, at)
	rig.wantReason(t, old, reasonRevoked)
	db.add(store.Revocation{Tenant: acme, UserID: user1, At: at})
	rig.clock.pass(time.Second)
	db.poll(t, rig)
	rig.wantReason(t, old, reasonRevoked)
	rig.wantReason(t, fresh, "")
}

// TestUnknownTenant verifies that no token of a tenant is accepted before the tenant's revocations were read.
func TestUnknownTenant(t *testing.T) {
	db := newFakeStore()
	rig := newService(t, func(o *Options) { o.Revocations = db.revocations(t, globex) })
	rig.o.Revocations.o.Now = rig.clock.now
	db.clock = rig.clock
	raw := rig.mint(t)
	gone := rig.mint(t, func(c *Claims) { c.SessionID = session2 })
	if rig.Ready() == nil {
		t.Error("it is ready before it has read anything")
	}
	rig.wantReason(t, raw, reasonRevoked) // no tenant of this platform
	db.poll(t, rig)
	if err := rig.Ready(); err != nil {
		t.Error(err)
	}
	db.add(store.Revocation{Tenant: acme, SessionID: session2})
	rig.clock.pass(5 * time.Minute) // the window of those that are known is past it
	db.poll(t, rig)
	db.know(globex, acme)
	rig.wantReason(t, raw, Reason(ErrNotReady.Error()))
	if len(rig.o.Revocations.wake) != 1 {
		t.Error("it does not hurry to read")
	}
	db.poll(t, rig)
	rig.wantReason(t, raw, "")
	rig.wantReason(t, gone, reasonRevoked)
	db.know(globex)
	db.poll(t, rig)
	rig.wantReason(t, raw, "") // remembered; who serves the tenant knows it no more
	db.know(globex, acme)
	db.poll(t, rig)
	rig.wantReason(t, gone, reasonRevoked)
}

// TestOutage verifies that known revocations stay in force during an outage of any length. Missed revocations are read
// after it.
func TestOutage(t *testing.T) {
	for _, away := range []time.Duration{5 * time.Second, 3 * time.Minute, 40 * time.Minute, 48 * time.Hour} {
		t.Run(away.String(), func(t *testing.T) {
			db := newFakeStore()
			rig := newRevoking(t, db, acme)
			db.add(store.Revocation{Tenant: acme, SessionID: session1})
			rig.clock.pass(time.Second)
			db.poll(t, rig)
			db.err = errors.New("away")
			rig.clock.pass(time.Millisecond)
			db.add(store.Revocation{Tenant: acme, SessionID: session2}) // committed, and nobody read it yet
			if err := rig.o.Revocations.poll(t.Context()); err == nil {
				t.Fatal("the database is away")
			}
			fresh := func(session string) string { return rig.mint(t, func(c *Claims) { c.SessionID = session }) }
			rig.wantReason(t, fresh(session1), reasonRevoked)
			rig.wantReason(t, fresh(session2), "")
			rig.clock.pass(away)
			old := rig.mint(t, func(c *Claims) {
				c.SessionID, c.IssuedAt = session2, c.IssuedAt.Add(-min(away, 50*time.Minute))
				c.ExpiresAt = c.IssuedAt.Add(MaxLifetime)
			})
			db.err = nil
			db.poll(t, rig)
			if away < remembered {
				rig.wantReason(t, old, reasonRevoked)
			}
			if db.widest > remembered {
				t.Errorf("it read %s back", db.widest)
			}
		})
	}
}

// TestLateCommit verifies that a row is read that becomes visible after a row with a greater id and a later time.
func TestLateCommit(t *testing.T) {
	db := newFakeStore()
	rig := newRevoking(t, db, acme)
	late := store.Revocation{ID: 1, Tenant: acme, SessionID: session1, At: rig.clock.now()}
	db.add(store.Revocation{Tenant: acme, SessionID: "x"}, store.Revocation{Tenant: acme, SessionID: session2})
	db.rows = db.rows[1:] // 2 alone
	raw := rig.mint(t)
	for range 50 {
		rig.clock.pass(time.Second)
		db.poll(t, rig)
	}
	rig.wantReason(t, raw, "")
	db.rows = append([]store.Revocation{late}, db.rows...)
	rig.clock.pass(time.Second)
	db.poll(t, rig)
	rig.wantReason(t, raw, reasonRevoked)
}

// TestPages verifies that more revocations than one read returns are all read, at the start and later.
func TestPages(t *testing.T) {
	db := newFakeStore()
	rig := newRevoking(t, db, acme)
	for i := range 2*page + 1 {
		db.add(store.Revocation{Tenant: acme, SessionID: fmt.Sprint(i)})
	}
	db.add(store.Revocation{Tenant: acme, SessionID: session1})
	raw := rig.mint(t)
	before := db.reads
	db.poll(t, rig)
	rig.wantReason(t, raw, reasonRevoked)
	if n := db.reads - before; n != 3 {
		t.Errorf("%d reads", n)
	}
	again := newRevoking(t, db, acme)
	again.ring.Store(rig.ring.Load())
	again.wantReason(t, raw, reasonRevoked)
}

// TestTooManyRevoked verifies that a tenant with too many revocations is revoked as a whole. Its people refresh their
// tokens, and other tenants are not affected.
func TestTooManyRevoked(t *testing.T) {
	db := newFakeStore()
	rig := newRevoking(t, db, acme, globex)
	gone := rig.mint(t)
	bystander := rig.mint(t, func(c *Claims) { c.SessionID = session2 })
	elsewhere := rig.mint(t, func(c *Claims) { c.Tenant = globex })
	db.add(store.Revocation{Tenant: acme, SessionID: session1})
	for i := range maxRevoked {
		db.add(store.Revocation{Tenant: acme, SessionID: fmt.Sprint("s", i)})
	}
	db.poll(t, rig)
	rig.wantReason(t, gone, reasonRevoked)
	rig.wantReason(t, bystander, reasonRevoked)
	rig.wantReason(t, elsewhere, "")
	rig.clock.pass(time.Second)
	refreshed := rig.mint(t, func(c *Claims) { c.SessionID = session2 })
	db.poll(t, rig) // the same rows again
	rig.wantReason(t, refreshed, "")
	if set := rig.o.Revocations.tenants[acme]; len(set.sessions)+len(set.users) > 1 {
		t.Errorf("%d sessions are remembered", len(set.sessions))
	}
	db.add(store.Revocation{Tenant: acme, SessionID: session2})
	db.poll(t, rig)
	rig.wantReason(t, refreshed, reasonRevoked)
}

// TestForgets what no token can live long enough to be meant by.
func TestForgets(t *testing.T) {
	db := newFakeStore()
	rig := newRevoking(t, db, acme)
	db.add(store.Revocation{
		Tenant:    acme,
		SessionID: session1,
	}, store.Revocation{
		Tenant: acme,
		UserID: user1,
	}, store.Revocation{Tenant: acme})
	db.poll(t, rig)
	rig.o.Revocations.Revoke(acme, user2, "")
	raw := rig.mint(t, func(c *Claims) { c.ExpiresAt = c.IssuedAt.Add(MaxLifetime) })
	size := func() int {
		tenantSet := rig.o.Revocations.tenants[acme]
		n := len(tenantSet.sessions) + len(tenantSet.users) + len(rig.o.Revocations.local)
		if !tenantSet.all.at.IsZero() {
			n++
		}
		return n
	}
	if n := size(); n != 4 {
		t.Errorf("%d are remembered", n)
	}
	for range 59 {
		rig.clock.pass(time.Minute)
		db.poll(t, rig)
		rig.wantReason(t, raw, reasonRevoked)
	}
	if n := size(); n != 3 {
		t.Errorf("%d are remembered for an hour", n)
	}
	for range 13 {
		rig.clock.pass(time.Minute)
		db.poll(t, rig)
	}
	if n := size(); n != 0 {
		t.Errorf("%d are remembered for ever", n)
	}
	rig.wantReason(t, raw, reasonExpired)
}

// TestEpoch checks that a change without effect does not make tokens be judged again.
func TestEpoch(t *testing.T) {
	db := newFakeStore()
	rig := newRevoking(t, db, acme)
	epoch := func() uint64 { return rig.o.Revocations.epoch.Load() }
	db.add(store.Revocation{Tenant: acme, SessionID: session2})
	before := epoch()
	db.poll(t, rig)
	once := epoch()
	if once == before {
		t.Error("a revocation changes nothing")
	}
	for range 5 {
		rig.clock.pass(time.Second)
		db.poll(t, rig)
	}
	if epoch() != once {
		t.Error("what was known changes something")
	}
}

func TestReadTimestamp(t *testing.T) {
	db := newFakeStore()
	reg := prometheus.NewRegistry()
	clock := newClock()
	db.know(acme)
	revocations := NewRevocations(RevocationOptions{Store: db, Tenants: db.known, Now: clock.now, Metrics: reg})
	read := func(ago time.Duration) bool {
		got := values(t, reg, "caly_auth_revocations_read_timestamp_seconds")[""]
		return got == metric.Seconds(clock.now().Add(-ago))
	}
	clock.pass(3 * time.Second)
	if !read(3 * time.Second) {
		t.Error("before the first read it is not the start")
	}
	if err := revocations.poll(t.Context()); err != nil || !read(0) {
		t.Errorf("just read, which is not what it says: %v", err)
	}
	db.err = errors.New("away")
	clock.pass(7 * time.Second)
	if err := revocations.poll(t.Context()); err == nil || !read(7*time.Second) {
		t.Errorf("it does not keep the last time while it cannot be read: %v", err)
	}
}
