package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// bounded is a server with room for a number of connections. It answers /slow once finish is closed, and hijacks those
// that ask for /take.
type bounded struct {
	t      *testing.T
	addr   string
	finish chan struct{}
	taken  chan net.Conn
	l      *limited
}

func newBounded(t *testing.T, room int) *bounded {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bounded{
		t:      t,
		addr:   listener.Addr().String(),
		finish: make(chan struct{}),
		taken:  make(chan net.Conn, 100),
		l:      limit(listener, room),
	}
	server := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow":
			<-b.finish
		case "/take":
			b.take(w)
			return
		}
		_, _ = io.WriteString(w, "ok")
	}))
	served := make(chan error, 1)
	go func() { served <- serve(server, b.l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return b
}

// dial connects and says something.
func (b *bounded) dial(say string) net.Conn {
	b.t.Helper()
	conn, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, say)
	return conn
}

// answered reads one answer.
func (b *bounded) answered(c net.Conn) error {
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	_, err = io.ReadAll(resp.Body)
	return err
}

// idle waits until n connections are idle: an answer arrives a moment before its connection is idle.
func (b *bounded) idle(n int) error {
	b.t.Helper()
	soon.Holds(b.t, fmt.Sprintf("%d connections are idle", n), func() bool {
		b.l.mu.Lock()
		defer b.l.mu.Unlock()
		return b.l.idle.Len() == n
	})
	return nil
}

const (
	quick = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	slow  = "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
)

// TestFullOfPeers verifies that idle and silent peers make room for a new connection. Peers with a request in work do
// not.
func TestFullOfPeers(t *testing.T) {
	for name, tc := range map[string]struct {
		say          string
		waitAnswer   bool // until the peer is answered, and so idle
		after        time.Duration
		waitsForWork bool
	}{
		"idle":          {say: quick, waitAnswer: true},
		"silent":        {after: patience},
		"half a header": {say: quick[:20], after: patience},
		"in work":       {say: slow, waitsForWork: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBounded(t, 2)
			start := time.Now() // before the first: its patience runs from when it is accepted
			first := b.dial(tc.say)
			second := b.dial(tc.say)
			for _, c := range []net.Conn{first, second} {
				if tc.waitAnswer {
					if err := b.answered(c); err != nil {
						t.Fatal(err)
					}
				}
			}
			third := make(chan error, 1)
			conn := b.dial(quick)
			go func() { third <- b.answered(conn) }()
			if tc.waitsForWork {
				select {
				case err := <-third:
					t.Errorf("a third is answered (%v) while two are in work", err)
				case <-time.After(300 * time.Millisecond):
				}
				close(b.finish)
				if err := errors.Join(b.answered(first), b.answered(second)); err != nil {
					t.Errorf("what was in work is cut off: %v", err)
				}
			}
			if err := <-third; err != nil || time.Since(start) < tc.after {
				t.Errorf(
					"a third peer: %v after %s, want an answer, and not before %s", err, time.Since(start), tc.after,
				)
			}
		})
	}
}

// TestLongestIdleGoes verifies that the connection that was idle for longest is closed first.
func TestLongestIdleGoes(t *testing.T) {
	b := newBounded(t, 2)
	first := b.dial(quick)
	second := b.dial("")
	say := func(c net.Conn) error { _, _ = io.WriteString(c, quick); return b.answered(c) }
	if err := errors.Join(b.answered(first), b.idle(1), say(second), b.idle(2), say(first), b.idle(2)); err != nil {
		t.Fatal(err)
	}
	if err := b.answered(b.dial(quick)); err != nil {
		t.Fatal(err)
	}
	if err := say(second); err == nil {
		t.Error("the one that was idle for longest is still there")
	}
	if err := say(first); err != nil {
		t.Errorf("the other one: %v", err)
	}
}

// TestClosedListenerLetsGo verifies that Accept of a closed listener returns while every slot is taken. The end of a
// connection frees its slot once.
func TestClosedListenerLetsGo(t *testing.T) {
	defer goleak.VerifyNone(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bounded := limit(listener, 1)
	for range 2 {
		peer, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = peer.Close() }()
	}
	conn, err := bounded.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { _, err := bounded.Accept(); ended <- err }()
	_ = bounded.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept ended with %v", err)
	}
	closed := make(chan struct{})
	go func() { _ = conn.Close(); _ = conn.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Fatal("a connection that is closed twice waits for a second slot")
	}
}
