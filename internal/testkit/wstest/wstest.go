// Package wstest is WebSocket peers for tests that write and read frames byte by byte, so that they can break every rule of RFC 6455.
package wstest

import (
	"bufio"
	"crypto/sha1" //nolint:gosec // G505: RFC 6455 section 4.2.2 has the handshake prove itself with it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// Patience bounds every wait of a peer.
const Patience = 20 * time.Second

// Key of the handshakes, and what answers it: the example of RFC 6455 section 1.3.
const (
	Key    = "dGhlIHNhbXBsZSBub25jZQ=="
	accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// Peer is one end of a WebSocket.
type Peer struct {
	net.Conn
	// Client tells that its frames must be masked, and those that it reads must not be.
	Client bool
	t      testing.TB
	br     *bufio.Reader
}

func newPeer(t testing.TB, c net.Conn, client bool) *Peer {
	_ = c.SetDeadline(time.Now().Add(Patience))
	return &Peer{Conn: c, Client: client, t: t, br: bufio.NewReaderSize(c, 64<<10)}
}

// Reader is a peer that reads what was written before.
func Reader(t testing.TB, r io.Reader, client bool) *Peer {
	return &Peer{Client: client, t: t, br: bufio.NewReader(r)}
}

// Connect opens a connection to a server, before any handshake.
func Connect(t testing.TB, address string) *Peer {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return newPeer(t, conn, true)
}

// Request is a good handshake for a path, without the empty line at its end: headers may follow.
func Request(path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: x\r\nUser-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + Key + "\r\n"
}

// Ask writes a request, and reads the head of what answers it.
func (p *Peer) Ask(request string) (*http.Response, error) {
	p.t.Helper()
	p.Bytes([]byte(request))
	resp, err := http.ReadResponse(p.br, nil)
	if err == nil {
		p.t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

// Dial is a client whose handshake was accepted.
func Dial(t testing.TB, address, path string) *Peer {
	t.Helper()
	peer := Connect(t, address)
	resp, err := peer.Ask(Request(path) + "\r\n") //nolint:bodyclose // Ask sees to it
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("answered %d", resp.StatusCode)
	}
	if got := resp.Header.Get("Sec-WebSocket-Accept"); got != accept {
		t.Errorf("accepted with %q", got)
	}
	return peer
}

// Accept returns a server peer after it accepted the handshake of a connection. After an invalid handshake it fails
// the test and returns nil. What it says first is sent in one packet with the answer.
func Accept(t testing.TB, c net.Conn, first string) *Peer {
	peer := newPeer(t, c, false)
	req, err := http.ReadRequest(peer.br)
	if err != nil {
		t.Errorf("the client's handshake: %v", err)
		return nil
	}
	answer := "HTTP/1.1 101 Switching Protocols\r\n" +
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		Answer(req.Header.Get("Sec-WebSocket-Key")) + "\r\n\r\n"
	if _, err := io.WriteString(c, answer+first); err != nil {
		t.Error(err)
		return nil
	}
	return peer
}

// Answer is what a server answers a client's key with.
func Answer(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // G401: see the import
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Bytes writes whatever it is.
func (p *Peer) Bytes(b []byte) {
	p.t.Helper()
	if _, err := p.Write(b); err != nil {
		p.t.Errorf("write: %v", err)
	}
}

// Send writes frames of a first byte and payloads, in one packet.
func (p *Peer) Send(first byte, payloads ...string) {
	p.t.Helper()
	var all []byte
	for _, payload := range payloads {
		all = append(all, FrameBytes(first, p.Client, payload)...)
	}
	p.Bytes(all)
}

// Text sends whole messages.
func (p *Peer) Text(payloads ...string) { p.t.Helper(); p.Send(0x81, payloads...) }

// CloseWith sends a close frame.
func (p *Peer) CloseWith(code int, text string) {
	p.t.Helper()
	p.Send(0x88, string(websocket.FormatCloseMessage(code, text)))
}

// Reset ends the connection without a word.
func (p *Peer) Reset() {
	if tcp, ok := p.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = p.Close()
}

// Frame is one that came.
type Frame struct {
	First   byte
	Payload string
}

var errMasking = errors.New("a server's frame is masked, or a client's is not")

// Full reads as many bytes, whatever they are.
func (p *Peer) Full(b []byte) error {
	_, err := io.ReadFull(p.br, b)
	return err
}

// Read reads the next frame, unmasked. It fails where the other end breaks RFC 6455.
func (p *Peer) Read() (Frame, error) {
	var head [2]byte
	if _, err := io.ReadFull(p.br, head[:]); err != nil {
		return Frame{}, err
	}
	n, err := p.length(head[1] & 0x7f)
	if err != nil {
		return Frame{}, err
	}
	var key [4]byte
	if masked := head[1]&0x80 != 0; masked == p.Client {
		return Frame{}, errMasking
	} else if masked {
		if _, err := io.ReadFull(p.br, key[:]); err != nil {
			return Frame{}, err
		}
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(p.br, payload); err != nil {
		return Frame{}, err
	}
	for i := range payload {
		payload[i] ^= key[i%4]
	}
	return Frame{First: head[0], Payload: string(payload)}, nil
}

// length reads the rest of a length, which must be in as few bytes as it needs.
func (p *Peer) length(short byte) (int, error) {
	extra := map[byte]int{126: 2, 127: 8}[short]
	if extra == 0 {
		return int(short), nil
	}
	var b [8]byte
	if _, err := io.ReadFull(p.br, b[8-extra:]); err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint64(b[:])
	if n < 126 || extra == 8 && n < 1<<16 || n > 1<<24 {
		return 0, fmt.Errorf("a length of %d in %d bytes", n, extra)
	}
	return int(n), nil
}

// Expect reads messages and compares them.
func (p *Peer) Expect(want ...string) {
	p.t.Helper()
	for i, w := range want {
		frame, err := p.Read()
		if err != nil {
			p.t.Fatalf("message %d of %d: %v", i, len(want), err)
		}
		if frame.First != 0x81 || frame.Payload != w {
			p.t.Fatalf("message %d: got %#x %.200q, want text %.200q", i, frame.First, frame.Payload, w)
		}
	}
}

// Closed reads until the other end's close frame and answers it; the code is 0 if the connection ended without.
func (p *Peer) Closed() (code int, text string) {
	p.t.Helper()
	for {
		frame, err := p.Read()
		if err != nil {
			return 0, ""
		}
		if frame.First != 0x88 {
			continue
		}
		_, _ = p.Write(FrameBytes(0x88, p.Client, frame.Payload)) // the other end may have gone
		if len(frame.Payload) < 2 {
			return websocket.CloseNoStatusReceived, ""
		}
		return int(binary.BigEndian.Uint16([]byte(frame.Payload))), frame.Payload[2:]
	}
}

// FrameBytes is a frame as it goes over the wire, whatever it is.
func FrameBytes(first byte, masked bool, payload string) []byte {
	return AppendFrame(nil, first, masked, []byte(payload))
}

// mask of all frames: any will do, if it is not zero.
const mask = 0x3d21fa37_3d21fa37

// AppendFrame appends a frame to dst, without an allocation where there is room.
func AppendFrame(dst []byte, first byte, masked bool, payload []byte) []byte {
	flag := byte(0)
	if masked {
		flag = 0x80
	}
	dst = append(dst, first)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, flag|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, flag|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, flag|127), uint64(n))
	}
	if !masked {
		return append(dst, payload...)
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(mask&0xffffffff))
	at := len(dst)
	dst = append(dst, payload...)
	b := dst[at:]
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^mask)
	}
	for i := range b {
		b[i] ^= byte(uint64(mask) >> (8 * i)) //nolint:gosec // the lowest byte
	}
	return dst
}
