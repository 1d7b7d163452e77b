package server

import (
	"container/list"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/caly-dev/caly/internal/budget"
)

const (
	// patience with a new connection's first request while others wait to be let in.
	patience = time.Second
	// recheck is how soon a full listener looks again for a connection that has become idle.
	recheck = 20 * time.Millisecond
)

// limited is a listener whose connections are bounded. One beyond the bound takes the place of the one that has been idle for
// longest: peers that hold connections without a use for them cannot keep the others out. While all are in use it waits, and
// those behind it wait in the kernel's queue. One that a handler took over, as audio streams are, counts no longer: it is the handler's.
type limited struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
	// memory is what the headers of its connections share.
	memory *budget.Budget

	mu sync.Mutex
	// idle are between two requests; fresh have not sent their first one's headers. The longest so is in front.
	idle, fresh *list.List
}

func limit(l net.Listener, n int) *limited {
	return &limited{
		Listener: l,
		slots:    make(chan struct{}, n),
		done:     make(chan struct{}),
		memory:   budget.New(headerMemory),
		idle:     list.New(),
		fresh:    list.New(),
	}
}

// Accept waits for a connection, then for its slot.
func (l *limited) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if !l.admit() {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	return &slotConn{Conn: conn, free: l.slots, listener: l, memory: l.share()}, nil
}

// admit takes a slot. It fails once the listener is closed.
func (l *limited) admit() bool {
	for {
		select {
		case l.slots <- struct{}{}:
			return true
		default:
		}
		if l.sendAway(time.Now()) {
			continue
		}
		select {
		case l.slots <- struct{}{}:
			return true
		case <-l.done:
			return false
		case <-time.After(recheck):
		}
	}
}

// sendAway closes the connection that has been idle for longest or, without one, a new one that is overdue.
func (l *limited) sendAway(now time.Time) bool {
	slotConn := l.leastUsed(now)
	if slotConn != nil {
		_ = slotConn.Close()
	}
	return slotConn != nil
}

func (l *limited) leastUsed(now time.Time) *slotConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	front := l.idle.Front()
	if front == nil {
		front = l.fresh.Front()
	}
	if front == nil {
		return nil
	}
	c := front.Value.(*slotConn) //nolint:forcetypeassert // nothing else is in the lists
	if c.in == l.fresh && now.Sub(c.since) < patience {
		return nil
	}
	c.move(nil)
	return c
}

// note follows what becomes of a connection: it is an http.Server's ConnState.
func (l *limited) note(conn net.Conn, state http.ConnState) {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	c, ok := conn.(*slotConn)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateNew:
		c.move(l.fresh)
	case http.StateIdle:
		c.forgetHeader() // of a request that was answered
		c.move(l.idle)
	case http.StateHijacked: // it is whose handler took it over; that bounds what it holds
		c.move(nil)
		c.forgetHeader()
		c.leave()
	case http.StateClosed:
		c.move(nil)
		c.forgetHeader()
	default: // the parsed header lives as long as its request: what it was charged stays
		c.move(nil)
	}
}

// Close ends Accept too while it waits for a slot.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type slotConn struct {
	net.Conn
	free chan struct{}
	once sync.Once

	listener *limited

	// The listener's lock guards these.
	header int64        // bytes of the header that arrives, or of the request in progress
	memory budget.Share // for it
	in     *list.List   // nil while it is in use
	place  *list.Element
	since  time.Time
}

// move puts the connection at the end of a list; nil takes it out of its list.
func (c *slotConn) move(to *list.List) {
	if c.in != nil {
		c.in.Remove(c.place)
	}
	c.in = to
	c.place = nil
	c.since = time.Now()
	if to != nil {
		c.place = to.PushBack(c)
	}
}

// leave frees the slot, once.
func (c *slotConn) leave() { c.once.Do(func() { <-c.free }) }

// Close frees the slot, where it has one still.
func (c *slotConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// SyscallConn lets a handler that hijacked the connection read and write its descriptor directly, as an audio stream
// does.
func (c *slotConn) SyscallConn() (syscall.RawConn, error) {
	if system, ok := c.Conn.(syscall.Conn); ok {
		return system.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
