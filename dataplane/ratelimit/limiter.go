// Package ratelimit counts tries exactly, across pods: a sliding log of the tries that were let through, in PostgreSQL.
//
// A key that is known to be refused costs the database nothing. When the database does not answer in time, each pod goes on by
// what it has seen itself: a limit then holds in each pod, not across them. What was let through meanwhile is not written later.
package ratelimit

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// defaultPatience with the database.
const defaultPatience = time.Second

// Store keeps the sliding logs. *store.Dataplane is one.
type Store interface {
	TakeHits(ctx context.Context, take store.HitTake) (store.HitsTaken, error)
	ReturnHit(ctx context.Context, ret store.HitReturn) error
}

// Options of New.
type Options struct {
	Store Store
	// Key is what keys are hashed under: keyring.Ring.Derive(keyring.PurposeRateLimit). While it is empty the pod decides by itself.
	Key func() []byte
	// Limits of the platform that differ from defaultLimits.
	Limits map[Name]Limit
	// Patience with the database; 0: a second. Under the load of many tries at once it takes a while to answer, and what it says is exact.
	Patience time.Duration
	// Registerer of the metrics; nil: none.
	Registerer prometheus.Registerer
	// Log; nil: none.
	Log *slog.Logger
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Limiter decides on tries.
type Limiter struct {
	Options
	ownKey  []byte // to hash under while there is no other
	local   *local
	circuit circuit
	flights flights
	metrics *metrics
}

// New makes a limiter. It panics on a limit that ParseLimit would refuse.
func New(o Options) *Limiter {
	for name, limit := range o.Limits {
		if err := check(name, limit); err != nil {
			panic(err)
		}
	}
	if o.Patience <= 0 {
		o.Patience = defaultPatience
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	own := make([]byte, sha256.Size)
	_, _ = rand.Read(own) // never fails
	return &Limiter{
		Options: o,
		ownKey:  own,
		local:   newLocal(o.Now()),
		circuit: circuit{log: o.Log},
		flights: flights{waiting: map[ticket]*flight{}},
		metrics: newMetrics(o.Registerer),
	}
}

// Take decides on a try, and counts it if it is let through. It waits for the database no longer than Patience, and is not
// cut short when ctx ends: who hangs up has tried all the same.
func (l *Limiter) Take(ctx context.Context, t *tenantconfig.Tenant, name Name, key string) Decision {
	limit := l.limitOf(t, name)
	k, shared := l.hash(t.ID, name, key)
	if decision, refused := l.refusal(k, name, limit); refused {
		return decision
	}
	if shared {
		if decision, ok := l.ask(ctx, t.ID, name, ticket{key: k, limit: limit}); ok {
			outcome := outcomeRejected
			if decision.Allowed {
				outcome = outcomeAllowed
			}
			return l.counted(decision, outcome)
		}
	}
	decision := decide(name, limit, l.local.take(k, limit, 1, l.Now()), 0)
	decision.Fallback = true
	return l.counted(decision, outcomeFallback)
}

// Blocked refuses, and counts, a try whose key is known to be refused, without work of the database; false: it may be let through.
func (l *Limiter) Blocked(t *tenantconfig.Tenant, name Name, key string) (Decision, bool) {
	k, _ := l.hash(t.ID, name, key)
	return l.refusal(k, name, l.limitOf(t, name))
}

// limitOf is the tenant's limit, else the platform's, else the default.
func (l *Limiter) limitOf(t *tenantconfig.Tenant, name Name) Limit {
	return name.limit(func(base Name) Limit { return l.configured(t, base) })
}

func (l *Limiter) configured(t *tenantconfig.Tenant, name Name) Limit {
	if t.Auth != nil {
		if limit, ok := t.Auth.Limits[string(name)]; ok {
			return limit
		}
	}
	if limit, ok := l.Limits[name]; ok {
		return limit
	}
	return defaultLimits[name]
}

// hash of a key, and whether other pods have the same one.
func (l *Limiter) hash(tenant string, name Name, key string) (sum hash, shared bool) {
	secret := l.Key()
	if shared = len(secret) > 0; !shared {
		secret = l.ownKey
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(tenant + "\x00" + string(name) + "\x00" + key)) // no NUL is in the first two
	mac.Sum(sum[:0])
	return sum, shared
}

// refusal counts a try of a key that is known to be refused; false: it is not.
func (l *Limiter) refusal(k hash, name Name, limit Limit) (Decision, bool) {
	wait := l.local.blockedFor(k, limit, l.Now())
	if wait <= 0 {
		return Decision{}, false
	}
	return l.counted(Decision{Name: name, Limit: limit, RetryAfter: wait, Reset: wait}, outcomeBlocked), true
}

// ask the database, together with those who ask the same; false: it did not answer.
func (l *Limiter) ask(ctx context.Context, tenant string, name Name, t ticket) (Decision, bool) {
	fl, place := l.flights.join(t)
	if place == 0 {
		l.flights.fly(t, fl, func(tries int) (store.HitsTaken, error) { return l.take(ctx, tenant, t, tries) })
	}
	<-fl.done
	if fl.err != nil {
		return Decision{}, false
	}
	return decide(name, t.limit, fl.taken, place), true
}

// errAlone means that the database failed a moment ago and is not asked.
var errAlone = errors.New("the database is left alone")

func (l *Limiter) take(ctx context.Context, tenant string, t ticket, tries int) (store.HitsTaken, error) {
	began := l.Now()
	if wait := l.local.blockedFor(t.key, t.limit, began); wait > 0 { // those who went before have used it up
		return store.HitsTaken{Used: t.limit.Requests, FreeIn: wait}, nil
	}
	if !l.circuit.admit(began) {
		return store.HitsTaken{}, errAlone
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.Patience)
	defer cancel()
	// The server gives up first, which leaves the connection whole.
	got, err := l.Store.TakeHits(ctx, store.HitTake{
		Tenant:  tenant,
		Key:     t.key,
		Wanted:  tries,
		Max:     t.limit.Requests,
		Window:  t.limit.Window,
		Timeout: l.Patience * 4 / 5,
	})
	if err != nil {
		if !errors.Is(err, store.ErrTenantBusy) { // else the database answers the other tenants
			l.circuit.failed(l.Now(), err)
		}
		l.metrics.fallback.Inc()
		return store.HitsTaken{}, err
	}
	l.circuit.answered()
	l.local.note(t.key, t.limit, got.Granted, began)
	if got.Used >= t.limit.Requests {
		// From when it was asked, which is before it answered: a key is never blocked for longer than in the database.
		l.local.block(t.key, t.limit, began.Add(got.FreeIn))
	}
	return got, nil
}

// decide on the try with a place among those that shared what was granted.
func decide(name Name, limit Limit, got store.HitsTaken, place int) Decision {
	decision := Decision{Name: name, Limit: limit, Reset: got.FreeIn}
	if place >= got.Granted {
		decision.RetryAfter = got.FreeIn
		return decision
	}
	decision.Allowed = true
	decision.Remaining = max(limit.Requests-(got.Used-got.Granted)-place-1, 0)
	return decision
}

func (l *Limiter) counted(d Decision, outcome string) Decision {
	l.metrics.decisions[d.Name][outcome].Inc()
	return d
}
