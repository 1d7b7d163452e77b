package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caly-dev/caly/internal/store"
)

// Bounds of one transaction. A batch beyond them gains nothing more and makes those in it wait.
const (
	maxBatch      = 128     // events
	maxBatchBytes = 4 << 20 // of bodies; one event may be as long as a body may be
)

// commitTimeout bounds one transaction.
const commitTimeout = 10 * time.Second

// Ingester keeps and applies events in one transaction. Its errors are those of store.IngestBatch.
type Ingester interface {
	IngestBatch(context.Context, []store.Event) ([]store.Outcome, error)
}

// committer lets concurrent handlers share transactions. There is no timer: whatever waits when a commit returns goes into the next
// one, so that a lone event is not delayed and a flood costs few commits.
type committer struct {
	store       Ingester
	log         *slog.Logger
	m           *metrics
	queue       chan *pending
	since       []atomic.Int64 // by worker: when the first event of its batch was queued, in Unix nanoseconds; 0 without a batch
	stop, ended chan struct{}
	once        sync.Once
	wg          sync.WaitGroup
}

// pending is one event on its way.
type pending struct {
	event  store.Event
	queued time.Time
	done   chan result // has room for the one result, so that nobody waits for a handler that has gone
	gone   atomic.Bool // the handler has told the sender to come again
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

// newCommitter makes one with so many transactions at once and room for so many events to wait. It must be closed.
func newCommitter(s Ingester, workers, room int, log *slog.Logger, m *metrics) *committer {
	c := &committer{store: s, log: log, m: m, queue: make(chan *pending, room), since: make([]atomic.Int64, workers),
		stop: make(chan struct{}), ended: make(chan struct{})}
	for i := range workers {
		c.wg.Go(func() { c.work(&c.since[i]) })
	}
	return c
}

// close ends once what was queued is settled. A commit that comes later fails.
func (c *committer) close() {
	c.once.Do(func() {
		close(c.stop)
		c.wg.Wait()
		close(c.ended)
	})
}

// commit returns after COMMIT, or with an error after which the sender must come again.
func (c *committer) commit(ctx context.Context, e store.Event) (store.Outcome, error) {
	p := &pending{event: e, queued: time.Now(), done: make(chan result, 1)}
	select {
	case c.queue <- p:
	case <-c.ended:
		return 0, errClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case r := <-p.done:
		return r.outcome, r.err
	case <-c.ended:
	case <-ctx.Done(): // it may be committed all the same, which is harmless: the repeat is a duplicate
		p.gone.Store(true)
		return 0, ctx.Err()
	}
	select {
	case r := <-p.done:
		return r.outcome, r.err
	default: // queued when the last worker had looked
		return 0, errClosed
	}
}

// oldest is how long the oldest event has waited, in seconds. The queue is in order, so a worker always has it.
func (c *committer) oldest() float64 {
	var longest time.Duration
	for i := range c.since {
		if at := c.since[i].Load(); at != 0 {
			longest = max(longest, time.Since(time.Unix(0, at)))
		}
	}
	return longest.Seconds()
}

func (c *committer) work(since *atomic.Int64) {
	batch := make([]*pending, 0, maxBatch)
	for p := c.next(); p != nil; p = c.next() {
		batch = c.gather(append(batch[:0], p))
		since.Store(p.queued.UnixNano())
		c.m.batch.Observe(float64(len(batch)))
		c.settle(batch)
		since.Store(0)
		clear(batch)
	}
}

// next waits for an event; nil once the committer is closed and nothing waits any longer.
func (c *committer) next() *pending {
	for {
		select {
		case p := <-c.queue:
			if !p.gone.Load() {
				return p
			}
		case <-c.stop:
			return c.waiting()
		}
	}
}

// waiting returns an event if one waits whose handler does too.
func (c *committer) waiting() *pending {
	for {
		select {
		case p := <-c.queue:
			if !p.gone.Load() {
				return p
			}
		default:
			return nil
		}
	}
}

// gather takes what waits, without waiting.
func (c *committer) gather(batch []*pending) []*pending {
	bytes := len(batch[0].event.Raw)
	for len(batch) < maxBatch && bytes < maxBatchBytes {
		p := c.waiting()
		if p == nil {
			break
		}
		batch = append(batch, p)
		bytes += len(p.event.Raw)
	}
	return batch
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
		c.log.Error("events could not be kept", "events", len(batch), "tenant", batch[0].event.Tenant, "call", batch[0].event.CallSID, "error", err)
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
		if o == store.Replayed {
			c.log.Warn("ignored a webhook whose signed bytes or webhook-id were received before as another event",
				"tenant", events[i].Tenant, "call", events[i].CallSID, "kind", events[i].Kind)
		}
		if o == store.Dead {
			c.log.Warn("kept an event that cannot be applied", "tenant", events[i].Tenant, "call", events[i].CallSID, "reason", events[i].DeadReason)
		}
	}
	return outcomes, nil
}

// bury keeps an event as received, without what was read from it: that may be what the database refuses.
func (c *committer) bury(e store.Event, reason string, err error) store.Event {
	c.log.Error("an event cannot be applied", "tenant", e.Tenant, "call", e.CallSID, "error", err)
	e.DeadReason, e.Call, e.Recordings, e.Stream = reason, store.Call{}, nil, nil
	return e
}
