package audio

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// patience bounds every wait of a test.
const patience = 20 * time.Second

func waitFor(t testing.TB, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !met(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// quick are options with which a test need not wait long.
func quick() Options {
	return Options{CloseWithin: 500 * time.Millisecond}
}

// rig is a bridge between peers of the test: an HTTP server that upgrades and bridges, and agents that it dials.
type rig struct {
	t      *testing.T
	server *httptest.Server
	agents chan net.Conn // accepted by the agent's listener
	ends   chan *End
	cut    context.CancelCauseFunc
	listen net.Listener
}

// newRig starts one; configure may change the options of each bridge.
func newRig(t *testing.T, o Options, co ConnOptions, configure func(r *rig, o *Options)) *rig {
	t.Helper()
	ctx, cut := context.WithCancelCause(t.Context())
	r := &rig{t: t, agents: make(chan net.Conn, 1000), ends: make(chan *End, 1000), cut: cut}
	var err error
	if r.listen, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := r.listen.Accept()
			if err != nil {
				return
			}
			r.agents <- c
		}
	})
	var running sync.WaitGroup
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		agent, err := r.dial(req.Context(), co)
		if err != nil {
			t.Errorf("dial the agent: %v", err)
			http.Error(w, "no agent", http.StatusBadGateway)
			return
		}
		exotel, err := Upgrade(w, req, co)
		if err != nil {
			_ = agent.Close()
			return
		}
		own := o
		if configure != nil {
			configure(r, &own)
		}
		running.Go(func() { r.ends <- New(own).Run(ctx, exotel, agent) })
	}))
	t.Cleanup(func() {
		cut(nil)
		running.Wait()
		r.server.Close()
		_ = r.listen.Close()
		wg.Wait()
		close(r.agents)
		for c := range r.agents {
			_ = c.Close()
		}
	})
	return r
}

func (r *rig) dial(ctx context.Context, co ConnOptions) (*Conn, error) {
	c, resp, err := Dialer{ConnOptions: co}.Dial(ctx, "ws://"+r.listen.Addr().String()+"/", nil)
	if resp != nil {
		_ = resp.Body.Close()
	}
	return c, err
}

// call opens one call; agent answers the bridge's handshake.
func (r *rig) call() (exotel, agent *raw) {
	r.t.Helper()
	answered := make(chan *raw, 1)
	go func() { answered <- r.answer() }()
	exotel = dialRaw(r.t, r.server.Listener.Addr().String())
	agent = <-answered
	if agent == nil {
		r.t.Fatal("no agent")
	}
	return exotel, agent
}

// answer accepts the next connection of a bridge.
func (r *rig) answer() *raw {
	select {
	case c := <-r.agents:
		return acceptRaw(r.t, c, "")
	case <-time.After(patience):
		r.t.Error("the bridge did not dial")
		return nil
	}
}

func (r *rig) end() *End {
	r.t.Helper()
	select {
	case e := <-r.ends:
		return e
	case <-time.After(patience):
		r.t.Fatal("the bridge did not end")
		return nil
	}
}

// raw is a peer that writes and reads frames byte by byte, so that it can break every rule.
type raw struct {
	net.Conn
	t      testing.TB
	br     *bufio.Reader
	client bool
}

const testKey = "dGhlIHNhbXBsZSBub25jZQ=="

// dialRaw is Exotel: a client of the bridge.
func dialRaw(t testing.TB, address string) *raw {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	r := &raw{Conn: c, t: t, br: bufio.NewReaderSize(c, 64<<10), client: true}
	_, err = fmt.Fprintf(c, "GET /audio HTTP/1.1\r\nHost: x\r\nUser-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", testKey)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("answered %d", resp.StatusCode)
	}
	if got := resp.Header.Get("Sec-WebSocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("accepted with %q", got)
	}
	return r
}

// acceptRaw is an agent: a server of the bridge. What it says first goes out in one packet with the handshake.
func acceptRaw(t testing.TB, c net.Conn, first string) *raw {
	_ = c.SetDeadline(time.Now().Add(patience))
	r := &raw{Conn: c, t: t, br: bufio.NewReaderSize(c, 64<<10)}
	req, err := http.ReadRequest(r.br)
	if err != nil {
		t.Errorf("the bridge's handshake: %v", err)
		return nil
	}
	accept := websocketAccept(req.Header.Get("Sec-WebSocket-Key"))
	_, err = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+accept+"\r\n\r\n"+first)
	if err != nil {
		t.Error(err)
		return nil
	}
	return r
}

// frameBytes is a frame as it goes over the wire, whatever it is.
func frameBytes(first byte, masked bool, payload string) []byte {
	b := []byte{first, 0}
	switch n := len(payload); {
	case n < 126:
		b[1] = byte(n)
	case n < 1<<16:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	if !masked {
		return append(b, payload...)
	}
	b[1] |= 0x80
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b = append(b, key[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return b
}

// send writes frames of first byte and payload, in one packet.
func (r *raw) send(first byte, payloads ...string) {
	r.t.Helper()
	var all []byte
	for _, p := range payloads {
		all = append(all, frameBytes(first, r.client, p)...)
	}
	r.write(all)
}

func (r *raw) write(b []byte) {
	r.t.Helper()
	if _, err := r.Write(b); err != nil {
		r.t.Errorf("write: %v", err)
	}
}

// text sends whole messages.
func (r *raw) text(payloads ...string) { r.t.Helper(); r.send(0x81, payloads...) }

// wireFrame is a frame that came.
type wireFrame struct {
	First   byte
	Payload string
}

var errMasking = errors.New("a server's frame is masked, or a client's is not")

// read reads the next frame, unmasked. It fails where the bridge breaks RFC 6455.
func (r *raw) read() (wireFrame, error) {
	var head [2]byte
	if _, err := io.ReadFull(r.br, head[:]); err != nil {
		return wireFrame{}, err
	}
	n, extra := int(head[1]&0x7f), 0
	switch n {
	case 126:
		extra = 2
	case 127:
		extra = 8
	}
	if extra > 0 {
		var b [8]byte
		if _, err := io.ReadFull(r.br, b[8-extra:]); err != nil {
			return wireFrame{}, err
		}
		if n = int(binary.BigEndian.Uint64(b[:])); n < 126 || extra == 8 && n < 1<<16 {
			return wireFrame{}, fmt.Errorf("a length of %d in %d bytes", n, extra)
		}
	}
	var key [4]byte
	if masked := head[1]&0x80 != 0; masked == r.client {
		return wireFrame{}, errMasking
	} else if masked {
		if _, err := io.ReadFull(r.br, key[:]); err != nil {
			return wireFrame{}, err
		}
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r.br, payload); err != nil {
		return wireFrame{}, err
	}
	for i := range payload {
		payload[i] ^= key[i%4]
	}
	return wireFrame{First: head[0], Payload: string(payload)}, nil
}

// expect reads messages and compares them.
func (r *raw) expect(want ...string) {
	r.t.Helper()
	for i, w := range want {
		f, err := r.read()
		if err != nil {
			r.t.Fatalf("message %d of %d: %v", i, len(want), err)
		}
		if f.First != 0x81 || f.Payload != w {
			r.t.Fatalf("message %d: got %#x %.200q, want text %.200q", i, f.First, f.Payload, w)
		}
	}
}

// expectClose reads until the peer's close frame and answers it; the code is 0 if the connection ended without.
func (r *raw) expectClose() (code int) {
	r.t.Helper()
	for {
		f, err := r.read()
		if err != nil {
			return 0
		}
		if f.First != 0x88 {
			continue
		}
		_, _ = r.Write(frameBytes(0x88, r.client, f.Payload)) // the peer may have gone
		if len(f.Payload) < 2 {
			return websocket.CloseNoStatusReceived
		}
		return int(binary.BigEndian.Uint16([]byte(f.Payload)))
	}
}

// closeWith sends a close frame.
func (r *raw) closeWith(code int, text string) {
	r.t.Helper()
	r.send(0x88, string(websocket.FormatCloseMessage(code, text)))
}

// reset ends the connection without a word.
func (r *raw) reset() {
	_ = r.Conn.(*net.TCPConn).SetLinger(0)
	_ = r.Close()
}

// Messages of a call.
const (
	connected = `{"event":"connected"}`
	start     = `{"event":"start","sequence_number":1,"stream_sid":"s1","start":{"stream_sid":"s1","call_sid":"c1","account_sid":"a1",` +
		`"from":"+919876543210","to":"+911234567890","media_format":{"encoding":"raw","sample_rate":"8000","bit_rate":"128"}}}`
	stop  = `{"event":"stop","stream_sid":"s1","stop":{"call_sid":"c1","account_sid":"a1","reason":"callended"}}`
	clear = `{"event":"clear","stream_sid":"s1"}`
	dtmf  = `{"event":"dtmf","stream_sid":"s1","dtmf":{"duration":"200","digit":"5"}}`
)

// speech is a media message with a number in its audio.
func speech(n, bytesOfAudio int) string {
	audio := bytes.Repeat([]byte{byte(n), byte(n >> 8)}, bytesOfAudio/2)
	return `{"event":"media","stream_sid":"s1","media":{"payload":"` + base64.StdEncoding.EncodeToString(audio) + `"}}`
}

// numberOf is the number in a media message's audio; -1 for other messages.
func numberOf(message string) int {
	_, rest, ok := strings.Cut(message, `"payload":"`)
	if !ok {
		return -1
	}
	audio, _, _ := strings.Cut(rest, `"`)
	b, err := base64.StdEncoding.DecodeString(audio)
	if err != nil || len(b) < 2 {
		return -1
	}
	return int(binary.LittleEndian.Uint16(b))
}

func mark(name string) string {
	return `{"event":"mark","stream_sid":"s1","mark":{"name":"` + name + `"}}`
}
