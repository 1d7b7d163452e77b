package server

import (
	"container/list"
	"errors"

	"github.com/caly-dev/caly/internal/budget"
)

// Bounds of the memory for request headers. A parsed header of many short fields takes 14 times the memory of its text:
// without a bound, a full listener of such headers would take 2 GiB.
const (
	// headerCost is what a byte of a header is charged.
	headerCost = 16
	// freeHeader is how much text each connection may send in any case: a usual request with its TLS handshake.
	freeHeader = 2 << 10
	// headerMemory is what the connections of a listener share for longer headers, in bytes.
	headerMemory = 64 << 20
)

var errHeaderMemory = errors.New("the memory for request headers is used up")

// Read charges what arrives before a request is known to be whole.
func (c *slotConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.listener.charge(c, int64(n)) {
		_ = c.Close()
		return 0, errHeaderMemory
	}
	return n, err
}

// charge counts bytes of a header. While the memory is used up, the connection that has sent the longest header is
// closed. It returns false if that is this connection.
func (l *limited) charge(c *slotConn, n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.in == nil { // a body, or what follows on a connection that was taken over
		return true
	}
	c.header += n
	for !c.memory.Resize(c.header * headerCost) {
		longest := l.longestHeader()
		if longest == nil || longest == c {
			return false
		}
		longest.move(nil)
		longest.forgetHeader()
		_ = longest.Close()
	}
	return true
}

// longestHeader returns the connection that has sent the longest part of a header. The lock is held.
func (l *limited) longestHeader() (longest *slotConn) {
	for _, conns := range []*list.List{l.fresh, l.idle} {
		for element := conns.Front(); element != nil; element = element.Next() {
			c := element.Value.(*slotConn) //nolint:forcetypeassert // nothing else is in the lists
			if longest == nil || c.header > longest.header {
				longest = c
			}
		}
	}
	return longest
}

// forgetHeader gives back what a header was charged. The listener's lock is held.
func (c *slotConn) forgetHeader() {
	c.header = 0
	c.memory.Resize(0)
}

func (l *limited) share() budget.Share { return l.memory.Share(freeHeader * headerCost) }
