package bridge

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/budget"
)

// maxFrame bounds a message, unless options say less. Exotel's largest is 100,000 bytes of audio, which is 133 KB as text.
const maxFrame = 256 << 10

// Bounds of control frames from one peer. A sane one sends a ping or a pong every few seconds.
const (
	controlWindow = 10 * time.Second
	maxControls   = 100
)

var errFlood = errors.New("audio: the peer sends more than 100 control frames in 10 seconds")

// epoch makes times of this package: monotonic, and half as dear as time.Now.
var epoch = time.Now()

// now returns the time since the process started, on the monotonic clock.
func now() time.Duration { return time.Since(epoch) }

// Conn is a WebSocket that can be bridged; Upgrade and Dial make one.
//
// Whole unfragmented data frames, which are all frames of a call but one in a thousand, are read and written here: in one system call
// each, in place. Everything else (the handshake, control frames, the close handshake, fragments and every violation of RFC 6455) is
// gorilla/websocket's, to which feeder hands such frames.
type Conn struct {
	ws     *websocket.Conn
	link   *link
	wire   net.Conn    // the link, or TLS on it
	server bool        // we are: the peer's frames are masked
	parted atomic.Bool // a close frame was written: nothing may follow it
	most   int64       // bytes of a message
	limit  readLimit

	// Of the reader alone.
	buf      *buffer // holds unread bytes [r:w); nil while there are none
	r, w     int
	readRaw  syscall.RawConn
	onRead   func(fd uintptr) bool
	readErr  error
	left     int64 // of the frame that gorilla reads
	greeting bool  // gorilla reads the answer to our handshake
	message  *buffer
	controls int
	window   time.Duration
	memory   budget.Share // of the buffers that are not small
	charged  int64        // for them

	came  time.Duration // when the last bytes came
	heard atomic.Int64  // the same, for others
}

// newConn returns a Conn that reads from wire, and writes to the link. They are the same without TLS.
func newConn(l *link, wire net.Conn, server bool, o ConnOptions) *Conn {
	conn := &Conn{
		link:   l,
		wire:   wire,
		server: server,
		most:   o.MaxFrame,
		limit:  readLimit{within: o.MessageWithin},
		memory: o.Memory.Share(0),
	}
	if wire == net.Conn(l) {
		conn.readRaw = l.raw
	}
	conn.onRead = conn.readAvailable
	return conn
}

// adopt takes what gorilla made of the connection.
func (c *Conn) adopt(ws *websocket.Conn) {
	c.ws = ws
	ws.SetReadLimit(c.most)
	ws.SetPingHandler(func(data string) error {
		if err := c.control(); err != nil {
			return err
		}
		_ = ws.WriteControl(
			websocket.PongMessage, []byte(data), time.Now().Add(time.Second),
		) // a failed link is noticed by who owns it
		return nil
	})
	ws.SetPongHandler(func(string) error { return c.control() })
}

// control counts a control frame.
func (c *Conn) control() error {
	if t := now(); t-c.window > controlWindow {
		c.window = t
		c.controls = 0
	}
	if c.controls++; c.controls > maxControls {
		return errFlood
	}
	return nil
}

// Close ends the connection without a close handshake.
func (c *Conn) Close() error {
	err := c.wire.Close()
	_ = c.link.Close()
	c.link.wait()
	return err
}

// Refuse ends a connection that is not bridged: its peer is told the code and the reason, and has so long to answer.
func (c *Conn) Refuse(code int, reason string, within time.Duration) {
	deadline := time.Now().Add(within)
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), deadline)
	c.stopReading(deadline)
	for err := error(nil); err == nil; _, err = c.next() { // what comes until then would have the socket reset, and the reason lost
	}
	c.link.flush(deadline)
	_ = c.Close()
}

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.link.RemoteAddr() }

// frame is one message, unmasked: buf[at:], with room for a header in front of it. It lives until the next one is read.
type frame struct {
	buf []byte
	at  int
	op  byte
}

// payload returns the frame's data without its header. It is valid until the next read.
func (f frame) payload() []byte { return f.buf[f.at:] }

// next waits for a message. After an error there is no other one, and no memory is held.
func (c *Conn) next() (frame, error) {
	if c.message != nil {
		c.discard(c.message)
		c.message = nil
	}
	f, err := c.receiveMessage()
	if err != nil {
		c.release()
		c.discard(c.message)
		c.message = nil
	}
	return f, err
}

// receiveMessage reads one message. Everything but a whole unfragmented message of the expected size and mask goes
// through gorilla, which knows all rules.
func (c *Conn) receiveMessage() (frame, error) {
	c.limit.unit = 0
	header, err := c.header()
	if err != nil {
		return frame{}, err
	}
	if !header.wholeMessage() || header.masked != c.server || header.length > c.most || header.length < 0 {
		return c.viaGorilla()
	}
	total := header.size + int(header.length)
	if err := c.want(total); err != nil {
		return frame{}, err
	}
	f := frame{buf: c.buf.b[c.r : c.r+total : c.r+total], at: header.size, op: header.first & 0x0f}
	c.r += total
	if header.masked {
		applyMask(header.mask, f.payload())
	}
	return f, nil
}

// viaGorilla lets gorilla handle the frame that comes, and those after it until a message is whole.
func (c *Conn) viaGorilla() (frame, error) {
	kind, reader, err := c.ws.NextReader()
	if err != nil {
		return frame{}, err
	}
	c.message = takeBuffer(smallBuffer)
	n := maxHeader
	for {
		read, err := reader.Read(c.message.b[n:])
		n += read
		if errors.Is(err, io.EOF) {
			return frame{buf: c.message.b[:n:n], at: maxHeader, op: byte(kind)}, nil //nolint:gosec // G115: 1 or 2
		}
		if err != nil {
			return frame{}, err
		}
		if n == len(c.message.b) {
			if c.message, err = c.enlarge(c.message, maxHeader+int(c.most)+1); err != nil { // one more: for the end
				return frame{}, err
			}
		}
	}
}

// header waits for a frame's header, which it leaves where it is.
func (c *Conn) header() (header, error) {
	for {
		if c.w > c.r {
			if h, ok := parseHeader(c.buf.b[c.r:c.w]); ok {
				return h, nil
			}
		}
		if err := c.fill(maxHeader); err != nil {
			return header{}, err
		}
	}
}

// want waits until n bytes are buffered.
func (c *Conn) want(n int) error {
	for c.w-c.r < n {
		if err := c.fill(n); err != nil {
			return err
		}
	}
	return nil
}

// fill waits for bytes of a unit that has n of them. Nothing is held while it waits for the first.
func (c *Conn) fill(n int) error {
	switch have := c.w - c.r; {
	case have == 0:
		c.release()
	case have == len(c.buf.b):
		larger, err := c.enlarge(c.buf, n)
		if err != nil {
			return err
		}
		c.buf = larger
	case c.r+n > len(c.buf.b):
		c.r, c.w = 0, copy(c.buf.b, c.buf.b[c.r:c.w])
	}
	if c.w > c.r && c.limit.unit == 0 {
		c.limit.unit = c.came
	}
	err := c.receive()
	if err == nil {
		c.came = now()
		c.heard.Store(int64(c.came))
	}
	return err
}

// release gives the read buffer back to the pool, and its memory to the budget.
func (c *Conn) release() {
	c.discard(c.buf)
	c.buf = nil
	c.r = 0
	c.w = 0
}

// read appends to the buffer what the socket has.
func (c *Conn) read() error {
	if c.readRaw != nil {
		c.readErr = nil
		if err := c.readRaw.Read(c.onRead); err != nil {
			return err
		}
		return c.readErr
	}
	if c.buf != nil {
		n, err := c.wire.Read(c.buf.b[c.w:])
		c.w += n
		return ignoreAfter(n, err)
	}
	var first [1]byte // TLS keeps the rest of its record until it is asked for
	n, err := c.wire.Read(first[:])
	if n == 1 {
		c.buf = takeBuffer(smallBuffer)
		c.buf.b[0] = first[0]
		c.w = 1
	}
	return ignoreAfter(n, err)
}

// ignoreAfter returns err only if n is 0: an error that came with bytes comes again without them.
func ignoreAfter(n int, err error) error {
	if n > 0 {
		return nil
	}
	return err
}

// readAvailable reads what a descriptor has; false if it has nothing yet.
func (c *Conn) readAvailable(fd uintptr) bool {
	if c.buf == nil {
		c.buf = takeBuffer(smallBuffer)
	}
	n, err := syscall.Read(int(fd), c.buf.b[c.w:])
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		if c.w == 0 {
			c.release()
		}
		return errors.Is(err, syscall.EINTR) // then there may be something: the caller tries again
	case err != nil:
		c.readErr = err
	case n == 0:
		c.readErr = io.EOF
	default:
		c.w += n
	}
	return true
}
