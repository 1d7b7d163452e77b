//go:build linux

package fleet

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"syscall"
	"time"
)

// thread has some of the calls.
type thread struct {
	o        Options
	epoll    int
	payloads payloads
	calls    []*call
	byFD     map[int32]*call
	open     int // calls
	events   []syscall.EpollEvent
	buffer   []byte
	message  []byte
	packet   []byte
	epoch    time.Time
	report   Report
}

func newThread(o Options) (*thread, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	size := int(o.Pace.Milliseconds()) * 16 // 8 kHz, 16 bits
	return &thread{
		o:        o,
		epoll:    fd,
		payloads: newPayloads(size),
		byFD:     map[int32]*call{},
		events:   make([]syscall.EpollEvent, 256),
		buffer:   make([]byte, 256<<10),
		epoch:    time.Now(),
	}, nil
}

func (t *thread) add(c *call) error {
	t.calls = append(t.calls, c)
	t.byFD[int32(c.fd)] = c //nolint:gosec // descriptors are small
	t.open++
	return syscall.EpollCtl(t.epoll, syscall.EPOLL_CTL_ADD, c.fd, &syscall.EpollEvent{
		Events: syscall.EPOLLIN | syscall.EPOLLRDHUP,
		Fd:     int32(c.fd),
	}) //nolint:gosec // see above
}

func (t *thread) close() {
	for _, c := range t.calls {
		c.drop()
	}
	t.open = 0
	_ = syscall.Close(t.epoll)
}

func (t *thread) now() time.Duration { return time.Since(t.epoch) }

// talk sends each call's frames at its own time within the pace, and hears what comes between.
func (t *thread) talk(ctx context.Context, lasts, grace time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, c := range t.calls {
		c.began = c.sent
	}
	begin := t.now()
	n := len(t.calls)
	for sent := 0; ctx.Err() == nil; {
		now := t.now()
		for ; n > 0; sent++ {
			due := begin + t.o.Pace*time.Duration(sent/n) + t.o.Pace*time.Duration(sent%n)/time.Duration(n)
			if due > now || due-begin >= lasts {
				break
			}
			t.report.Late = max(t.report.Late, now-due)
			t.send(t.calls[sent%n])
		}
		if now-begin >= lasts {
			break
		}
		t.poll(1)
	}
	t.await(ctx, grace, t.quiet)
}

// await hears what comes until there is nothing to wait for, or the time is over.
func (t *thread) await(ctx context.Context, within time.Duration, done func() bool) {
	for end := t.now() + within; ctx.Err() == nil && t.now() < end && !done(); {
		t.poll(20)
	}
}

// quiet reports whether no frame of any call is on its way.
func (t *thread) quiet() bool {
	for _, c := range t.calls {
		if !c.closed && c.came < c.sent {
			return false
		}
	}
	return true
}

func (t *thread) ended() bool { return t.open == 0 }

// settle counts what did not come back. A later frame does not belong to this report.
func (t *thread) settle() {
	for _, c := range t.calls {
		t.report.Missing += int64(c.sent - max(c.came, c.began))
		c.began = c.sent
	}
}

func (t *thread) send(c *call) {
	switch {
	case c.closed, c.sent-c.came >= underWay:
		t.report.Skipped++
		return
	}
	t.message = c.media(t.message[:0], t.payloads.of(c, c.sent), t.o.Pace)
	t.packet = frame(t.packet[:0], 0x81, t.message)
	c.at[c.sent%underWay] = t.now()
	c.sent++
	t.report.Sent++
	c.write(t.packet)
}

// hangUp sends each call's stop.
func (t *thread) hangUp(ctx context.Context, grace time.Duration) {
	for _, c := range t.calls {
		c.write(
			frame(
				nil,
				0x81,
				[]byte(
					`{"event":"stop","stream_sid":"`+c.sid+`","stop":{"call_sid":"`+c.sid+`","account_sid":"fleet","reason":"callended"}}`,
				),
			),
		)
	}
	t.await(ctx, grace, t.ended)
}

// poll takes what has come, or waits for it.
func (t *thread) poll(milliseconds int) {
	for _, c := range t.calls {
		if len(c.out) > 0 && !c.closed {
			c.flush()
		}
	}
	n, err := syscall.EpollWait(t.epoll, t.events, milliseconds)
	if err != nil { // a signal
		return
	}
	for _, e := range t.events[:n] {
		if call := t.byFD[e.Fd]; call != nil && !call.closed {
			t.read(call)
		}
	}
}

// read takes what a call's socket has.
func (t *thread) read(c *call) {
	kept := copy(t.buffer, c.in)
	n, err := syscall.Read(c.fd, t.buffer[kept:])
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
		return
	}
	if err != nil || n <= 0 {
		t.over(c, 1006)
		return
	}
	at := 0
	all := t.buffer[:kept+n]
	for !c.closed {
		first, payload, size := parse(all[at:])
		if size == 0 {
			break
		}
		at += size
		t.take(c, first, payload)
	}
	c.in = append(c.in[:0], all[at:]...)
}

// parse finds the server's frame that b begins with; size is 0 if it is not whole.
func parse(b []byte) (first byte, payload []byte, size int) {
	if len(b) < 2 {
		return 0, nil, 0
	}
	head := 2
	n := uint64(b[1])
	switch {
	case n == 126 && len(b) >= 4:
		head = 4
		n = uint64(binary.BigEndian.Uint16(b[2:]))
	case n == 127 && len(b) >= 10:
		head = 10
		n = binary.BigEndian.Uint64(b[2:])
	case n >= 126:
		return 0, nil, 0
	}
	if uint64(len(b)-head) < n { //nolint:gosec // head is within b
		return 0, nil, 0
	}
	size = head + int(n) //nolint:gosec // it is within b
	return b[0], b[head:size], size
}

func (t *thread) take(c *call, first byte, payload []byte) {
	switch first {
	case 0x89:
		c.write(frame(nil, 0x8a, payload))
	case 0x88:
		code := 1005
		if len(payload) >= 2 {
			code = int(binary.BigEndian.Uint16(payload))
		}
		c.write(frame(nil, 0x88, payload))
		t.over(c, code)
	default:
		t.hear(c, first, payload)
	}
}

// hear compares a message with the next one that is to come back. Where a later one came, those before it are lost.
func (t *thread) hear(c *call, first byte, message []byte) {
	n := c.came
	for first == 0x81 && n < c.sent && !c.is(message, t.payloads.of(c, n)) {
		n++
	}
	if first != 0x81 || n == c.sent {
		t.report.Wrong++
		c.came = min(c.came+1, c.sent)
		return
	}
	t.report.Missing += int64(n - c.came)
	t.report.Equal++
	t.report.RoundTrip = append(t.report.RoundTrip, t.now()-c.at[n%underWay])
	c.came = n + 1
}

func (t *thread) over(c *call, code int) {
	t.report.Codes[code]++
	t.open--
	delete(t.byFD, int32(c.fd)) //nolint:gosec // descriptors are small
	c.drop()
}
