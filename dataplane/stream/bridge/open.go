package bridge

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/budget"
)

// writeTimeout is how long a peer may take nothing.
const writeTimeout = 5 * time.Second

// ConnOptions are what a connection needs to know before its handshake. The zero value is the default.
type ConnOptions struct {
	MaxFrame     int64         // bytes of one message; 256 KiB by default, which it may not exceed
	WriteTimeout time.Duration // how long the peer may take nothing; 5 s by default
	// MessageWithin is how long the peer may take to send one message, from its first byte to its last; 10 s by
	// default.
	MessageWithin time.Duration
	// Memory is charged for what a connection holds beyond its small buffers; nil has no bound.
	Memory *budget.Budget
}

// withDefaults replaces values that are missing, and frame sizes over the maximum.
func (o ConnOptions) withDefaults() ConnOptions {
	if o.MaxFrame <= 0 || o.MaxFrame > maxFrame {
		o.MaxFrame = maxFrame
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = writeTimeout
	}
	if o.MessageWithin <= 0 {
		o.MessageWithin = messageWithin
	}
	return o
}

// gorillaBuffer is as small as gorilla allows: it reads control frames and fragments only, and writes control frames only.
const gorillaBuffer = 125

// writeBuffers are gorilla's, which needs one only while it writes a message; we have it write none.
var writeBuffers sync.Pool

// Upgrade answers a WebSocket handshake. The handler returns soon after and leaves the Conn to a goroutine of its own:
// so net/http's buffers and the handler's stack are free while the call lasts. Origins are not checked: telephony
// systems send none, and the endpoint authenticates by other means. Upgrade answers an invalid handshake itself.
func Upgrade(w http.ResponseWriter, r *http.Request, o ConnOptions) (*Conn, error) {
	h := &hijacker{ResponseWriter: w, o: o.withDefaults()}
	upgrader := websocket.Upgrader{
		ReadBufferSize:  gorillaBuffer,
		WriteBufferSize: gorillaBuffer,
		WriteBufferPool: &writeBuffers,
		CheckOrigin:     func(*http.Request) bool { return true },
		Error:           h.refuse,
	}
	ws, err := upgrader.Upgrade(h, r, nil)
	if err != nil {
		return nil, err
	}
	h.c.adopt(ws)
	return h.c, nil
}

// hijacker puts a link beneath what gorilla takes over.
type hijacker struct {
	http.ResponseWriter
	o     ConnOptions
	c     *Conn
	taken bool // there is no answering any more
}

// refuse answers a failed handshake, unless the connection was hijacked already.
func (h *hijacker) refuse(w http.ResponseWriter, _ *http.Request, status int, reason error) {
	if !h.taken {
		w.Header().Set("Sec-Websocket-Version", "13")
		http.Error(w, reason.Error(), status)
	}
}

var errEager = errors.New("audio: the client sent data before the handshake was answered")

// Hijack takes the connection over from net/http.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.taken = true
	if rw.Reader.Buffered() > 0 {
		_ = conn.Close()
		return nil, nil, errEager
	}
	_ = conn.SetDeadline(time.Time{}) // those of net/http
	link := newLink(conn, h.o)
	h.c = newConn(link, link, true, h.o)
	return feeder{Conn: link, c: h.c}, rw, nil
}

// ErrTLS says that a peer's certificate or its TLS will not do.
var ErrTLS = errors.New(
	"audio: no TLS with the peer: its certificate must be for its host, in time, and signed by somebody who is trusted",
)

// Dialer connects to agents.
type Dialer struct {
	ConnOptions
	// NetDial connects; net.Dialer's DialContext by default. It may refuse addresses.
	NetDial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS is for wss; nil is the system's.
	TLS *tls.Config
}

// Dial connects to a ws or wss URL. The context bounds the handshake, not the connection. When the peer answers with something else
// than a WebSocket, the error is websocket.ErrBadHandshake and the response tells its status.
func (d Dialer) Dial(ctx context.Context, url string, header http.Header) (*Conn, *http.Response, error) {
	h := &handshake{Dialer: d, released: func() bool { return true }}
	h.ConnOptions = d.withDefaults()
	if h.NetDial == nil {
		h.NetDial = (&net.Dialer{}).DialContext
	}
	dialer := websocket.Dialer{
		ReadBufferSize:    gorillaBuffer,
		WriteBufferSize:   gorillaBuffer,
		WriteBufferPool:   &writeBuffers,
		NetDialContext:    h.plain,
		NetDialTLSContext: h.secure,
	}
	ws, resp, err := dialer.DialContext(ctx, url, header)
	if !h.released() { // the context has closed the connection, or is about to
		err = context.Cause(ctx)
	}
	if err != nil {
		if h.c != nil {
			_ = h.c.Close()
		}
		return nil, resp, err
	}
	h.c.adopt(ws)
	return h.c, resp, nil
}

// handshake is one Dial.
type handshake struct {
	Dialer
	c        *Conn
	released func() bool // ends the context's hold on the connection; false if it made use of it
}

// plain dials an agent without TLS.
func (h *handshake) plain(ctx context.Context, network, address string) (net.Conn, error) {
	link, err := h.connect(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return h.opened(link, link), nil
}

// secure dials an agent with TLS, 1.2 or newer by default, and verifies the server's name.
func (h *handshake) secure(ctx context.Context, network, address string) (net.Conn, error) {
	link, err := h.connect(ctx, network, address)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if h.TLS != nil {
		config = h.TLS.Clone()
	}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address) // it was good enough to connect to
	}
	secured := tls.Client(link, config)
	conn := h.opened(link, secured)
	if err := secured.HandshakeContext(ctx); err != nil {
		return conn, fmt.Errorf("%w: %w", ErrTLS, err)
	}
	return conn, nil
}

// connect makes a link, which a cancelled context closes: gorilla heeds the deadline alone.
func (h *handshake) connect(ctx context.Context, network, address string) (*link, error) {
	conn, err := h.NetDial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l := newLink(conn, h.ConnOptions)
	h.released = context.AfterFunc(ctx, func() { _ = l.Close() })
	return l, nil
}

// opened returns the connection that gorilla reads the handshake's answer from. What comes after the answer stays with
// the Conn.
func (h *handshake) opened(l *link, wire net.Conn) net.Conn {
	h.c = newConn(l, wire, false, h.ConnOptions)
	h.c.greeting = true
	return feeder{Conn: wire, c: h.c}
}
