package resilience

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/prometheus/client_golang/prometheus"
)

// Policy bounds the tries of one call.
type Policy struct {
	// MaxAttempts in all; 0 means 3.
	MaxAttempts int
	// BaseDelay doubles with each try, up to MaxDelay; the wait is drawn evenly from zero to that (full jitter). 0 means
	// 500 ms and 10 s. A server that asks for longer than MaxDelay ends the tries: the caller knows a better place to wait.
	BaseDelay, MaxDelay time.Duration
}

// Options of a Registry.
type Options struct {
	// FailureThreshold is how many calls in a row, each with all its tries, open a breaker; 0 means 5.
	FailureThreshold uint
	// OpenFor is how long an open breaker refuses before it lets one call through; 0 means a minute.
	OpenFor time.Duration
	// Policy of each call.
	Policy Policy
	// MaxBreakers bounds the memory; beyond it the one that was used longest ago goes. 0 means 20000.
	MaxBreakers int
}

func (o Options) withDefaults() Options {
	if o.FailureThreshold == 0 {
		o.FailureThreshold = 5
	}
	if o.OpenFor <= 0 {
		o.OpenFor = time.Minute
	}
	if o.Policy.MaxAttempts <= 0 {
		o.Policy.MaxAttempts = 3
	}
	if o.Policy.BaseDelay <= 0 {
		o.Policy.BaseDelay = 500 * time.Millisecond
	}
	if o.Policy.MaxDelay <= 0 {
		o.Policy.MaxDelay = 10 * time.Second
	}
	if o.MaxBreakers <= 0 {
		o.MaxBreakers = 20000
	}
	return o
}

// OpenError is the refusal of a breaker that is open: nothing was called.
type OpenError struct {
	Dependency string
	// Until is when the next call may pass.
	Until time.Time
}

// Error says what is refused and until when.
func (e *OpenError) Error() string {
	return fmt.Sprintf(
		"%s failed several times in a row and is left alone until %s", e.Dependency, e.Until.UTC().Format(time.RFC3339),
	)
}

type key struct{ tenant, dependency string }

// breaker is one (tenant, dependency), with the time of its last use for eviction.
type breaker struct {
	circuitbreaker.CircuitBreaker[any]
	used time.Time
}

// Registry holds the breakers and the statistics. It is safe for concurrent use.
type Registry struct {
	options  Options
	executor failsafe.Executor[any]
	stats    tally

	mu       sync.Mutex
	breakers map[key]*breaker
}

// NewRegistry makes a Registry; reg may be nil.
func NewRegistry(o Options, reg prometheus.Registerer) *Registry {
	registry := &Registry{options: o.withDefaults(), breakers: map[key]*breaker{}}
	registry.executor = registry.newExecutor()
	if reg != nil {
		reg.MustRegister(Collector(registry.Counts))
	}
	return registry
}

// Do calls fn under the tenant's breaker for the dependency, again while its error is transient and tries are left. It
// returns fn's last error, or *OpenError without a call. Only a transient failure that outlives its tries counts against
// the dependency: one that answered "no" is alive.
func (r *Registry) Do(ctx context.Context, tenant, dependency string, fn func(ctx context.Context) error) error {
	b := r.breaker(key{tenant, dependency})
	if !b.TryAcquirePermit() {
		return &OpenError{Dependency: dependency, Until: time.Now().Add(r.untilNext(b))}
	}
	err := r.retry(ctx, dependency, fn)
	record(ctx, b, err)
	return err
}

// untilNext is how long a refused caller should wait. A half-open breaker has its trial call under way: soon.
func (r *Registry) untilNext(b *breaker) time.Duration {
	if left := b.RemainingDelay(); left > 0 {
		return left
	}
	return r.options.OpenFor / 10
}

// record tells the breaker how the call ended. A call that was given up for a reason of the caller's (Abort, or a context
// that ended) says nothing of the dependency, except that a trial has not succeeded: the breaker must not close for it.
func record(ctx context.Context, b *breaker, err error) {
	switch {
	case err == nil:
		b.RecordSuccess()
	case ctx.Err() != nil || errors.Is(err, context.Canceled) || aborted(err):
		if b.IsHalfOpen() {
			b.RecordFailure()
		}
	case Classify(err) == Transient:
		b.RecordFailure()
	default:
		b.RecordSuccess()
	}
}

// retry runs fn up to MaxAttempts times.
func (r *Registry) retry(ctx context.Context, dependency string, fn func(context.Context) error) error {
	var (
		tries int
		last  error
	)
	err := r.executor.WithContext(ctx).Run(func() error {
		if tries++; tries > 1 {
			r.retrying(dependency)
		}
		last = fn(ctx)
		return last
	})
	if tries > 1 {
		r.retried(dependency, err)
	}
	if err != nil && last != nil {
		return last // what really happened says more than "context canceled"
	}
	return err
}

func (r *Registry) newExecutor() failsafe.Executor[any] {
	return failsafe.With[any](retrypolicy.NewBuilder[any]().
		HandleIf(func(_ any, err error) bool { return r.again(err) }).
		WithMaxAttempts(r.options.Policy.MaxAttempts).
		WithDelayFunc(r.delay).
		ReturnLastFailure().
		Build())
}

// again tells whether the same call is worth another try now.
func (r *Registry) again(err error) bool {
	if err == nil || Classify(err) != Transient {
		return false
	}
	var answer *HTTPError
	return !errors.As(err, &answer) || answer.RetryAfter <= r.options.Policy.MaxDelay
}

// delay is full jitter over an exponential ceiling, and never less than the server asked for.
func (r *Registry) delay(exec failsafe.ExecutionAttempt[any]) time.Duration {
	policy := r.options.Policy
	ceiling := policy.MaxDelay
	if n := exec.Attempts() - 1; n >= 0 && n < 30 {
		ceiling = min(policy.BaseDelay<<n, policy.MaxDelay)
	}
	wait := rand.N(ceiling + 1) //nolint:gosec // jitter needs no secrecy
	var answer *HTTPError
	if errors.As(exec.LastError(), &answer) {
		wait = max(wait, answer.RetryAfter)
	}
	return wait
}

// Forget drops a tenant's breakers, for when the tenant is gone or its configuration changed.
func (r *Registry) Forget(tenant string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.breakers {
		if k.tenant == tenant {
			delete(r.breakers, k)
		}
	}
}

func (r *Registry) breaker(k key) *breaker {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.breakers[k]
	if b == nil {
		if len(r.breakers) >= r.options.MaxBreakers {
			r.evict()
		}
		b = r.newBreaker(k.dependency)
		r.breakers[k] = b
	}
	b.used = time.Now()
	return b
}

func (r *Registry) newBreaker(dependency string) *breaker {
	return &breaker{CircuitBreaker: circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(r.options.FailureThreshold).
		WithSuccessThreshold(1).
		WithDelay(r.options.OpenFor).
		WithJitterFactor(0.1). // pods that saw the same outage do not come back in step
		OnOpen(func(circuitbreaker.StateChangedEvent) {
			r.stats.add(dependency, Counts{BreakerOpened: 1})
		}).
		Build()}
}

// evict drops the breaker that was used longest ago. The caller holds the lock.
func (r *Registry) evict() {
	var (
		oldest key
		at     time.Time
	)
	for k, b := range r.breakers {
		if at.IsZero() || b.used.Before(at) {
			oldest = k
			at = b.used
		}
	}
	delete(r.breakers, oldest)
}
