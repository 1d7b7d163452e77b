package accounts

import (
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// wire is the way to a server, which can be cut. It counts what goes there.
type wire struct {
	address, to string
	sent        atomic.Int64 // bytes to the server

	l     net.Listener
	mu    sync.Mutex
	state wireState
	conns map[net.Conn]bool
	all   sync.WaitGroup
}

type wireState int

const (
	whole  wireState = iota
	cut              // connections end at once
	silent           // connections are taken and lead nowhere
	deaf             // requests arrive, and their answers do not
)

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: listener.Addr().String(), to: to, l: listener, conns: map[net.Conn]bool{}}
	w.all.Go(w.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		w.become(cut)
		w.all.Wait()
	})
	return w
}

// through is a URL of the server that leads over the wire.
func (w *wire) through(t *testing.T, rawURL string) string {
	t.Helper()
	address, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	address.Host = w.address
	return address.String()
}

// become changes the state, and ends the connections that there are.
func (w *wire) become(s wireState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state = s
	for c := range w.conns {
		_ = c.Close()
	}
}

func (w *wire) accept() {
	for {
		conn, err := w.l.Accept()
		if err != nil {
			return
		}
		w.all.Go(func() { w.carry(conn) })
	}
}

// keep notes a connection until it is dropped.
func (w *wire) keep(c net.Conn) wireState {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns[c] = true
	return w.state
}

func (w *wire) drop(c net.Conn) {
	_ = c.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
}

func (w *wire) carry(c net.Conn) {
	state := w.keep(c)
	defer w.drop(c)
	switch state {
	case cut:
		return
	case silent:
		_, _ = io.Copy(io.Discard, c) // until either side has enough
		return
	}
	server, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	if w.keep(server) != state {
		_ = c.Close()
	}
	defer w.drop(server)
	var back io.Writer = c
	if state == deaf {
		back = io.Discard
	}
	w.all.Go(func() {
		_, _ = io.Copy(back, server)
		_ = c.Close()
	})
	_, _ = io.Copy(counted{server, &w.sent}, c)
}

// counted counts what is written.
type counted struct {
	io.Writer
	n *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.Writer.Write(p)
}
