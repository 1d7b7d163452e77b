package upload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/tracing"
)

// queue is what the worker needs of store.Upload.
type queue interface {
	Claim(ctx context.Context, owner string, n int, lease time.Duration) ([]store.Recording, error)
	Heartbeat(ctx context.Context, owner string, ids []string, lease time.Duration) ([]string, error)
	MarkUploadStarted(ctx context.Context, owner, id string) error
	Complete(ctx context.Context, owner, id string, res store.Result) error
	RetryLater(ctx context.Context, owner, id string, a store.LaterAttempt) error
	Fail(ctx context.Context, owner, id, code, msg string) error
	Release(ctx context.Context, owner string, ids []string) error
	AddRetries(ctx context.Context, tenant string, counts map[string]resilience.Counts) error
}

// worker claims recordings and moves up to Concurrency at once.
type worker struct {
	o       Options
	cfg     *tenantconfig.Upload
	db      queue
	mover   *mover
	log     *slog.Logger
	metrics *metrics
	leases  *leases
	trouble *trouble
	// reported is what the statistics in PostgreSQL know of the registry's counts.
	reported map[string]resilience.Counts

	wg sync.WaitGroup
	// freed gets one message for each transfer that ended; its room is Concurrency, so that no sender waits.
	freed chan struct{}
	// returned are leases to hand back at the end.
	mu       sync.Mutex
	returned []string
}

// newWorker returns a worker for one tenant that has claimed nothing yet.
func newWorker(o Options, cfg *tenantconfig.Upload, db queue) *worker {
	log := o.Log.With("tenant", cfg.ID, "owner", o.Owner)
	return &worker{
		o:       o,
		cfg:     cfg,
		db:      db,
		log:     log,
		metrics: newMetrics(o.Metrics),
		leases:  newLeases(),
		trouble: &trouble{tries: o.FaultTries},
		freed:   make(chan struct{}, o.Concurrency),
	}
}

// run ends with every lease handed back and no goroutine left.
func (w *worker) run(ctx context.Context) error {
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	beats := make(chan struct{})
	beatsEnded := make(chan struct{})
	go func() {
		defer close(beatsEnded)
		w.heartbeats(beats)
	}()
	err := w.claimLoop(ctx, work)
	if err == nil && ctx.Err() != nil {
		err = errTerminated
		w.drain()
	}
	stop(errShutdown)
	w.wg.Wait()
	close(beats)
	<-beatsEnded
	w.handBack()
	w.reportRetries()
	if err != nil && !errors.Is(err, errTerminated) {
		w.log.Error("giving up", "error", err)
	}
	return err
}

// drain waits for the recordings in progress, for a bounded time.
func (w *worker) drain() {
	w.log.Info("terminated; the recordings in progress may go on", "count", len(w.leases.ids()), "for", w.o.Drain)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.wg.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(w.o.Drain):
	}
}

var errShutdown = errors.New("the worker is ending")

// claimLoop keeps the slots filled until ctx ends (nil), nothing is left to do (nil), or it makes no sense to go on.
// The recordings are moved under work.
func (w *worker) claimLoop(ctx, work context.Context) error {
	busy := 0
	idleSince := time.Now()
	awaySince := time.Time{}
	began := idleSince
	for {
		wait := w.o.Poll
		leaving := w.o.MaxRun > 0 && time.Since(began) >= w.o.MaxRun
		if leaving && busy == 0 {
			w.log.Info("the run has had its time; another one continues", "after", w.o.MaxRun)
			return nil
		}
		if err := w.trouble.err(); err != nil {
			return err
		}
		if until := w.trouble.pausedUntil(); time.Now().Before(until) {
			wait = time.Until(until)
			idleSince = time.Now()
		} else if free := w.o.Concurrency - busy; free > 0 && !leaving {
			recs, err := w.db.Claim(ctx, w.o.Owner, free, w.o.Lease)
			if ctx.Err() != nil {
				w.giveBack(recs)
				return nil
			}
			if awaySince, err = w.patience(awaySince, err); err != nil {
				return err
			}
			w.begin(work, recs)
			if busy += len(recs); busy > 0 || !awaySince.IsZero() {
				idleSince = time.Now()
			}
			if len(recs) == free {
				wait = time.Minute // the next slot that gets free wakes us
			}
		}
		if busy == 0 && time.Since(idleSince) >= w.o.IdleExit {
			w.log.Info("nothing left to do")
			return nil
		}
		busy -= w.rest(ctx, wait, idleSince, busy)
		if ctx.Err() != nil {
			return nil
		}
	}
}

// rest waits for time to pass or a slot to get free, and returns how many did.
func (w *worker) rest(ctx context.Context, wait time.Duration, idleSince time.Time, busy int) (freed int) {
	if busy == 0 { // not longer than until the idle exit is due
		wait = min(wait, max(time.Until(idleSince.Add(w.o.IdleExit)), time.Millisecond))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return 0
	case <-timer.C:
		return 0
	case <-w.freed:
	}
	for freed = 1; ; freed++ { // those that ended meanwhile, so that one claim fills all
		select {
		case <-w.freed:
		default:
			return freed
		}
	}
}

// patience bounds how long the database may be away.
func (w *worker) patience(awaySince time.Time, err error) (time.Time, error) {
	switch {
	case err == nil:
		return time.Time{}, nil
	case awaySince.IsZero():
		w.log.Warn("the queue cannot be read", "error", err)
		return time.Now(), nil
	case time.Since(awaySince) < w.o.DatabasePatience:
		return awaySince, nil
	}
	return awaySince, fmt.Errorf("the database has been away for %s: %w", w.o.DatabasePatience, err)
}

// begin starts a goroutine for each claimed recording. Each has a lease and a context that ends with the lease.
func (w *worker) begin(ctx context.Context, recs []store.Recording) {
	for i := range recs {
		rec := &recs[i]
		recCtx, cancel := context.WithCancelCause(ctx)
		w.leases.add(rec.ID, w.o.Lease, cancel)
		w.metrics.active.Inc()
		episode := w.trouble.episode()
		w.wg.Go(func() {
			defer func() {
				w.leases.remove(rec.ID)
				cancel(nil)
				w.metrics.active.Dec()
				w.freed <- struct{}{}
			}()
			w.work(recCtx, rec, episode)
		})
	}
}

// work moves one recording and settles it in the queue.
func (w *worker) work(ctx context.Context, rec *store.Recording, episode int) {
	begun := time.Now()
	ctx, span := w.trace(ctx, rec, begun)
	defer span.End()
	moveCtx, cancel := context.WithTimeoutCause(ctx, w.o.TransferTimeout, errTransferTimeout)
	result, err := w.mover.move(moveCtx, rec)
	cancel()
	log := tracing.Logger(ctx, w.log).With("recording", rec.ID, "call", rec.CallSID, "attempt", rec.Attempts+1)
	if err == nil {
		w.trouble.over()
		w.complete(ctx, log, rec, result, time.Since(begun))
		return
	}
	var f *fault
	switch {
	case errors.Is(err, errTransferTimeout):
		f = brokenFault(
			"the recording took longer than %s to come through; it will be tried again", w.o.TransferTimeout,
		)
	case errors.Is(err, errLeaseLost), errors.Is(err, store.ErrLeaseLost):
		w.metrics.end("LeaseLost")
		tracing.Fail(span, "LeaseLost")
		log.Info("somebody else holds the recording now")
		return
	case ctx.Err() != nil:
		tracing.Fail(span, "Released")
		w.giveBack([]store.Recording{*rec})
		return
	default:
		f = asFault(err)
	}
	w.settleFault(ctx, log, rec, f, episode)
}

var errTransferTimeout = errors.New("the transfer took too long")

// complete records the uploaded object. If the database does not answer in time, the lease expires and another pod
// verifies the object.
func (w *worker) complete(
	ctx context.Context, log *slog.Logger, rec *store.Recording, r *store.Result, took time.Duration,
) {
	settleCtx, span := settling(ctx)
	err := w.settle(settleCtx, func(ctx context.Context) error { return w.db.Complete(ctx, w.o.Owner, rec.ID, *r) })
	if settled(span, err); err != nil {
		// The object is there and the row is not told: the next attempt finds the object, compares and completes.
		w.metrics.end("Unsettled")
		log.Warn("uploaded, but the queue could not be told", "error", err)
		return
	}
	trace.SpanFromContext(ctx).SetAttributes(attribute.Int64("caly.object.size", r.Size))
	w.metrics.uploaded(ctx, r.Size, took)
	log.Info("uploaded", "key", r.Key, "bytes", r.Size, "took", took.Round(time.Millisecond))
}

// settleFault records a failed attempt. After a fault of the whole tenant or of its settings the
// worker pauses: as long as the fault asks, at least FaultPause and otherwise at most two minutes.
func (w *worker) settleFault(ctx context.Context, log *slog.Logger, rec *store.Recording, f *fault, episode int) {
	wait := w.o.FaultPause
	if f.kind == tenantWide || f.kind == misconfigured {
		wait = max(wait, min(f.wait, 2*time.Minute))
		w.trouble.add(f, episode, time.Now().Add(wait))
	}
	decision := decide(*rec, f, time.Now(), wait)
	w.metrics.end(f.code)
	log = log.With("code", f.code, "reason", f.text)
	if f.code == reason.StorageUnavailable && f.cause != nil {
		log = log.With("cause", objectstore.Detail(f.cause))
	}
	if f.detail != "" {
		log = log.With("cause", f.detail)
	}
	tracing.Fail(trace.SpanFromContext(ctx), f.code)
	settleCtx, span := settling(ctx)
	err := w.settle(settleCtx, func(ctx context.Context) error {
		if decision.Fail {
			return w.db.Fail(ctx, w.o.Owner, rec.ID, f.code, f.text)
		}
		return w.db.RetryLater(ctx, w.o.Owner, rec.ID, store.LaterAttempt{
			At:      decision.At,
			Code:    f.code,
			Message: f.text,
			Counted: decision.Count,
		})
	})
	settled(span, err)
	switch {
	case err != nil:
		log.Warn("not uploaded, and the queue could not be told", "error", err)
	case decision.Fail:
		log.Error("failed")
		if err := w.mover.discard(ctx, rec); err != nil {
			log.Warn("what the bucket may hold of it could not be removed", "error", err)
		}
	default:
		log.Info("not uploaded yet", "again", decision.At.UTC().Format(time.RFC3339))
	}
}
