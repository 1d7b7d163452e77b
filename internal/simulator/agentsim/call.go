package agentsim

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/agent"
)

// Call is what an agent saw of one.
type Call struct {
	// Header and Query of the handshake.
	Header http.Header
	Query  url.Values
	// Start as it was told, in whatever casing the protocol has.
	Start Start
	// Pieces and Bytes of audio, decoded, in the protocol's own encoding.
	Pieces, Bytes int
	// Marks that came back, Digits that were pressed.
	Marks  []string
	Digits string
	// Events in the order of their first appearance.
	Events []string
	// Stopped tells that a stop came, with StopReason if it had one.
	Stopped    bool
	StopReason string
	// Problem is the first thing that was not in the protocol.
	Problem string
	// Code of the close that came: 1006 without one.
	Code int
}

// Start of a call.
type Start struct {
	StreamID, CallID, AccountID, From, To, Encoding string
	Rate                                            int
	Custom                                          map[string]string
}

// call is one under way.
type call struct {
	Call
	o      Options
	ws     *websocket.Conn
	frame  []byte
	out    []byte
	prefix []byte // of a media message to the other side, up to its payload
	ended  <-chan struct{}
}

func newCall(s *Server, ws *websocket.Conn, r *http.Request) *call {
	ws.SetReadLimit(longestFrame)
	if tcp, ok := ws.NetConn().(*net.TCPConn); ok && s.o.Delay > 0 {
		_ = tcp.SetReadBuffer(4 << 10) // else the slowness would be felt after megabytes only
	}
	return &call{Call: Call{Header: r.Header.Clone(), Query: r.URL.Query()}, o: s.o, ws: ws, ended: s.ended}
}

// run serves the call to its end.
func (c *call) run() {
	defer func() { _ = c.ws.Close() }()
	for {
		kind, reader, err := c.ws.NextReader()
		if err == nil {
			c.frame, err = readAll(c.frame[:0], reader)
		}
		if err == nil {
			err = c.take(kind == websocket.BinaryMessage)
		}
		if err != nil {
			c.over(err)
			return
		}
		if c.o.Delay > 0 {
			select {
			case <-time.After(c.o.Delay):
			case <-c.ended:
			}
		}
	}
}

func readAll(dst []byte, r io.Reader) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

func (c *call) over(err error) {
	c.Code = websocket.CloseAbnormalClosure
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		c.Code = closed.Code
	}
}

// take takes one message.
func (c *call) take(binary bool) error {
	if c.o.Protocol == agent.PCM && binary {
		return c.audio(len(c.frame), nil)
	}
	if payload := payloadOf(c.frame); payload != nil {
		return c.heard(payload)
	}
	return c.takeJSON()
}

var (
	mediaPrefix = []byte(`{"event":"media"`)
	payloadKey  = []byte(`"payload":"`)
)

// payloadOf finds the audio of a media message without reading the rest, where there can be no doubt.
func payloadOf(frame []byte) []byte {
	if !bytes.HasPrefix(frame, mediaPrefix) {
		return nil
	}
	_, rest, _ := bytes.Cut(frame, payloadKey)
	payload, rest, found := bytes.Cut(rest, []byte{'"'})
	if !found || bytes.Contains(rest, payloadKey) || !isBase64(payload) {
		return nil
	}
	return payload
}

func isBase64(text []byte) bool {
	for _, c := range text {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '/' || c > '9') && c != '+' &&
			c != '=' { // '/' stands before '0'
			return false
		}
	}
	return true
}

// heard takes audio in base64.
func (c *call) heard(payload []byte) error {
	if !isBase64(payload) { // it would be echoed as it is
		c.problem("media without base64")
		return nil
	}
	n := base64.StdEncoding.DecodedLen(len(payload)) - (len(payload) - len(bytes.TrimRight(payload, "=")))
	return c.audio(n, payload)
}

// audio takes a piece of n bytes and does with it what the agent does: payload is its base64, or nil if the frame is the audio.
func (c *call) audio(n int, payload []byte) error {
	c.Pieces++
	c.Bytes += n
	switch {
	case c.o.DropAfter > 0 && c.Pieces >= c.o.DropAfter:
		return c.ws.NetConn().Close()
	case c.o.CloseAfter > 0 && c.Pieces == c.o.CloseAfter:
		return c.goodbye()
	case c.o.CloseAfter > 0 && c.Pieces > c.o.CloseAfter, c.o.Silent:
		return nil
	}
	if err := c.echo(payload); err != nil {
		return err
	}
	if c.o.BurstEvery > 0 && c.Pieces%c.o.BurstEvery == 0 {
		return c.burst()
	}
	return nil
}

// goodbye begins to close the call, and leaves the other side some time to agree.
func (c *call) goodbye() error {
	_ = c.ws.SetReadDeadline(time.Now().Add(sendLimit)) // never fails
	return c.ws.WriteControl(
		websocket.CloseMessage,
		websocket.FormatCloseMessage(c.o.CloseCode, "the agent is done"),
		time.Now().Add(sendLimit),
	)
}

func (c *call) echo(payload []byte) error {
	if payload == nil {
		return c.send(websocket.BinaryMessage, c.frame)
	}
	if c.prefix == nil {
		c.problem("audio before start")
		return nil
	}
	c.out = append(append(append(c.out[:0], c.prefix...), payload...), `"}}`...)
	return c.send(websocket.TextMessage, c.out)
}

func (c *call) send(kind int, msg []byte) error {
	_ = c.ws.SetWriteDeadline(time.Now().Add(sendLimit)) // never fails
	return c.ws.WriteMessage(kind, msg)
}
