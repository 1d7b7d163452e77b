package webhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caly-dev/caly/internal/store"
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

// panicError is a defect of the store. It is answered, so that one event does not end the process for all.
type panicError struct{ value any }

// Error says what it was.
func (e *panicError) Error() string { return fmt.Sprintf("the store panicked: %v", e.value) }

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

// oldest is how long the oldest event has waited, in seconds: in the queue or in a batch.
func (c *committer) oldest() float64 {
	now := time.Now().UnixNano()
	first := now
	if at := c.queue.oldest(); at != 0 {
		first = at
	}
	for i := range c.since {
		if at := c.since[i].Load(); at != 0 {
			first = min(first, at)
		}
	}
	return time.Duration(now - first).Seconds()
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

// settle commits a batch and wakes its handlers. When it is refused for something in it, each half is tried by itself, until the
// event that is at fault stands alone and is kept as a dead one.
func (c *committer) settle(batch []*pending) {
	outcomes, err := c.ingest(batch)
	var broken *panicError
	reason := store.DeadReason(err)
	switch {
	case err == nil:
		for i, p := range batch {
			p.done <- result{outcome: outcomes[i]}
		}
	case len(batch) > 1 && (reason != "" || errors.As(err, &broken)):
		c.settle(batch[:len(batch)/2])
		c.settle(batch[len(batch)/2:])
	case reason != "" && batch[0].event.DeadReason == "":
		batch[0].event = c.bury(batch[0].event, reason, err)
		c.settle(batch)
	default:
		c.log.Error("events could not be kept",
			"events", len(batch),
			"tenant", batch[0].event.Tenant,
			"call", batch[0].event.CallSID,
			"error", err,
		)
		for _, p := range batch {
			p.done <- result{err: err}
		}
	}
}

func (c *committer) ingest(batch []*pending) (outcomes []store.Outcome, err error) {
	events := make([]store.Event, len(batch))
	for i, p := range batch {
		events[i] = p.event
	}
	defer func() {
		if v := recover(); v != nil {
			c.log.Error("the store panicked", "panic", v, "stack", string(debug.Stack()))
			err = &panicError{v}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	if outcomes, err = c.store.IngestBatch(ctx, events); err != nil {
		return nil, err
	}
	for i, o := range outcomes {
		if o == store.Applied {
			c.m.unreadFields(events[i].Unread)
		}
		if o == store.Replayed {
			c.log.Warn("ignored a webhook whose signed bytes or webhook-id were received before as another kind",
				"tenant", events[i].Tenant, "call", events[i].CallSID, "kind", events[i].Kind)
		}
		if o == store.Dead {
			c.log.Warn("kept an event that cannot be applied",
				"tenant", events[i].Tenant,
				"call", events[i].CallSID,
				"reason", events[i].DeadReason,
			)
		}
	}
	return outcomes, nil
}

// bury returns an event that the database refuses without its recordings, if those are why, or else as a dead one
// without what was read
// from it.
func (c *committer) bury(e store.Event, reason string, err error) store.Event {
	if errors.Is(err, store.ErrTooManyRecordings) && len(e.Recordings) > 0 {
		return e.WithoutRecordings()
	}
	c.log.Error("an event cannot be applied", "tenant", e.Tenant, "call", e.CallSID, "error", err)
	e.DeadReason = reason
	e.Call = store.Call{}
	e.Recordings = nil
	e.Stream = nil
	e.Unread = nil
	e.Stage = store.CallUnknown
	e.Assumed = false
	e.Legs = nil
	return e
}
