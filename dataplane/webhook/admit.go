package webhook

import (
	"container/list"
	"net/http"
	"sync"
	"time"

	"github.com/caly-dev/caly/dataplane/problem"
)

// patience with a body while others wait at the gate.
const patience = time.Second

// gate bounds the webhooks in work. When it is full, whoever has been sending a body for longer than patience gives up its
// place: senders of slow bodies cannot keep the others out.
type gate struct {
	mu      sync.Mutex
	room    int
	inWork  int
	readers *list.List // of visits whose body is still to come, the oldest in front
}

// visit is one webhook in work.
type visit struct {
	gate  *gate
	w     http.ResponseWriter
	since time.Time
	place *list.Element // nil once its body is there, or it was sent away
}

func newGate(room int) *gate { return &gate{room: room, readers: list.New()} }

// enter returns a problem when the gate is full. Otherwise leave must follow.
func (g *gate) enter(w http.ResponseWriter) (*visit, error) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inWork >= g.room && !g.sendAway(now) {
		return nil, problem.New(problem.Unavailable, "there is more to do than can be done now; send this again").WithRetryAfter(time.Second)
	}
	g.inWork++
	v := &visit{gate: g, w: w, since: now}
	v.place = g.readers.PushBack(v)
	return v, nil
}

// sendAway breaks off the oldest body that is overdue.
func (g *gate) sendAway(now time.Time) bool {
	front := g.readers.Front()
	if front == nil {
		return false
	}
	v := front.Value.(*visit) //nolint:forcetypeassert // nothing else is in the list
	if now.Sub(v.since) < patience {
		return false
	}
	// While the lock is held the handler has not returned, so the connection is still its own.
	_ = http.NewResponseController(v.w).SetReadDeadline(now)
	v.forget()
	return true
}

func (g *gate) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inWork
}

func (v *visit) forget() {
	if v.place != nil {
		v.gate.readers.Remove(v.place)
		v.place = nil
	}
}

// arrived says that the body is there.
func (v *visit) arrived() {
	v.gate.mu.Lock()
	defer v.gate.mu.Unlock()
	v.forget()
}

func (v *visit) leave() {
	v.gate.mu.Lock()
	defer v.gate.mu.Unlock()
	v.forget()
	v.gate.inWork--
}
