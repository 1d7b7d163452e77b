package webhook

import (
	"sync"

	"github.com/caly-dev/caly/internal/fair"
)

// Bounds of one transaction. A larger batch gains nothing more and delays the events in it.
const (
	maxBatch      = 128     // events
	maxBatchBytes = 4 << 20 // of bodies; one event may be as long as a body may be
)

// queue holds the events that wait for a transaction. A batch takes one event of each waiting tenant in turn. The queue
// holds only events of webhooks in progress, whose number is bounded.
type queue struct {
	mu     sync.Mutex
	filled *sync.Cond // an event was added, or the queue was closed
	events fair.Queue[*pending]
	closed bool
}

func newQueue() *queue {
	q := &queue{}
	q.filled = sync.NewCond(&q.mu)
	return q
}

// close makes take return no batch once the queue is empty.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.filled.Broadcast()
}

// add reports false if the queue is closed.
func (q *queue) add(tenant string, p *pending) bool {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.events.Push(tenant, p)
	q.mu.Unlock()
	q.filled.Signal()
	return true
}

// remove takes an event out whose handler has given up. It has no effect on an event that is in a batch.
func (q *queue) remove(tenant string, p *pending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.events.Remove(tenant, p)
}

// take waits for events and appends as many as one transaction may have. It appends none once the queue is closed and
// empty.
func (q *queue) take(batch []*pending) []*pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.events.Len() == 0 && !q.closed {
		q.filled.Wait()
	}
	for bytes := 0; len(batch) < maxBatch && bytes < maxBatchBytes; {
		p, ok := q.events.Pop()
		if !ok {
			break
		}
		batch = append(batch, p)
		bytes += len(p.event.Raw)
	}
	return batch
}

// oldest returns when the oldest waiting event was queued, in Unix nanoseconds; 0 if none waits.
func (q *queue) oldest() (at int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for p := range q.events.Oldest() {
		if at == 0 || p.queued < at {
			at = p.queued
		}
	}
	return at
}
