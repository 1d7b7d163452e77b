package webhook

import "sync"

// Bounds of one transaction. A larger batch gains nothing more and delays the events in it.
const (
	maxBatch      = 128     // events
	maxBatchBytes = 4 << 20 // of bodies; one event may be as long as a body may be
)

// fairQueue holds the events that wait for a transaction. A batch takes one event of each waiting tenant in turn, so
// the wait of a tenant's event does not depend on the number of events of another tenant. The queue holds only events
// of webhooks in progress, whose number is bounded.
type fairQueue struct {
	mu      sync.Mutex
	filled  *sync.Cond // an event was added, or the queue was closed
	tenants map[string]*tenantQueue
	// first and last of the tenants in tenants, in the order of their turns.
	first, last *tenantQueue
	waiting     int // events
	closed      bool
	unused      []*tenantQueue
}

// tenantQueue holds the waiting events of one tenant, in their order of arrival.
type tenantQueue struct {
	tenant      string
	first, last *pending
	next        *tenantQueue // in the order of turns
}

func newFairQueue() *fairQueue {
	q := &fairQueue{tenants: map[string]*tenantQueue{}}
	q.filled = sync.NewCond(&q.mu)
	return q
}

// close makes take return no batch once the queue is empty.
func (q *fairQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.filled.Broadcast()
}

// add reports false if the queue is closed.
func (q *fairQueue) add(p *pending) bool {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	of := q.tenants[p.event.Tenant]
	if of == nil {
		of = q.newTenant(p.event.Tenant)
	}
	of.push(p)
	q.waiting++
	q.mu.Unlock()
	q.filled.Signal()
	return true
}

// remove takes an event out whose handler has given up. It has no effect on an event that is in a batch.
func (q *fairQueue) remove(p *pending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p.queue != nil {
		p.queue.remove(p) // an empty queue of a tenant is dropped in its turn
		q.waiting--
	}
}

// take waits for events and appends as many as one transaction may have. It appends none once the queue is closed and
// empty.
func (q *fairQueue) take(batch []*pending) []*pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.waiting == 0 && !q.closed {
		q.filled.Wait()
	}
	for bytes := 0; q.waiting > 0 && len(batch) < maxBatch && bytes < maxBatchBytes; {
		if p := q.next(); p != nil {
			batch = append(batch, p)
			bytes += len(p.event.Raw)
		}
	}
	return batch
}

// next returns an event of the tenant whose turn it is; nil if that tenant's events were all removed.
func (q *fairQueue) next() *pending {
	of := q.first
	if q.first = of.next; q.first == nil {
		q.last = nil
	}
	p := of.shift()
	if p != nil {
		q.waiting--
	}
	if of.first != nil {
		q.append(of)
		return p
	}
	delete(q.tenants, of.tenant)
	*of = tenantQueue{}
	q.unused = append(q.unused, of)
	return p
}

// newTenant adds the queue of a tenant that has none. Its turn comes last.
func (q *fairQueue) newTenant(id string) *tenantQueue {
	var of *tenantQueue
	if n := len(q.unused); n > 0 {
		of, q.unused = q.unused[n-1], q.unused[:n-1]
	} else {
		of = new(tenantQueue)
	}
	of.tenant = id
	q.tenants[id] = of
	q.append(of)
	return of
}

func (q *fairQueue) append(of *tenantQueue) {
	of.next = nil
	if q.last == nil {
		q.first = of
	} else {
		q.last.next = of
	}
	q.last = of
}

// oldest returns when the oldest waiting event was queued, in Unix nanoseconds; 0 if none waits.
func (q *fairQueue) oldest() (at int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, of := range q.tenants {
		if p := of.first; p != nil && (at == 0 || p.queued < at) {
			at = p.queued
		}
	}
	return at
}

func (of *tenantQueue) push(p *pending) {
	p.queue = of
	if of.last == nil {
		of.first = p
	} else {
		of.last.next = p
	}
	of.last = p
}

func (of *tenantQueue) shift() *pending {
	p := of.first
	if p != nil {
		of.unlink(nil, p)
	}
	return p
}

// remove finds an event. Those that give up are mostly the oldest, which come first.
func (of *tenantQueue) remove(p *pending) {
	var before *pending
	for at := of.first; at != p; at = at.next {
		before = at
	}
	of.unlink(before, p)
}

func (of *tenantQueue) unlink(before, p *pending) {
	if before == nil {
		of.first = p.next
	} else {
		before.next = p.next
	}
	if of.last == p {
		of.last = before
	}
	p.queue, p.next = nil, nil
}
