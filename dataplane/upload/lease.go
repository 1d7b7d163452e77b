package upload

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/caly-dev/caly/internal/store"
)

var errLeaseLost = errors.New("the lease was lost")

// leases are those that this worker believes it holds.
type leases struct {
	mu   sync.Mutex
	held map[string]*lease
}

type lease struct {
	cancel context.CancelCauseFunc
	until  time.Time
}

// newLeases returns an empty set.
func newLeases() *leases { return &leases{held: map[string]*lease{}} }

// add registers a lease of length d from now. cancel stops the transfer when the lease is lost.
func (l *leases) add(id string, d time.Duration, cancel context.CancelCauseFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[id] = &lease{cancel, time.Now().Add(d)}
}

// remove drops the lease of a recording that has ended.
func (l *leases) remove(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, id)
}

// ids returns the recordings with a lease, in no order.
func (l *leases) ids() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]string, 0, len(l.held))
	for id := range l.held {
		ids = append(ids, id)
	}
	return ids
}

// renewed notes an answer to a heartbeat for asked: those not confirmed are somebody else's, and their transfers end.
func (l *leases) renewed(asked, confirmed []string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	still := map[string]bool{}
	for _, id := range confirmed {
		still[id] = true
	}
	for _, id := range asked {
		if lease := l.held[id]; lease != nil && still[id] {
			lease.until = until
		} else if lease != nil {
			lease.cancel(errLeaseLost)
		}
	}
}

// expire ends the transfers whose lease has run out unrenewed: another worker may have them.
func (l *leases) expire(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.held {
		if now.After(h.until) {
			h.cancel(errLeaseLost)
		}
	}
}

// heartbeats renews all leases in one statement, at every third of their length, until done is closed. It goes on while
// the worker ends: a transfer that is being settled still needs its lease.
func (w *worker) heartbeats(done <-chan struct{}) {
	every := w.o.Lease / 3
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			w.beat(every)
			w.reportRetries()
		}
	}
}

// beat extends all leases in one statement, and cancels the transfers whose lease another pod has taken.
// If the database does not answer, it cancels those whose lease is over.
func (w *worker) beat(limit time.Duration) {
	ids := w.leases.ids()
	if len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	sent := time.Now() // the database counts from when it got the statement, which is later
	held, err := w.db.Heartbeat(ctx, w.o.Owner, ids, w.o.Lease)
	if err != nil {
		w.log.Warn("leases could not be renewed", "error", err)
		w.leases.expire(time.Now())
		return
	}
	w.leases.renewed(ids, held, sent.Add(w.o.Lease))
}

// settle tells the queue how a recording ended. It does not end with ctx, since the work is done, but tries for less long
// then; while the database is away it tries for as long as a lease lasts.
func (w *worker) settle(ctx context.Context, tell func(context.Context) error) error {
	limit := w.o.Lease
	if ctx.Err() != nil {
		limit = min(limit, 5*time.Second)
	}
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := tell(detached)
		if err == nil || !errors.Is(err, store.ErrUnavailable) || pause(detached, wait) != nil {
			return err
		}
	}
}

// giveBack notes leases to hand back when the worker ends.
func (w *worker) giveBack(recs []store.Recording) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range recs {
		w.returned = append(w.returned, r.ID)
	}
}

// handBack returns leases at once, so that nobody waits for them to run out.
func (w *worker) handBack() {
	if len(w.returned) == 0 {
		return
	}
	w.log.Info("handing recordings back", "count", len(w.returned))
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // as for any other settling at the end: briefly
	if err := w.settle(
		ctx, func(ctx context.Context) error { return w.db.Release(ctx, w.o.Owner, w.returned) },
	); err != nil {
		w.log.Warn("leases could not be handed back; they run out by themselves", "error", err)
	}
}
