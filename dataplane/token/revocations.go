package token

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/metric"
	"github.com/caly-dev/caly/internal/store"
)

const (
	// remembered is how long a revocation matters: the longest life of a token, and clocks that differ.
	remembered = MaxLifetime + 10*time.Minute
	// overlap is read again each time: a revocation may be committed, and so seen, after one that was written later.
	// PostgreSQL ends transactions that dawdle long before.
	overlap = time.Minute
	// page of one read.
	page = 5000
	// newcomer is how long a check waits for the first read of a tenant that became known just now.
	newcomer = time.Second
)

// revocationStore is what Revocations need of PostgreSQL.
type revocationStore interface {
	RevocationsSince(
		ctx context.Context,
		tenants []string,
		within time.Duration,
		afterID int64,
		limit int,
	) ([]store.Revocation, error)
}

// RevocationOptions of NewRevocations.
type RevocationOptions struct {
	Store revocationStore
	// Tenants returns the ids of all tenants that the pod knows now.
	Tenants func() []string
	// Complete reports whether Tenants returns all that exist. A token of another tenant is then revoked, and cannot be
	// checked otherwise. nil: it always does.
	Complete func() bool
	// Every spaces the reads; 0 is a second.
	Every time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	Log *slog.Logger
	// Metrics registers the time of the last read, unless nil.
	Metrics prometheus.Registerer
}

// Revocations are the sessions, users and tenants whose access tokens were taken back, as far as such a token may
// still live. While the database is away they stay what they are, and tokens end by their lives.
type Revocations struct {
	o RevocationOptions
	// epoch rises whenever a token that was good may be so no more.
	epoch   atomic.Uint64
	last    atomic.Pointer[time.Time] // when the last read that succeeded began
	wake    chan struct{}
	arrived chan struct{} // closed, and replaced, when a tenant's revocations have been read for the first time

	mu      sync.RWMutex
	tenants map[string]*tenantSet // those whose revocations have been read
	local   map[subject]mark      // of this pod's own doing, until a read has brought the database's word
	pruned  time.Time
}

// NewRevocations returns what Run keeps current.
func NewRevocations(o RevocationOptions) *Revocations {
	if o.Every <= 0 {
		o.Every = time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	revocations := &Revocations{
		o:       o,
		wake:    make(chan struct{}, 1),
		arrived: make(chan struct{}),
		tenants: map[string]*tenantSet{},
		local:   map[subject]mark{},
	}
	revocations.epoch.Store(1)
	began := o.Now()
	if o.Metrics != nil {
		o.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "caly_auth_revocations_read_timestamp_seconds",
			Help: "When this pod last read which access tokens were revoked; its start before the first time.",
		},
			func() float64 { return metric.Seconds(*cmp.Or(revocations.last.Load(), &began)) }))
	}
	return revocations
}

// Loaded tells whether the revocations of every tenant that the pod knows now have been read.
func (r *Revocations) Loaded() bool {
	tenants := r.o.Tenants()
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, t := range tenants {
		if _, ok := r.tenants[t]; !ok {
			return false
		}
	}
	return r.last.Load() != nil
}

// Run reads what is new until ctx is done. It returns nil then.
func (r *Revocations) Run(ctx context.Context) error {
	tick := time.NewTicker(r.o.Every)
	defer tick.Stop()
	failing := false
	for {
		err := r.poll(ctx)
		if err != nil && ctx.Err() == nil && !failing { // once, not every second
			r.o.Log.Error(
				"what was revoked cannot be read; what is known stays in force, and access tokens end by their lives",
				"error",
				err,
			)
		}
		if err == nil && failing {
			r.o.Log.Info("what was revoked is read again")
		}
		failing = err != nil
		wake := r.wake
		if failing {
			wake = nil // callers must not make it try without a pause
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-wake:
		}
	}
}

// poll reads the last minute of the tenants whose revocations are known, and all that matters of the others.
func (r *Revocations) poll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	began := r.o.Now()
	known, fresh := r.split(r.o.Tenants())
	within := remembered
	if last := r.last.Load(); last != nil {
		within = min(remembered, max(0, began.Sub(*last))+overlap)
	}
	err := r.read(ctx, known, within, func(list []store.Revocation) { r.apply(list, began) })
	if err != nil {
		return err
	}
	sets := map[string]*tenantSet{}
	for _, t := range fresh {
		sets[t] = newTenantSet()
	}
	err = r.read(ctx, fresh, remembered, func(list []store.Revocation) { addAll(sets, list, began) })
	if err != nil {
		return err
	}
	r.install(sets, began)
	r.last.Store(&began)
	return nil
}

// split tells the tenants whose revocations have been read from the others, and forgets those that the pod knows no
// more.
func (r *Revocations) split(tenants []string) (known, fresh []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := make(map[string]*tenantSet, len(tenants))
	for _, t := range tenants {
		if set, ok := r.tenants[t]; ok {
			next[t] = set
			known = append(known, t)
		} else {
			fresh = append(fresh, t)
		}
	}
	r.tenants = next
	return known, fresh
}

// read hands over what was revoked, page by page.
func (r *Revocations) read(
	ctx context.Context,
	tenants []string,
	within time.Duration,
	use func([]store.Revocation),
) error {
	for after := int64(0); len(tenants) > 0; {
		list, err := r.o.Store.RevocationsSince(ctx, tenants, within, after, page)
		if err != nil {
			return err
		}
		use(list)
		if len(list) < page {
			break
		}
		after = list[len(list)-1].ID
	}
	return nil
}

func (r *Revocations) apply(list []store.Revocation, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if addAll(r.tenants, list, now) {
		r.epoch.Add(1)
	}
}

// install makes tenants known whose revocations have been read, and ends what this pod only took for the database's
// word.
func (r *Revocations) install(sets map[string]*tenantSet, began time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for t, set := range sets {
		r.tenants[t] = set
	}
	if len(sets) > 0 {
		r.epoch.Add(1)
		close(r.arrived)
		r.arrived = make(chan struct{})
	}
	for s, m := range r.local {
		if m.seen.Before(began) {
			delete(r.local, s)
		}
	}
	if began.Sub(r.pruned) >= time.Minute || began.Before(r.pruned) {
		r.pruned = began
		for _, set := range r.tenants {
			set.prune(began.Add(-remembered))
		}
	}
}

// Revoke applies at once, on this pod, what was committed to the database just now: a session or, without one, a user
// or, without either, a tenant. The other pods read it within a second or so.
func (r *Revocations) Revoke(tenant, userID, sessionID string) {
	now := r.o.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch set := r.tenants[tenant]; {
	case sessionID == "":
		// By this pod's clock, which may be another than the database's: the next read sets it right.
		if len(r.local) < maxRevoked {
			r.local[subject{tenant, userID}] = mark{at: now, seen: now}
		}
	case set != nil:
		set.add(store.Revocation{Tenant: tenant, SessionID: sessionID, At: now}, now)
	}
	r.epoch.Add(1)
}

// judge returns an error for what a token says where it was revoked, or where that is not known in time.
func (r *Revocations) judge(c *Claims) error {
	revoked, known, read := r.look(c)
	if !known {
		if !slices.Contains(r.o.Tenants(), c.Tenant) {
			if r.o.Complete != nil && !r.o.Complete() {
				return ErrNotReady
			}
			return &Error{reasonRevoked} // the platform does not have the tenant
		}
		if revoked, known = r.await(c, read); !known {
			return ErrNotReady
		}
	}
	if revoked {
		return &Error{reasonRevoked}
	}
	return nil
}

// look reports whether a token was revoked, if that is known. Otherwise read is closed when the next revocations have
// been read.
func (r *Revocations) look(c *Claims) (revoked, known bool, read <-chan struct{}) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	set, ok := r.tenants[c.Tenant]
	if !ok {
		return false, false, r.arrived
	}
	return set.revoked(c) || r.local[subject{c.Tenant, c.UserID}].covers(c) ||
		r.local[subject{c.Tenant, ""}].covers(c), true, nil
}

// await has a tenant that became known just now read, and looks again.
func (r *Revocations) await(c *Claims, read <-chan struct{}) (revoked, known bool) {
	select {
	case r.wake <- struct{}{}:
	default: // it is woken already
	}
	timer := time.NewTimer(newcomer)
	defer timer.Stop()
	for !known {
		select {
		case <-read:
			revoked, known, read = r.look(c)
		case <-timer.C:
			return false, false
		}
	}
	return revoked, known
}
