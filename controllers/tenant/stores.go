package tenant

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/fair"
)

const (
	// workers reconcile Tenants at once. Those that wait for a store leave some free for Tenants that need none.
	workers = 16
	// storeCalls bounds the reconciles that wait for tenants' stores, storeCallsPerNamespace those of one namespace. An
	// author can create many Tenants, whose stores do not answer, in one namespace.
	storeCalls             = 12
	storeCallsPerNamespace = 2
	// storePatience is how long a reconcile waits for its turn before its Tenant is reconciled again later.
	storePatience = 100 * time.Millisecond
	// storeTurn spaces the Tenants of one namespace that come again, and maxStoreWait bounds when they do.
	storeTurn    = 500 * time.Millisecond
	maxStoreWait = time.Minute
)

// storeQueue bounds the reconciles that wait for tenants' stores.
type storeQueue struct {
	once sync.Once
	gate *fair.Gate

	mu   sync.Mutex
	next map[string]time.Time // by namespace: when the Tenant that was put off last comes again
}

// enter takes a turn to call a store. It abandons the reconcile if there is none soon: the namespace has as many calls
// in progress as it may.
func (q *storeQueue) enter(ctx context.Context, namespace string) (leave func(), err error) {
	q.once.Do(func() {
		q.gate = fair.NewGate(fair.Options{Places: storeCalls, PerKey: storeCallsPerNamespace})
	})
	patient, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	leave, err = q.gate.Acquire(patient, namespace)
	if err == nil {
		return leave, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, reconcile.Abandon(q.postpone(namespace, time.Now()))
}

// postpone returns when a Tenant of the namespace comes again: each one a turn after the one before.
func (q *storeQueue) postpone(namespace string, now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	maps.DeleteFunc(q.next, func(_ string, at time.Time) bool { return at.Before(now) })
	if q.next == nil {
		q.next = map[string]time.Time{}
	}
	at := q.next[namespace]
	if at.Before(now) {
		at = now
	}
	after := min(at.Add(storeTurn).Sub(now), maxStoreWait)
	q.next[namespace] = now.Add(after)
	return after
}
