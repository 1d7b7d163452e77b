//go:build linux

package fleet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// underWay bounds the frames of a call that have not come back.
const underWay = 256

// call is one stream.
type call struct {
	fd        int
	sid       string
	say       []byte // a media message up to its numbers
	heard     []byte // what comes back, up to the payload
	first     int    // of the payloads
	step      int
	sent      int
	came      int
	began     int // frames before this report
	at        [underWay]time.Duration
	out       []byte // what the socket has not taken
	in        []byte // part of a frame
	closed    bool
	connected bool // the descriptor is open
}

// payloads are what calls say, in base64. Each call has a walk through them of its own, so that no frame of another one, and no other of
// its own, could stand for the next.
type payloads struct{ texts [][]byte }

// prime numbers of payloads make every walk come to all of them.
const prime = 997

func newPayloads(size int) payloads {
	random := rand.New(rand.NewPCG(1, uint64(size))) //nolint:gosec // any bytes will do
	p := payloads{make([][]byte, prime)}
	audio := make([]byte, size)
	for i := range p.texts {
		for j := range audio {
			audio[j] = byte(random.Uint32())
		}
		p.texts[i] = base64.StdEncoding.AppendEncode(nil, audio)
	}
	return p
}

func (p payloads) of(c *call, n int) []byte { return p.texts[(c.first+n*c.step)%prime] }

// open has the handshake and says what a stream begins with. The descriptor is then the fleet's alone: Go's poller would look at each
// frame a second time.
func open(ctx context.Context, o Options, i int) (*call, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", o.Address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if err := handshake(conn, o); err != nil {
		return nil, fmt.Errorf("call %d: %w", i, err)
	}
	c := &call{sid: fmt.Sprintf("%s%06d", o.Name, i), first: i % prime, step: 1 + i/prime%(prime-1)}
	c.say = fmt.Appendf(nil, `{"event":"media","stream_sid":"%s","sequence_number":`, c.sid)
	c.heard = fmt.Appendf(nil, `{"event":"media","stream_sid":"%s","media":{"payload":"`, c.sid)
	begin := frame(nil, 0x81, []byte(`{"event":"connected"}`))
	begin = frame(
		begin,
		0x81,
		fmt.Appendf(
			nil,
			`{"event":"start","sequence_number":1,"stream_sid":"%s","start":{"stream_sid":"%s","call_sid":"%s","account_sid":"fleet",`+
				`"from":"+919876543210","to":"+911234567890","media_format":{"encoding":"raw","sample_rate":"8000","bit_rate":"128"}}}`,
			c.sid,
			c.sid,
			c.sid,
		),
	)
	if _, err := conn.Write(begin); err != nil {
		return nil, err
	}
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if c.fd, err = syscall.Dup(int(file.Fd())); err != nil {
		return nil, err
	}
	c.connected = true
	return c, syscall.SetNonblock(c.fd, true)
}

// handshake leaves nothing unread: the server has nothing to say before the start.
func handshake(conn net.Conn, o Options) error {
	_, err := fmt.Fprintf(
		conn,
		"GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		o.Path,
		o.Address,
	)
	if err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 1024), nil)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10)) // of a refusal
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("the handshake was answered %s", resp.Status)
	}
	return nil
}

// frame appends a client's frame.
func frame(dst []byte, first byte, payload []byte) []byte {
	return wstest.AppendFrame(dst, first, true, payload)
}

// media appends the next message of a call, unmasked.
func (c *call) media(dst, payload []byte, pace time.Duration) []byte {
	dst = strconv.AppendInt(append(dst, c.say...), int64(c.sent+2), 10)
	dst = strconv.AppendInt(append(dst, `,"media":{"chunk":`...), int64(c.sent+1), 10)
	dst = strconv.AppendInt(append(dst, `,"timestamp":"`...), int64(c.sent)*pace.Milliseconds(), 10)
	return append(append(append(dst, `","payload":"`...), payload...), `"}}`...)
}

// is tells whether a message is the echo of a payload, to the last byte.
func (c *call) is(message, payload []byte) bool {
	rest, ok := bytes.CutPrefix(message, c.heard)
	if ok {
		rest, ok = bytes.CutPrefix(rest, payload)
	}
	return ok && string(rest) == `"}}`
}

// write sends, or keeps what the socket does not take.
func (c *call) write(b []byte) {
	if c.closed {
		return
	}
	if len(c.out) == 0 {
		n, err := syscall.Write(c.fd, b)
		if err == nil {
			b = b[n:]
		}
	}
	c.out = append(c.out, b...)
}

// flush sends what was kept.
func (c *call) flush() {
	n, err := syscall.Write(c.fd, c.out)
	if err == nil {
		c.out = append(c.out[:0], c.out[n:]...)
	}
}

func (c *call) drop() {
	if c.connected {
		_ = syscall.Close(c.fd)
	}
	c.closed = true
	c.connected = false
}
