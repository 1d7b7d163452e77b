package bridge

import (
	"errors"
	"os"
	"sync"
	"time"
)

// messageWithin is how long a peer may take to send one message, from its first byte to its last.
const messageWithin = 10 * time.Second

var (
	// errSlowSender says that a message took longer than it may.
	errSlowSender = errors.New("audio: the peer took too long to send one message: " +
		"its network is too slow, or it stopped in the middle")
	// errNoMemory says that the shared budget refused what a peer needs.
	errNoMemory = errors.New("audio: the memory that streams share is used up: " +
		"too many large messages are in progress at once")
)

// readLimit bounds a Conn's reads in time. Its deadline is that of the message in progress or, once there is one, that
// of the call's end.
//
// A message that arrives whole costs nothing here. The deadline of one that does not is left in force when the message
// is complete, and is corrected when it passes: this costs one system call in ten seconds instead of two for each
// message.
type readLimit struct {
	within time.Duration // for one message
	unit   time.Duration // when the first byte of the message in progress came; 0: there is none. Of the reader alone
	open   bool          // the message in progress has another fragment. Of the reader alone
	armed  bool          // the deadline is a message's. Of the reader alone

	mu  sync.Mutex
	end time.Time // of the call; the zero value: it goes on
}

// receive reads, within the time of the message in progress.
func (c *Conn) receive() error {
	for {
		if c.limit.unit != 0 && !c.limit.armed {
			c.arm()
		}
		err := c.read()
		if err == nil || c.ws == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if err = c.passed(err); err != nil {
			return err
		}
	}
}

// arm sets the deadline of the message in progress.
func (c *Conn) arm() {
	c.limit.mu.Lock()
	defer c.limit.mu.Unlock()
	if c.ws == nil || !c.limit.end.IsZero() { // the deadline is that of the handshake, or that of the end
		return
	}
	c.limit.armed = true
	_ = c.link.SetReadDeadline(epoch.Add(c.limit.unit + c.limit.within))
}

// passed decides what a deadline that has passed means; nil: read again.
func (c *Conn) passed(err error) error {
	c.limit.mu.Lock()
	defer c.limit.mu.Unlock()
	switch {
	case !c.limit.end.IsZero():
		if time.Now().Before(c.limit.end) { // the deadline that passed was a message's
			return nil
		}
		return err
	case c.limit.unit != 0 && now()-c.limit.unit >= c.limit.within:
		return errSlowSender
	}
	c.limit.armed = false
	_ = c.link.SetReadDeadline(time.Time{})
	return nil
}

// stopReading lets the reader go on until a deadline.
func (c *Conn) stopReading(deadline time.Time) {
	c.limit.mu.Lock()
	defer c.limit.mu.Unlock()
	c.limit.end = deadline
	_ = c.link.SetReadDeadline(deadline)
}

// enlarge returns a larger buffer for a unit of n bytes. The old buffer is full of its first bytes. A buffer is at most
// twice as long as what has arrived: what a header announces costs nothing. The shared memory is charged for more than
// a small buffer.
func (c *Conn) enlarge(old *buffer, n int) (*buffer, error) {
	have := len(old.b)
	size := sizeIndex(min(n, 2*have))
	charged := c.charged - old.charge() + int64(bufferSizes[size])
	if !c.memory.Resize(charged) {
		return old, errNoMemory
	}
	c.charged = charged
	b := takeBuffer(bufferSizes[size])
	copy(b.b, old.b)
	old.give()
	return b, nil
}

// discard gives a buffer back, and what was charged for it.
func (c *Conn) discard(b *buffer) {
	if charge := b.charge(); charge > 0 {
		c.charged -= charge
		c.memory.Resize(c.charged)
	}
	b.give()
}
