package server

import (
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
)

// take has a handler take over its connection.
func (b *bounded) take(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		b.t.Error(err)
		return
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\n\r\n")
	b.taken <- conn
}

const take = "GET /take HTTP/1.1\r\nHost: x\r\n\r\n"

// TestTakenConnectionsDoNotCount verifies that hijacked connections hold no slot, so that webhooks are answered next to
// many streams.
func TestTakenConnectionsDoNotCount(t *testing.T) {
	const room = 2
	b := newBounded(t, room)
	var streams []net.Conn
	for range 5 * room {
		if err := b.answered(b.dial(take)); err != nil {
			t.Fatalf("stream %d: %v", len(streams), err)
		}
		streams = append(streams, <-b.taken)
	}
	for range 2 * room {
		if err := b.answered(b.dial(quick)); err != nil {
			t.Fatalf("a webhook next to %d streams: %v", len(streams), err)
		}
	}
	for _, c := range streams { // must free no slot a second time
		_ = c.Close()
	}
	if err := b.answered(b.dial(quick)); err != nil {
		t.Fatal(err)
	}
	soon.Holds(t, "the slots are bounded", func() bool { return len(b.l.slots) <= room })
	if n := len(b.l.slots); n == 0 {
		t.Errorf("%d slots are taken by idle connections, want some", n)
	}
}

// TestTakenConnectionIsTheSystems checks that a hijacked connection gives access to its descriptor. Without it each
// frame of a stream costs a goroutine.
func TestTakenConnectionIsTheSystems(t *testing.T) {
	b := newBounded(t, 1)
	peer := b.dial(take)
	if err := b.answered(peer); err != nil {
		t.Fatal(err)
	}
	conn := <-b.taken
	defer func() { _ = conn.Close() }()
	system, ok := conn.(syscall.Conn)
	if !ok {
		t.Fatalf("a %T hides its descriptor", conn)
	}
	raw, err := system.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var wrote int
	if err := raw.Write(
		func(fd uintptr) bool { wrote, err = syscall.Write(int(fd), []byte("direct")); return true },
	); err != nil ||
		wrote != 6 {
		t.Errorf("wrote %d bytes to it, %v", wrote, err)
	}
	if _, err := (&slotConn{Conn: struct{ net.Conn }{conn}}).SyscallConn(); err == nil {
		t.Error("a connection that is not the system's has a descriptor")
	}
}
