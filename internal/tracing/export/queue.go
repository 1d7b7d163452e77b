package export

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// Bounds of the queue. The SDK's own processor has no count of what it drops.
const (
	maxQueued = 1024 // spans
	maxBatch  = 256  // spans in one request
	tries     = 3    // requests for one batch
)

// times of the queue; tests have shorter ones.
type times struct {
	// gather is how long the first span of a batch waits for others.
	gather time.Duration
	// request bounds one request.
	request time.Duration
	// retry is the wait before the second request for a batch. Before the third it is twice as long.
	retry time.Duration
	// quiet is the time between two log lines.
	quiet time.Duration
}

var defaultTimes = times{
	gather:  2 * time.Second,
	request: 10 * time.Second,
	retry:   time.Second,
	quiet:   time.Minute,
}

// queue takes spans that ended and exports them in one goroutine. A span that finds no room is dropped: no caller ever
// waits. It implements sdk.SpanProcessor.
type queue struct {
	spans    chan sdk.ReadOnlySpan
	exporter sdk.SpanExporter
	times    times
	log      *slog.Logger
	outcomes *prometheus.CounterVec

	exported, dropped, failed, rejected prometheus.Counter

	// closing is closed when Shutdown begins. ctx is that of all requests, and ends when Shutdown is out of patience.
	closing  chan struct{}
	closed   atomic.Bool
	ended    chan struct{}
	ctx      context.Context
	cancel   context.CancelFunc
	shutdown sync.Once

	// Of the goroutine of run.
	logged  time.Time
	refused int // spans of the request in progress that the collector did not take
}

// newQueue returns a queue without a goroutine; run starts it.
func newQueue(log *slog.Logger, t times) *queue {
	outcomes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caly_trace_spans_total",
		Help: "Spans of sampled traces, by what became of them: exported, dropped (the queue was full), failed (the " +
			"collector did not take them), rejected (it took the request and not the span).",
	}, []string{"outcome"})
	q := &queue{
		spans:    make(chan sdk.ReadOnlySpan, maxQueued),
		times:    t,
		log:      log,
		outcomes: outcomes,
		exported: outcomes.WithLabelValues("exported"),
		dropped:  outcomes.WithLabelValues("dropped"),
		failed:   outcomes.WithLabelValues("failed"),
		rejected: outcomes.WithLabelValues("rejected"),
		closing:  make(chan struct{}),
		ended:    make(chan struct{}),
	}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	return q
}

// OnStart has nothing to do.
func (q *queue) OnStart(context.Context, sdk.ReadWriteSpan) {}

// OnEnd queues a span.
func (q *queue) OnEnd(s sdk.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if q.closed.Load() {
		q.dropped.Inc()
		return
	}
	select {
	case q.spans <- s:
	default:
		q.dropped.Inc()
	}
}

// ForceFlush has nothing to do: the queue is never longer than times.gather, unless the collector is slow.
func (q *queue) ForceFlush(context.Context) error { return nil }

// Shutdown exports what is queued, for as long as ctx allows.
func (q *queue) Shutdown(ctx context.Context) error {
	q.shutdown.Do(func() {
		q.closed.Store(true)
		close(q.closing)
		stop := context.AfterFunc(ctx, q.cancel)
		<-q.ended // soon after ctx at the latest, since no request outlives q.ctx
		stop()
		q.cancel()
		_ = q.exporter.Shutdown(context.WithoutCancel(ctx)) // closes connections and waits for nothing
	})
	return nil
}

// run exports until Shutdown.
func (q *queue) run() {
	defer close(q.ended)
	batch := make([]sdk.ReadOnlySpan, 0, maxBatch)
	for more := true; more; clear(batch) {
		batch, more = q.take(batch[:0])
		if len(batch) > 0 {
			q.export(batch)
		}
	}
}

// take returns the next batch. It reports false with the last one.
func (q *queue) take(batch []sdk.ReadOnlySpan) ([]sdk.ReadOnlySpan, bool) {
	select {
	case s := <-q.spans:
		batch = append(batch, s)
	case <-q.closing:
		return q.rest(batch)
	}
	timer := time.NewTimer(q.times.gather)
	defer timer.Stop()
	for len(batch) < maxBatch {
		select {
		case s := <-q.spans:
			batch = append(batch, s)
		case <-timer.C:
			return batch, true
		case <-q.closing:
			return q.rest(batch)
		}
	}
	return batch, true
}

// rest takes what is queued, without waiting.
func (q *queue) rest(batch []sdk.ReadOnlySpan) ([]sdk.ReadOnlySpan, bool) {
	for len(batch) < maxBatch {
		select {
		case s := <-q.spans:
			batch = append(batch, s)
		default:
			return batch, false
		}
	}
	return batch, true
}

// export sends a batch, again if that may help. While Shutdown waits there is one try.
func (q *queue) export(batch []sdk.ReadOnlySpan) {
	wait := q.times.retry
	for try := 1; ; try++ {
		err := q.exporter.ExportSpans(q.ctx, batch)
		if err == nil {
			refused := min(q.refused, len(batch))
			q.refused = 0
			q.rejected.Add(float64(refused))
			q.exported.Add(float64(len(batch) - refused))
			return
		}
		var why *exportError
		again := errors.As(err, &why) && why.again
		if !again || try == tries || !q.pause(max(wait, why.after)) {
			q.failed.Add(float64(len(batch)))
			if q.mayLog() {
				q.log.Warn("traces are not exported: the spans are lost", "reason", err.Error())
			}
			return
		}
		wait *= 2
	}
}

// pause reports false if Shutdown began.
func (q *queue) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-q.closing:
		return false
	}
}

// reject notes spans of the request in progress that the collector did not take. It may say any number.
func (q *queue) reject(spans int64, message string) {
	q.refused = int(min(spans, maxBatch))
	if q.mayLog() {
		q.log.Warn("the collector rejects spans", "reason", message)
	}
}

// mayLog reports whether a line may be logged: one in times.quiet. Only the goroutine of run calls it.
func (q *queue) mayLog() bool {
	now := time.Now()
	if now.Sub(q.logged) < q.times.quiet {
		return false
	}
	q.logged = now
	return true
}
