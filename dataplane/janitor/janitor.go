// Package janitor closes what has died: stream sessions of pods that are gone, rows without a stream and streams without a row. It also
// watches this pod's memory. What expires in accounts is the operator's to remove.
package janitor

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/store"
)

// Store ends the sessions of pods that are gone, and has the totals of all pods. *store.Dataplane is one.
type Store interface {
	ReapStreams(ctx context.Context, tenants []string, unseen time.Duration, limit int) (ended int, ran bool, err error)
	AddCleanups(ctx context.Context, c store.CleanupCounts) (store.CleanupTotals, error)
	CleanupTotals(ctx context.Context) (store.CleanupTotals, error)
}

// Registry is the pod's streams. *live.Registry is one.
type Registry interface {
	// Reconcile ends rows of this pod without a stream, and cuts off streams without a row.
	Reconcile(ctx context.Context) (rows, streams int, err error)
	// Live is the number of streams.
	Live() int
}

// Options of a Janitor. Zero durations are the defaults.
type Options struct {
	Store    Store
	Registry Registry
	// Tenants are the ids of those that the pod knows now.
	Tenants func() []string
	// Every is the time between two full cleanups; 30 min by default. The start and the end have one each in addition.
	Every time.Duration
	// ReapEvery is how often the sessions of pods that are gone are looked for; 15 s by default.
	ReapEvery time.Duration
	// Unseen is for how long nothing was heard of such a session; 45 s by default, several heartbeats.
	Unseen time.Duration
	// Budget bounds a cleanup; 30 s by default. StopBudget the one at the end; 5 s by default.
	Budget, StopBudget time.Duration
	Memory             MemoryOptions
	Log                *slog.Logger
	// Registerer of metrics; nil registers none.
	Registerer prometheus.Registerer
}

func (o *Options) setDefaults() {
	for _, d := range []struct {
		option *time.Duration
		value  time.Duration
	}{{&o.Every, 30 * time.Minute}, {&o.ReapEvery, 15 * time.Second}, {&o.Unseen, 45 * time.Second}, {&o.Budget, 30 * time.Second},
		{&o.StopBudget, 5 * time.Second}} {
		if *d.option <= 0 {
			*d.option = d.value
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Memory.setDefaults()
}

// Janitor cleans up. Pods may all have one: of what is everybody's, one at a time does the work.
type Janitor struct {
	o      Options
	m      *metrics
	memory *memory

	// since when the database has answered without a break. Run alone uses it.
	since time.Time

	requested atomic.Bool     // a client waits for a cleanup
	asked     chan chan error // cleanups that Run has to do for clients

	asking sync.Mutex // held while the totals are read or written

	mu     sync.Mutex
	alive  bool
	own    store.CleanupCounts // of this pod
	stored store.CleanupCounts // of own, those in the totals
	totals store.CleanupTotals // of all pods, as PostgreSQL answered last
	readAt time.Time           // when that was; zero: never
}

// New makes a janitor. Run is its work.
func New(o Options) *Janitor {
	o.setDefaults()
	j := &Janitor{o: o, memory: newMemory(o.Memory), asked: make(chan chan error)}
	j.m = newMetrics(o.Registerer, j)
	return j
}

// Run cleans up until ctx is done, and then a last time. Stop the registry first, so that the last cleanup sees all
// ended streams.
func (j *Janitor) Run(ctx context.Context) error {
	j.running(true)
	defer j.running(false)
	full := time.NewTicker(j.o.Every)
	reap := time.NewTicker(j.o.ReapEvery)
	sample := time.NewTicker(j.o.Memory.Every)
	defer full.Stop()
	defer reap.Stop()
	defer sample.Stop()
	_ = j.clean(ctx, j.o.Budget) // it is logged and counted
	for {
		select {
		case <-ctx.Done():
			_ = j.clean(context.WithoutCancel(ctx), j.o.StopBudget)
			return nil
		case <-full.C:
			_ = j.clean(ctx, j.o.Budget)
		case done := <-j.asked:
			done <- j.clean(ctx, j.o.Budget)
		case <-reap.C:
			j.reapOnly(ctx)
		case <-sample.C:
			j.watchMemory()
		}
	}
}

// clean is a full cleanup.
func (j *Janitor) clean(parent context.Context, budget time.Duration) error {
	ctx, cancel := context.WithTimeout(parent, budget)
	defer cancel()
	defer func() { j.flush(ctx) }()
	start := time.Now()
	rows, streams, err := j.o.Registry.Reconcile(ctx)
	j.count(rows, streams)
	reaped := 0
	if err == nil {
		reaped, err = j.reap(ctx)
	}
	if err != nil {
		if parent.Err() == nil {
			j.m.failed.Inc()
			j.o.Log.Warn("cleanup failed; the next one continues", "error", err, "after", j.o.Every)
		}
		return err
	}
	j.succeeded(time.Now())
	j.o.Log.Info("cleanup done", "sessions", rows+reaped, "connections", streams, "took", time.Since(start))
	return nil
}

func (j *Janitor) reapOnly(parent context.Context) {
	ctx, cancel := context.WithTimeout(parent, min(j.o.Budget, j.o.ReapEvery))
	defer cancel()
	defer func() { j.flush(ctx) }()
	if n, err := j.reap(ctx); err != nil && parent.Err() == nil {
		j.o.Log.Warn("cleanup of the sessions of pods that are gone failed; tried again",
			"error", err,
			"after", j.o.ReapEvery,
		)
	} else if n > 0 {
		j.o.Log.Info("cleanup ended the sessions of pods that are gone", "sessions", n)
	}
}

// reapRows of one statement.
const reapRows = 1000

// reap ends the sessions that were not seen for long, in batches. Whoever cannot reach the database is seen by nobody, and that may be all
// pods: for as long after it is back they have the time to say that they live.
func (j *Janitor) reap(ctx context.Context) (total int, err error) {
	for {
		limit := reapRows
		if j.since.IsZero() || time.Since(j.since) < j.o.Unseen {
			limit = 0 // whether the database answers is all that matters
		}
		n, ran, err := j.o.Store.ReapStreams(ctx, j.o.Tenants(), j.o.Unseen, limit)
		if err != nil {
			j.since = time.Time{}
			return total, err
		}
		if j.since.IsZero() {
			j.since = time.Now()
		}
		j.count(n, 0)
		total += n
		if !ran || limit == 0 || n < limit {
			return total, nil
		}
	}
}
