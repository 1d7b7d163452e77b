package bridge

import (
	"bytes"
	"errors"
	"math"
	"net"
)

// feeder is the connection as gorilla sees it. It hands out no byte beyond the frame that gorilla reads, so that the frame after it is
// ours to read.
type feeder struct {
	net.Conn
	c *Conn
}

// Read hands out bytes of one frame, or of the answer to our handshake.
func (f feeder) Read(p []byte) (int, error) {
	conn := f.c
	if conn.left == 0 {
		if err := conn.measure(); err != nil {
			return 0, err
		}
	}
	if conn.w == conn.r {
		if err := conn.fill(1); err != nil {
			return 0, err
		}
	}
	n := copy(p[:min(int64(len(p)), conn.left)], conn.buf.b[conn.r:conn.w])
	conn.r += n
	conn.left -= int64(n)
	if conn.r == conn.w {
		conn.release()
	}
	if conn.left == 0 && !conn.limit.open {
		conn.limit.unit = 0
	}
	return n, nil
}

// Write is gorilla's, of the handshake and of control frames.
func (f feeder) Write(p []byte) (int, error) {
	if len(p) > 0 && p[0] == 0x80|opClose {
		f.c.parted.Store(true)
	}
	return f.Conn.Write(p)
}

// measure finds how long what gorilla reads next is.
func (c *Conn) measure() error {
	if c.greeting {
		return c.measureGreeting()
	}
	header, err := c.header()
	if err != nil {
		return err
	}
	if c.limit.unit == 0 {
		c.limit.unit = c.came
	}
	if header.data() {
		c.limit.open = !header.final()
	}
	c.left = int64(header.size)
	if header.length > 0 && header.length <= c.most { // else gorilla refuses the frame after its header
		c.left += header.length
	}
	return nil
}

var errGreeting = errors.New(
	"audio: the agent's answer to the handshake has no end: agentURL must name a WebSocket server",
)

// maxGreetingLines bounds the answer to our handshake. A parsed header field takes many times the memory of its text.
const maxGreetingLines = 128

// measureGreeting finds the end of an HTTP response's header. The body of a refusal is gorilla's too.
func (c *Conn) measureGreeting() error {
	c.greeting = false
	for {
		if err := c.fill(c.w - c.r + 1); err != nil {
			return err
		}
		got := c.buf.b[c.r:c.w]
		if bytes.Count(got, []byte("\n")) > maxGreetingLines {
			return errGreeting
		}
		if at := bytes.Index(got, []byte("\r\n\r\n")); at >= 0 {
			c.left = int64(at + 4)
			if !bytes.HasPrefix(got, []byte("HTTP/1.1 101")) {
				c.left = math.MaxInt64
			}
			return nil
		}
		if len(got) >= smallBuffer {
			return errGreeting
		}
	}
}
