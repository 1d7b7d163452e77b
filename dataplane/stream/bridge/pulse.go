package bridge

import (
	"errors"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// errSilent says that a peer answered no ping.
var errSilent = errors.New("audio: the peer answers no ping: its host or the network between is gone")

// pulse finds peers that are gone without a word: it pings both sides, and later looks whether they have sent anything since.
// It is a timer, not a goroutine.
type pulse struct {
	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
	asked   time.Duration // when the pings were sent; 0 if they were answered
}

// start begins to ping both sides every PingEvery.
func (p *pulse) start(b *Bridge) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(b.o.PingEvery, func() { p.beat(b) })
}

// stop ends the pings. A beat that waits for the lock does nothing.
func (p *pulse) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.timer.Stop()
}

// beat pings both sides, and PongWithin later fails the link of a side that was silent since.
func (p *pulse) beat(b *Bridge) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	if p.asked == 0 {
		p.asked = now()
		b.exotel.ping()
		b.agent.Load().ping()
		p.timer.Reset(b.o.PongWithin)
		return
	}
	switch {
	case b.exotel.silentSince(p.asked):
		b.exotel.link.fail(errSilent) // its reader ends the call
	case !b.toExotel.heldSince(p.asked) && b.agent.Load().silentSince(p.asked): // what it sent may wait unread
		b.agent.Load().link.fail(errSilent)
	}
	p.asked = 0
	p.timer.Reset(max(b.o.PingEvery-b.o.PongWithin, time.Millisecond))
}

// ping sends a ping within a second.
func (c *Conn) ping() {
	_ = c.ws.WriteControl(
		websocket.PingMessage, nil, time.Now().Add(time.Second),
	) // a failed link is noticed by its reader
}

// silentSince reports whether nothing has arrived on the connection since t.
func (c *Conn) silentSince(t time.Duration) bool { return time.Duration(c.heard.Load()) < t }

// why is what really ended a connection: its reader sees no more than that it is closed.
func (c *Conn) why(err error) error {
	failure := c.link.failure()
	if errors.Is(failure, errSlow) || errors.Is(failure, errSilent) || errors.Is(failure, errNoMemory) {
		return failure
	}
	return err
}
