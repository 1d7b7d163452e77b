// Package agentsim is agents to test against: WebSocket servers in every agent protocol, which echo, or misbehave as agents do.
package agentsim

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/agent"
)

const (
	// history is how many calls a server remembers that have ended.
	history = 10_000
	// sendLimit is how long a message may take to be sent.
	sendLimit = 5 * time.Second
	// longestFrame is one that nobody should send.
	longestFrame = 1 << 20
)

// Options of a Server. Without any it is an echo in Exotel's protocol.
type Options struct {
	// Listen is an address; empty means 127.0.0.1:0.
	Listen string
	// Protocol that it speaks; empty means Exotel's.
	Protocol agent.Protocol
	// TLS makes it a wss server.
	TLS *tls.Config

	// Silent listens and says nothing.
	Silent bool
	// Delay is a pause after each message that is read, with a receive buffer as small as the system gives.
	Delay time.Duration
	// DropAfter is the number of pieces of audio after which the connection ends without a close.
	DropAfter int
	// CloseAfter is the number of pieces of audio after which it is closed with CloseCode, 1000 if that is 0.
	CloseAfter, CloseCode int
	// BurstEvery is the number of pieces of audio after which a clear and BurstMarks marks are sent, each time.
	BurstEvery, BurstMarks int
	// Refuse answers handshakes with a status: the first RefuseTimes ones, or all if that is 0.
	Refuse, RefuseTimes int
	// HandshakeDelay is waited before a handshake is answered.
	HandshakeDelay time.Duration
}

// Server is an agent.
type Server struct {
	o        Options
	listener net.Listener
	http     *http.Server
	upgrader websocket.Upgrader
	ended    chan struct{}
	calls    sync.WaitGroup

	mu      sync.Mutex
	live    map[*call]struct{}
	past    []Call
	started int
	refused int
	closed  bool
}

// NewServer starts an agent.
func NewServer(o Options) (*Server, error) {
	o.Listen = cmp.Or(o.Listen, "127.0.0.1:0")
	o.Protocol = cmp.Or(o.Protocol, agent.Exotel)
	o.CloseCode = cmp.Or(o.CloseCode, websocket.CloseNormalClosure)
	if _, err := agent.New(o.Protocol); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen as an agent: %w", err)
	}
	server := &Server{
		o:        o,
		listener: l,
		ended:    make(chan struct{}),
		live:     map[*call]struct{}{},
		upgrader: websocket.Upgrader{
			HandshakeTimeout: sendLimit,
			ReadBufferSize:   4 << 10,
			WriteBufferSize:  8 << 10,
			WriteBufferPool:  &sync.Pool{},
		},
	}
	if o.TLS != nil {
		config := o.TLS.Clone()
		config.NextProtos = []string{"http/1.1"} // a WebSocket begins with it
		l = tls.NewListener(l, config)
	}
	server.http = &http.Server{Handler: server, ReadHeaderTimeout: sendLimit}
	server.calls.Add(1)
	go func() {
		defer server.calls.Done()
		_ = server.http.Serve(l)
	}()
	return server, nil
}

// Addr is where it listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL of its stream.
func (s *Server) URL() string {
	u := url.URL{Scheme: "ws", Host: s.Addr(), Path: "/stream"}
	if s.o.TLS != nil {
		u.Scheme = "wss"
	}
	return u.String()
}

// Close ends the server and its calls, and waits for them.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.ended)
	}
	for c := range s.live {
		_ = c.ws.WriteControl(
			websocket.CloseMessage,
			websocket.FormatCloseMessage(websocket.CloseGoingAway, ""),
			time.Now().Add(time.Second),
		)
		_ = c.ws.Close()
	}
	s.mu.Unlock()
	_ = s.http.Close()
	s.calls.Wait()
}

// Started tells how many calls there ever were, Live how many there are.
func (s *Server) Started() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}

// Live tells how many calls there are.
func (s *Server) Live() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live)
}

// Calls are those that have ended, in that order; the last 10,000.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.past)
}

// ServeHTTP answers a handshake.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.o.HandshakeDelay > 0 {
		select {
		case <-time.After(s.o.HandshakeDelay):
		case <-s.ended:
			return
		case <-r.Context().Done():
			return
		}
	}
	if s.refuses() {
		http.Error(w, "", s.o.Refuse)
		return
	}
	ws, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // it was answered
	}
	call := newCall(s, ws, r)
	if !s.admit(call) {
		_ = ws.Close()
		return
	}
	go func() { // what HTTP needed for the request is freed when its handler returns
		defer s.calls.Done()
		call.run()
		s.leave(call)
	}()
}

func (s *Server) refuses() bool {
	if s.o.Refuse == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.o.RefuseTimes > 0 && s.refused == s.o.RefuseTimes {
		return false
	}
	s.refused++
	return true
}

func (s *Server) admit(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.started++
	s.live[c] = struct{}{}
	s.calls.Add(1)
	return true
}

func (s *Server) leave(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, c)
	if len(s.past) == history {
		s.past = slices.Delete(s.past, 0, 1)
	}
	s.past = append(s.past, c.Call)
}
