package ratelimit

import (
	"sync"

	"github.com/caly-dev/caly/internal/store"
)

// ticket is what tries share a flight by.
type ticket struct {
	key   hash
	limit Limit
}

// flights have one question of each key on its way to the database at a time. Tries that come meanwhile share the next one: however
// many come at once, a pod never queues for a row's lock behind itself, nor takes a connection for each.
type flights struct {
	mu      sync.Mutex
	waiting map[ticket]*flight // the next of each key that has one on its way; nil while nobody waits for it
}

// flight is one question for as many hits as tries share it.
type flight struct {
	tries int
	turn  chan struct{} // closed when it may start
	done  chan struct{} // closed when taken and err are there
	taken store.HitsTaken
	err   error
}

func newFlight() *flight { return &flight{turn: make(chan struct{}), done: make(chan struct{})} }

// join adds a try to the flight that goes next, and returns its place there. Who has place 0 flies it.
func (f *flights) join(t ticket) (*flight, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next, busy := f.waiting[t]
	if !busy {
		fl := newFlight()
		fl.tries = 1
		close(fl.turn)
		f.waiting[t] = nil
		return fl, 0
	}
	if next == nil {
		next = newFlight()
		f.waiting[t] = next
	}
	next.tries++
	return next, next.tries - 1
}

// fly asks, once it is the flight's turn, and then lets the next one go.
func (f *flights) fly(t ticket, fl *flight, ask func(tries int) (store.HitsTaken, error)) {
	<-fl.turn
	defer close(fl.done)
	defer f.land(t)
	fl.taken, fl.err = ask(fl.tries)
}

// land ends the time in which a caller can join the next flight.
func (f *flights) land(t ticket) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.waiting[t]
	if next == nil {
		delete(f.waiting, t)
		return
	}
	f.waiting[t] = nil
	close(next.turn)
}
