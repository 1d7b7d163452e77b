package webhook

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caly-dev/caly/internal/ingest"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tracing"
)

// commitTimeout bounds one transaction.
const commitTimeout = 10 * time.Second

// Ingester keeps and applies events in one transaction. Its errors are those of store.IngestBatch.
type Ingester interface {
	IngestBatch(context.Context, []store.Event) ([]store.Outcome, error)
}

// committer lets concurrent handlers share transactions. No timer runs: the events that wait when a commit returns
// are in the next one, so a lone event is not delayed and a flood costs few commits. If more events wait than one
// transaction takes, the tenants take turns.
type committer struct {
	store Ingester
	log   *slog.Logger
	m     *metrics
	queue *queue
	// since is, by worker, when the oldest event of its batch was queued, in Unix nanoseconds; 0 without a batch.
	since []atomic.Int64
	wg    sync.WaitGroup
}

// pending is one event on its way.
type pending struct {
	event  store.Event
	queued int64       // in Unix nanoseconds
	done   chan result // has room for the one result, so that no worker waits for a handler that has given up
}

type result struct {
	outcome store.Outcome
	err     error
}

var errClosed = errors.New("the data plane is shutting down")

// newCommitter makes a committer with this many transactions at once. It must be closed.
func newCommitter(s Ingester, workers int, log *slog.Logger, m *metrics) *committer {
	c := &committer{store: s, log: log, m: m, queue: newQueue(), since: make([]atomic.Int64, workers)}
	for i := range workers {
		c.wg.Go(func() { c.work(&c.since[i]) })
	}
	return c
}

// close ends once what was queued is settled. A commit that comes later fails.
func (c *committer) close() {
	c.queue.close()
	c.wg.Wait()
}

// commit returns after COMMIT, or with an error after which the sender must come again.
func (c *committer) commit(ctx context.Context, e store.Event) (store.Outcome, error) {
	outcomes, err := c.commitAll(ctx, []store.Event{e})
	if err != nil {
		return 0, err
	}
	return outcomes[0], nil
}

// commitAll returns after all events are committed, perhaps in several transactions. After an error some of them may be
// committed, and the sender must send all again.
func (c *committer) commitAll(ctx context.Context, events []store.Event) ([]store.Outcome, error) {
	all := make([]*pending, 0, len(events))
	now := time.Now().UnixNano()
	for i := range events {
		p := &pending{event: events[i], queued: now, done: make(chan result, 1)}
		if all = append(all, p); !c.queue.add(events[i].Tenant, p) {
			return nil, errClosed
		}
	}
	outcomes := make([]store.Outcome, 0, len(events))
	var failed error
	for i := range events {
		r := c.wait(ctx, events[i].Tenant, all[i])
		outcomes = append(outcomes, r.outcome)
		failed = cmp.Or(failed, r.err)
	}
	if failed != nil {
		return nil, failed
	}
	return outcomes, nil
}

// wait returns the result of an event that is queued.
func (c *committer) wait(ctx context.Context, tenant string, p *pending) result {
	select {
	case r := <-p.done:
		return r
	case <-ctx.Done(): // a batch that has the event commits it, which is harmless: the repeat is a duplicate
		c.queue.remove(tenant, p)
		return result{err: ctx.Err()}
	}
}

// oldest returns when the oldest event was queued that is not committed; the zero time without one.
func (c *committer) oldest() time.Time {
	first := c.queue.oldest()
	for i := range c.since {
		if at := c.since[i].Load(); at != 0 && (first == 0 || at < first) {
			first = at
		}
	}
	if first == 0 {
		return time.Time{}
	}
	return time.Unix(0, first)
}

func (c *committer) work(since *atomic.Int64) {
	batch := make([]*pending, 0, maxBatch)
	for batch = c.queue.take(batch); len(batch) > 0; batch = c.queue.take(batch[:0]) {
		oldest := slices.MinFunc(batch, func(a, b *pending) int { return cmp.Compare(a.queued, b.queued) })
		since.Store(oldest.queued)
		c.m.batch.Observe(float64(len(batch)))
		c.settle(batch)
		since.Store(0)
		clear(batch)
	}
}

// settle commits a batch and wakes its handlers. An event that PostgreSQL refuses is stored as a dead one.
func (c *committer) settle(batch []*pending) {
	events := make([]store.Event, len(batch))
	for i, p := range batch {
		events[i] = p.event
	}
	_ = ingest.Settlement{
		Store: c.ingest,
		Settled: func(at int, events []store.Event, outcomes []store.Outcome, err error) error {
			c.answer(batch[at:at+len(events)], events, outcomes, err)
			return nil
		},
		Dead: func(e *store.Event, err error) {
			tracing.LoggerOf(e.Traceparent, c.log).Error("an event cannot be applied",
				"tenant", e.Tenant,
				"call", e.CallSID,
				"error", err,
			)
		},
	}.Settle(events) // Settled returns no error
}

func (c *committer) ingest(events []store.Event) ([]store.Outcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	return c.store.IngestBatch(ctx, events)
}

// answer wakes the handlers of events that are settled.
func (c *committer) answer(batch []*pending, events []store.Event, outcomes []store.Outcome, err error) {
	if err != nil {
		c.failed(events, err)
		for _, p := range batch {
			p.done <- result{err: err}
		}
		return
	}
	for i := range events {
		c.settled(&events[i], outcomes[i])
	}
	for i, p := range batch {
		p.done <- result{outcome: outcomes[i]}
	}
}

// failed logs why events could not be stored.
func (c *committer) failed(events []store.Event, err error) {
	var broken *ingest.PanicError
	if errors.As(err, &broken) {
		c.log.Error("the store panicked", "panic", broken.Value, "stack", string(broken.Stack))
	}
	tracing.LoggerOf(events[0].Traceparent, c.log).Error("events could not be kept",
		"events", len(events),
		"tenant", events[0].Tenant,
		"call", events[0].CallSID,
		"error", err,
	)
}

// settled counts and logs what became of an event.
func (c *committer) settled(e *store.Event, outcome store.Outcome) {
	switch outcome {
	case store.Applied:
		c.m.unreadFields(e.Unread)
	case store.Replayed:
		tracing.LoggerOf(
			e.Traceparent, c.log,
		).Warn("ignored a webhook whose signed bytes or webhook-id were received before as another kind",
			"tenant", e.Tenant,
			"call", e.CallSID,
			"kind", e.Kind,
		)
	case store.Dead:
		tracing.LoggerOf(e.Traceparent, c.log).Warn("kept an event that cannot be applied",
			"tenant", e.Tenant,
			"call", e.CallSID,
			"reason", e.DeadReason,
		)
	case store.Duplicate:
	}
}
