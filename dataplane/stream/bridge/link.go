package bridge

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caly-dev/caly/internal/budget"
)

// maxPending bounds what a socket has not taken: one frame that was cut in the middle, and control frames.
const maxPending = maxFrame + 64<<10

// A peer that reads gets this much time in addition, at the end of a call.
const (
	flushMore = 8
	flushStep = time.Second
)

// maxWrite is how much one blocking call writes: the time limit is that of the call.
const maxWrite = 16 << 10

// errSlow says that a peer took nothing for too long, or that too much waits for it.
var errSlow = errors.New("audio: the peer does not read: its network is down or it is overloaded")

// link is a connection whose Write never waits: what the socket does not take at once is kept, and a goroutine that lives only as long
// writes it. So a reader may write to the other side directly, and a slow side is noticed instead of waited for.
// It is below TLS, where there is TLS.
type link struct {
	net.Conn
	raw     syscall.RawConn // nil if the connection is not the system's: the goroutine writes everything
	timeout time.Duration
	attempt attempt
	wrote   atomic.Int64 // bytes by the goroutine, to see whether the peer reads

	mu      sync.Mutex
	pending []byte
	out     int          // bytes that the goroutine is writing
	memory  budget.Share // of pending and out
	writing bool         // the goroutine lives
	err     error
	more    func() bool // writes what else waits; false when there is nothing, after it called rest
	workers sync.WaitGroup
}

// freePending is what each link may hold in any case: a usual frame, cut in the middle. The shared memory is charged
// for what exceeds it.
const freePending = smallBuffer

// newLink returns a link for a connection. Without a descriptor, as in tests, the link's goroutine does all writing.
func newLink(c net.Conn, o ConnOptions) *link {
	l := &link{Conn: c, timeout: o.WriteTimeout, memory: o.Memory.Share(freePending)}
	if conn, ok := c.(syscall.Conn); ok {
		l.raw, _ = conn.SyscallConn()
	}
	if l.raw != nil {
		limitUnsent(l.raw)
	}
	l.attempt.do = l.attempt.write
	return l
}

// attempt is one try to write. It is a struct so that nothing is allocated for it.
type attempt struct {
	p   []byte
	n   int
	err error
	do  func(fd uintptr) bool
}

// write is the callback of RawConn.Write. It always returns true, so that a full socket buffer never blocks the
// caller.
func (a *attempt) write(fd uintptr) bool {
	for {
		a.n, a.err = syscall.Write(int(fd), a.p)
		if !errors.Is(a.err, syscall.EINTR) {
			return true
		}
	}
}

// try writes what the socket takes at once.
func (l *link) try(p []byte) (int, error) {
	l.attempt.p = p
	err := l.raw.Write(l.attempt.do)
	n := max(l.attempt.n, 0)
	tried := l.attempt.err
	l.attempt.p = nil
	l.attempt.n = 0
	l.attempt.err = nil
	switch {
	case err != nil:
		return 0, err
	case errors.Is(tried, syscall.EAGAIN):
		return 0, nil
	}
	return n, tried
}

// Write takes all of p or fails for good.
func (l *link) Write(p []byte) (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return 0, l.err
	}
	if !l.writing && l.raw != nil {
		if n, err = l.try(p); err != nil {
			return n, l.failLocked(err)
		}
		if n == len(p) {
			return n, nil
		}
	}
	if len(l.pending)+len(p)-n > maxPending {
		return n, l.failLocked(errSlow)
	}
	if !l.memory.Resize(int64(l.out + len(l.pending) + len(p) - n)) {
		return n, l.failLocked(errNoMemory)
	}
	l.pending = append(l.pending, p[n:]...)
	if !l.writing {
		l.writing = true
		l.workers.Go(l.drain)
	}
	return len(p), nil
}

// drain writes what is pending, then what else waits.
func (l *link) drain() {
	for {
		l.mu.Lock()
		p := l.pending
		err := l.err
		l.pending, l.out = nil, len(p)
		if err != nil {
			l.out = 0
		}
		l.memory.Resize(int64(l.out))
		more := l.more
		l.mu.Unlock()
		switch {
		case err != nil:
			return
		case len(p) > 0:
			if err := l.writeAll(p); err != nil {
				l.fail(err) // and the next round gives up what waits
			}
		case more == nil:
			if l.rest() {
				return
			}
		case !more():
			return
		}
	}
}

// rest ends the goroutine if nothing is pending. A writer that sees the link at rest may write to it directly.
func (l *link) rest() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writing = len(l.pending) > 0
	return !l.writing
}

// writeAll writes p with blocking calls. It returns errSlow if the peer has read nothing within the timeout.
func (l *link) writeAll(p []byte) error {
	for len(p) > 0 {
		_ = l.Conn.SetWriteDeadline(time.Now().Add(l.timeout))
		n, err := l.Conn.Write(p[:min(len(p), maxWrite)])
		p = p[n:]
		l.wrote.Add(int64(n))
		var timeout net.Error
		switch {
		case err == nil, n > 0 && errors.Is(err, os.ErrDeadlineExceeded): // progress, if slow
		case errors.As(err, &timeout) && timeout.Timeout():
			return errSlow
		default:
			return err
		}
	}
	return l.Conn.SetWriteDeadline(time.Time{}) // a past one would fail the next try
}

// fail ends the link; the side's reader notices the closed socket, and finds why.
func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.failLocked(err)
}

// failLocked stores the first error and closes the connection, which ends the reader. The caller holds the lock.
func (l *link) failLocked(err error) error {
	if l.err == nil {
		l.err = err
		_ = l.Conn.Close()
	}
	return l.err
}

// busy tells whether something waits to be written.
func (l *link) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writing
}

// failure is why the link ended.
func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// feed has more called whenever nothing is pending.
func (l *link) feed(more func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.more = more
}

// Close ends the connection at once. What is pending is lost.
func (l *link) Close() error {
	l.fail(net.ErrClosed)
	return nil
}

// flush waits until nothing is pending, but not beyond a deadline. A peer that still reads then gets flushMore times flushStep, so that the
// end of a long answer is heard. Close loses what is pending.
func (l *link) flush(deadline time.Time) {
	if !l.busy() {
		return
	}
	seen := l.wrote.Load()
	left := flushMore
	var late *time.Timer
	late = time.AfterFunc(time.Hour, func() {
		wrote := l.wrote.Load()
		if wrote == seen || left == 0 {
			l.fail(errSlow)
			return
		}
		seen = wrote
		left--
		late.Reset(flushStep)
	})
	late.Reset(max(time.Until(deadline), flushStep/2)) // the readers may have used up the time
	defer late.Stop()
	l.wait()
}

// wait returns once nothing of the link runs; without flush it must have been closed.
func (l *link) wait() { l.workers.Wait() }

// SetWriteDeadline does nothing: Write never waits, and the goroutine has the link's own time limit.
func (l *link) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline bounds reading alone, see SetWriteDeadline.
func (l *link) SetDeadline(t time.Time) error { return l.SetReadDeadline(t) }
