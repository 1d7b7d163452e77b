// Package admission bounds the requests that are in progress, and how many of the places one client or tenant holds.
package admission

import (
	"container/list"
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// Reasons why a Gate has no place.
var (
	// errFull says that all places are taken.
	errFull = errors.New("all places are taken")
	// ErrShare says that the holder has its share of the places.
	ErrShare = errors.New("the client or the tenant has its share of the places")
)

// Options of a Gate.
type Options struct {
	// Places is the maximum number of requests in progress.
	Places int
	// Share bounds what one holder has: a holder that is alone has at most one in Share of the places. Of several
	// that want more, each has less, so that some places are always free for another holder. 0: one holder may have
	// all of them. 1 is not allowed.
	Share int
	// Patience is how long a peer may send its body or read its answer while others need the place; 1 s by default.
	Patience time.Duration
}

// Gate bounds the requests in progress. When there is no place for a request, the request whose peer has been
// sending or reading for longest gives up its own, if that took longer than Patience: slow peers cannot keep others
// out.
//
// Strangers, whose requests are not verified yet, have at most three quarters of the places. The others are for
// verified tenants.
type Gate struct {
	o Options

	mu        sync.Mutex
	taken     int
	strangers int
	held      map[string]int // places, by holder
	slow      *list.List     // of places whose peer controls the pace, the longest in front
	waiting   chan struct{}  // is closed when a place is given back; nil: nobody waits
	evicted   uint64
	refused   map[error]uint64
}

// New returns a Gate.
func New(o Options) *Gate {
	if o.Patience <= 0 {
		o.Patience = time.Second
	}
	return &Gate{o: o, held: map[string]int{}, slow: list.New(), refused: map[error]uint64{}}
}

// Place is one request in progress. The methods of a nil Place do nothing.
type Place struct {
	gate   *Gate
	w      http.ResponseWriter // of the peer; nil: it cannot be evicted
	holder Holder
	since  time.Time     // when the peer began to send or to read
	entry  *list.Element // nil unless the peer controls the pace
	sends  bool          // the peer is sent to; else it sends
	left   bool
}

// Enter returns a place for a request whose peer sends its body. Received or Leave must follow.
func (g *Gate) Enter(w http.ResponseWriter, holder Holder) (*Place, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	place, err := g.take(w, holder)
	if err != nil {
		return nil, err
	}
	place.wait(false)
	return place, nil
}

// Take returns a place for work that waits for no peer. Leave must follow.
func (g *Gate) Take(w http.ResponseWriter, holder Holder) (*Place, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.take(w, holder)
}

// Wait returns a place as soon as there is one, unless the context ends first. Leave must follow.
func (g *Gate) Wait(ctx context.Context, holder Holder) (*Place, error) {
	for {
		g.mu.Lock()
		if g.obstacle(holder, nil) == nil {
			place, err := g.take(nil, holder)
			g.mu.Unlock()
			return place, err
		}
		if g.waiting == nil {
			g.waiting = make(chan struct{})
		}
		changed := g.waiting
		g.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take makes a place. The lock is held.
func (g *Gate) take(w http.ResponseWriter, holder Holder) (*Place, error) {
	if err := g.obstacle(holder, nil); err != nil && !g.evict(holder, err) {
		g.refused[err]++
		return nil, err
	}
	place := &Place{gate: g, w: w, holder: holder}
	g.taken++
	g.count(holder, 1)
	return place, nil
}

// obstacle returns why a holder cannot have one more place; own is a place that it gives up for that. The lock is
// held.
func (g *Gate) obstacle(holder Holder, own *Place) error {
	free := g.o.Places - g.taken
	if own != nil {
		free++
	}
	if free <= 0 || g.crowded(holder) {
		return errFull
	}
	held := g.held[holder.name]
	if g.o.Share > 1 && holder.name != "" && held > 0 && held*(g.o.Share-1) >= free {
		return ErrShare
	}
	return nil
}

// crowded reports whether strangers, one of whom the holder is, have all the places that they may have. The lock is
// held.
func (g *Gate) crowded(holder Holder) bool {
	return !holder.tenant && g.strangers >= g.o.Places-g.o.Places/4
}

// evict ends the slowest request whose place would help the holder. The lock is held.
func (g *Gate) evict(holder Holder, obstacle error) bool {
	now := time.Now()
	crowded := g.crowded(holder)
	for element := g.slow.Front(); element != nil; element = element.Next() {
		place := element.Value.(*Place) //nolint:forcetypeassert // nothing else is in the list
		if now.Sub(place.since) < g.o.Patience {
			return false
		}
		if errors.Is(obstacle, ErrShare) && place.holder.name != holder.name || crowded && place.holder.tenant {
			continue // its place would not help
		}
		g.evicted++
		place.evict(now)
		return true
	}
	return false
}

// evict ends what the peer does: reading from it or writing to it fails at once. While the lock is held the handler
// has not returned, so the connection is still its own.
func (p *Place) evict(now time.Time) {
	control := http.NewResponseController(p.w)
	if p.sends {
		_ = control.SetWriteDeadline(now)
	} else {
		_ = control.SetReadDeadline(now)
	}
	p.forget()
}

// count adds places to what a holder has. The lock is held.
func (g *Gate) count(holder Holder, n int) {
	if !holder.tenant {
		g.strangers += n
	}
	if holder.name == "" {
		return
	}
	if g.held[holder.name] += n; g.held[holder.name] == 0 {
		delete(g.held, holder.name)
	}
}

// Places returns the number of all places.
func (g *Gate) Places() int { return g.o.Places }

// InUse is how many places are taken now.
func (g *Gate) InUse() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.taken
}

// wait says that the peer controls the pace from now on. The lock is held.
func (p *Place) wait(sends bool) {
	p.forget()
	p.sends, p.since = sends, time.Now()
	p.entry = p.gate.slow.PushBack(p)
}

// forget takes the place out of those that can be evicted. The lock is held.
func (p *Place) forget() {
	if p.entry != nil {
		p.gate.slow.Remove(p.entry)
		p.entry = nil
	}
}

// Receiving says that the body is being read, at the pace at which the peer sends it. Received or Leave must follow.
func (p *Place) Receiving() {
	if p == nil {
		return
	}
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	if !p.left && p.w != nil {
		p.wait(false)
	}
}

// Received says that the body has arrived: the request waits for no peer now.
func (p *Place) Received() {
	if p == nil {
		return
	}
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.forget()
}

// Answering says that the answer is being written, at the pace at which the peer reads it.
func (p *Place) Answering() {
	if p == nil {
		return
	}
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	if !p.left && p.w != nil && (p.entry == nil || !p.sends) {
		p.wait(true)
	}
}

// Verified says that the request is a tenant's. It fails if the tenant has its share of the places; Leave must
// follow all the same.
func (p *Place) Verified(tenantID string) error {
	if p == nil {
		return nil
	}
	gate := p.gate
	holder := Tenant(tenantID)
	gate.mu.Lock()
	defer gate.mu.Unlock()
	if p.holder == holder {
		return nil
	}
	if err := gate.obstacle(holder, p); err != nil {
		gate.refused[err]++
		return err
	}
	gate.count(p.holder, -1)
	gate.count(holder, 1)
	p.holder = holder
	return nil
}

// Leave gives the place back.
func (p *Place) Leave() {
	if p == nil {
		return
	}
	gate := p.gate
	gate.mu.Lock()
	defer gate.mu.Unlock()
	if p.left {
		return
	}
	p.left = true
	p.forget()
	gate.taken--
	gate.count(p.holder, -1)
	if gate.waiting != nil {
		close(gate.waiting)
		gate.waiting = nil
	}
}
