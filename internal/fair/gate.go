// Package fair shares a bounded number of places among tenants.
package fair

import (
	"container/list"
	"context"
	"errors"
	"sync"
)

// ErrBusy is returned to a key that has as many waiting callers as it may.
var ErrBusy = errors.New("too many requests of this tenant are waiting; retry later")

// Options of a Gate.
type Options struct {
	// Places is the number of callers that the gate admits at once; at least 1.
	Places int
	// PerKey is the number of places that one key may hold at once. The default is Share(Places).
	PerKey int
	// MaxWaiting is the number of callers of one key that may wait. Zero means unlimited.
	MaxWaiting int
}

// Share is the default bound on the places that one key may hold: a quarter, at least two where there are that many.
func Share(places int) int { return min(max(places/4, 2), max(places, 1)) }

// Gate admits a bounded number of callers at once. A key, such as a tenant's ID, holds at most its share of the
// places. Free places go round robin to the keys that wait, so the wait of a key does not depend on the number of
// callers of another key.
type Gate struct {
	o Options

	mu      sync.Mutex
	free    int
	held    map[string]int
	waiting map[string]*list.List // of *waiter, in their order of arrival; a key without waiters has no list
	turns   *list.List            // of the keys in waiting; the first has waited longest since its last turn
}

type waiter struct {
	admitted chan struct{}
	turn     *list.Element // in the list of its key; nil once it was admitted
}

// NewGate returns a gate without callers.
func NewGate(o Options) *Gate {
	o.Places = max(o.Places, 1)
	if o.PerKey <= 0 {
		o.PerKey = Share(o.Places)
	}
	return &Gate{o: o, free: o.Places, held: map[string]int{}, waiting: map[string]*list.List{}, turns: list.New()}
}

// Acquire waits for a place. The caller must call release once. Acquire returns ErrBusy at once if the key has as
// many waiting callers as it may, and the error of ctx if ctx ends first.
func (g *Gate) Acquire(ctx context.Context, key string) (release func(), err error) {
	waiter, err := g.enter(key)
	if err != nil {
		return nil, err
	}
	release = func() { g.leave(key) }
	if waiter == nil {
		return release, nil
	}
	select {
	case <-waiter.admitted:
		return release, nil
	case <-ctx.Done():
	}
	if g.giveUp(key, waiter) {
		return nil, ctx.Err()
	}
	release() // the place was granted at the same moment
	return nil, ctx.Err()
}

// TryAcquire takes a place if one is free for the key now.
func (g *Gate) TryAcquire(key string) (release func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.mayTake(key) {
		return nil, false
	}
	g.take(key)
	return func() { g.leave(key) }, true
}

// enter takes a place, or returns the waiter that waits for one.
func (g *Gate) enter(key string) (*waiter, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mayTake(key) {
		g.take(key)
		return nil, nil
	}
	queue := g.waiting[key]
	if queue == nil {
		queue = list.New()
		g.waiting[key] = queue
		g.turns.PushBack(key)
	}
	if g.o.MaxWaiting > 0 && queue.Len() >= g.o.MaxWaiting {
		return nil, ErrBusy
	}
	w := &waiter{admitted: make(chan struct{})}
	w.turn = queue.PushBack(w)
	return w, nil
}

// mayTake reports whether the key may have a place now. A key with waiters has none: they come first.
func (g *Gate) mayTake(key string) bool {
	return g.free > 0 && g.held[key] < g.o.PerKey && g.waiting[key] == nil
}

func (g *Gate) take(key string) {
	g.free--
	g.held[key]++
}

// leave returns a place and gives it to the next key that may have it.
func (g *Gate) leave(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free++
	if g.held[key]--; g.held[key] <= 0 {
		delete(g.held, key)
	}
	g.grant()
}

// grant gives free places to waiting keys in turn. A key that holds its share is skipped and keeps its turn.
func (g *Gate) grant() {
	for turn := g.turns.Front(); turn != nil && g.free > 0; {
		next := turn.Next()
		if key := turn.Value.(string); g.held[key] < g.o.PerKey { //nolint:forcetypeassert // turns holds keys alone
			g.take(key)
			g.admit(key, turn)
		}
		turn = next
	}
}

// admit wakes the first waiter of a key, which then goes to the end of the turns.
func (g *Gate) admit(key string, turn *list.Element) {
	queue := g.waiting[key]
	w := queue.Remove(queue.Front()).(*waiter) //nolint:forcetypeassert // a queue holds waiters alone
	w.turn = nil
	close(w.admitted)
	if queue.Len() > 0 {
		g.turns.MoveToBack(turn)
		return
	}
	delete(g.waiting, key)
	g.turns.Remove(turn)
}

// giveUp removes a waiter and reports whether it was still waiting.
func (g *Gate) giveUp(key string, w *waiter) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.turn == nil {
		return false
	}
	queue := g.waiting[key]
	queue.Remove(w.turn)
	w.turn = nil
	if queue.Len() > 0 {
		return true
	}
	delete(g.waiting, key)
	for turn := g.turns.Front(); turn != nil; turn = turn.Next() {
		if turn.Value == key {
			g.turns.Remove(turn)
			break
		}
	}
	return true
}

// Held returns the number of places that the key holds now.
func (g *Gate) Held(key string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held[key]
}
