package pgtest

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
)

// Wire is a way to the server on which connections can be lost at a chosen statement. It reads the messages of
// https://www.postgresql.org/docs/current/protocol-message-formats.html and forwards them as they are.
type Wire struct {
	// Address takes connections.
	Address string
	server  string

	l     net.Listener
	all   sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]bool
	limit int // of statements; negative: none
	lost  bool
}

// NewWire is a way to the server that loses nothing until LoseAfter.
func (s *Server) NewWire(t testing.TB) *Wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	wire := &Wire{
		Address: listener.Addr().String(),
		server:  s.Address(),
		l:       listener,
		conns:   map[net.Conn]bool{},
		limit:   -1,
	}
	wire.all.Go(wire.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		wire.mu.Lock()
		wire.lose()
		wire.mu.Unlock()
		wire.all.Wait()
	})
	return wire
}

// LoseAfter forwards n more statements. At the next one every connection ends, and new ones are refused.
func (w *Wire) LoseAfter(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.limit = n
	w.lost = false
}

// Restore lets connections be made again, and reports whether any were lost.
func (w *Wire) Restore() (lost bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lost = w.lost
	w.limit = -1
	w.lost = false
	return lost
}

// lose ends all connections. The caller holds the lock.
func (w *Wire) lose() {
	w.lost = true
	for c := range w.conns {
		_ = c.Close()
	}
}

// take counts a statement, and reports whether it may go on.
func (w *Wire) take() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.limit < 0:
		return true
	case w.limit == 0:
		w.lose()
		return false
	}
	w.limit--
	return true
}

// keep adds a connection. It reports false while all are lost.
func (w *Wire) keep(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns[c] = true
	return !w.lost
}

func (w *Wire) drop(c net.Conn) {
	_ = c.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
}

func (w *Wire) accept() {
	for {
		conn, err := w.l.Accept()
		if err != nil {
			return
		}
		w.all.Go(func() { w.carry(conn) })
	}
}

func (w *Wire) carry(client net.Conn) {
	defer w.drop(client)
	if !w.keep(client) {
		return
	}
	server, err := net.Dial("tcp", w.server)
	if err != nil {
		return
	}
	defer w.drop(server)
	if !w.keep(server) {
		return
	}
	w.all.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	_ = w.forward(server, bufio.NewReader(client))
}

// forward copies messages. The first one has no type.
func (w *Wire) forward(server io.Writer, client *bufio.Reader) error {
	for typed := 0; ; typed = 1 {
		head := make([]byte, typed+4)
		if _, err := io.ReadFull(client, head); err != nil {
			return err
		}
		message := make([]byte, typed+int(binary.BigEndian.Uint32(head[typed:])))
		copy(message, head)
		if _, err := io.ReadFull(client, message[len(head):]); err != nil {
			return err
		}
		// Execute, and Query, which is a statement in one message.
		if typed == 1 && (message[0] == 'E' || message[0] == 'Q') && !w.take() {
			return nil
		}
		if _, err := server.Write(message); err != nil {
			return err
		}
	}
}
