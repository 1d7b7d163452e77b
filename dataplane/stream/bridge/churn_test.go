package bridge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// descriptors that the process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("this system does not tell a process's descriptors")
	}
	return len(entries)
}

// TestChurn verifies that 300 calls that end in every way leave no goroutine and no descriptor.
func TestChurn(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	before := descriptors(t)
	t.Run("calls", func(t *testing.T) {
		rig := newRig(t, quick(), ConnOptions{}, nil)
		var calls sync.WaitGroup
		slots := make(chan struct{}, 50)
		for i := range 300 {
			slots <- struct{}{}
			exotel, agent := rig.call()
			calls.Go(func() {
				defer func() { <-slots }()
				churn(i, exotel, agent)
			})
		}
		calls.Wait()
		reasons := map[Reason]int{}
		for range 300 {
			reasons[rig.end().Reason]++
		}
		for _, want := range []Reason{CallEnded, AgentClosed, AgentLost, ExotelLost, ProtocolError} {
			if reasons[want] == 0 {
				t.Errorf("no call ended with %s: %v", want, reasons)
			}
		}
	})
	eventually.Within(patience).Holds(t, "the descriptors are back", func() bool { return descriptors(t) <= before })
	eventually.Within(patience).Holds(t, "the goroutines are back", func() bool {
		return runtime.NumGoroutine() <= goroutines
	})
}

// churn is one call, which ends in one of many ways.
func churn(i int, exotel, agent *wstest.Peer) {
	defer func() { _, _ = exotel.Close(), agent.Close() }()
	exotel.Text(connected, start, speech(i, 320))
	agent.Expect(connected, start, speech(i, 320))
	agent.Text(speech(i, 320))
	exotel.Expect(speech(i, 320))
	switch i % 6 {
	case 0:
		exotel.Text(stop)
		expectClose(agent)
	case 1:
		agent.CloseWith(websocket.CloseNormalClosure, "")
		expectClose(exotel)
	case 2:
		agent.Reset()
	case 3:
		exotel.Reset()
	case 4:
		_ = exotel.Close()
		_ = agent.Close()
	case 5:
		exotel.Send(0xf1, "x")
	}
}

// TestTLS verifies that an agent with TLS is relayed to like any other, also when it is slow.
func TestTLS(t *testing.T) {
	messages := make(chan string, 10_000)
	read := make(chan struct{})
	agent := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = ws.Close() }()
		_ = ws.WriteMessage(websocket.TextMessage, []byte(clear))
		<-read
		for {
			_, m, err := ws.ReadMessage()
			if err != nil {
				close(messages)
				return
			}
			messages <- string(m)
		}
	}))
	agent.StartTLS()
	defer agent.Close()
	pool := x509.NewCertPool()
	pool.AddCert(agent.Certificate())
	dialer := Dialer{TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	ends := make(chan *End, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, resp, err := dialer.Dial(r.Context(), "wss"+agent.URL[len("https"):], nil)
		if err != nil {
			t.Error(err)
			return
		}
		_ = resp.Body.Close()
		e, err := Upgrade(w, r, ConnOptions{})
		if err != nil {
			t.Error(err)
			return
		}
		go func() { ends <- New(quick()).Run(context.Background(), e, conn) }()
	}))
	defer server.Close()
	exotel := dialRaw(t, server.Listener.Addr().String())
	exotel.Expect(clear)
	exotel.Text(connected, start)
	const n = 3000 // 13 MB, which no kernel holds
	for i := range n {
		exotel.Text(speech(i, 3200))
	}
	close(read)
	exotel.Text(stop)
	last := -1
	got := 0
	for m := range messages {
		if n := numberOf(m); n >= 0 {
			if n <= last {
				t.Fatalf("%d came after %d", n, last)
			}
			last = n
			got++
		}
	}
	end := <-ends
	if last != n-1 || uint64(got)+end.ToAgent.Dropped != n || end.ToAgent.Dropped == 0 {
		t.Errorf("%d frames arrived, the last was %d, and %d were dropped, of %d", got, last, end.ToAgent.Dropped, n)
	}
	if end.Reason != CallEnded {
		t.Errorf("ended with %s: %v", end.Reason, end.Err)
	}
}

// TestTLSToUs verifies that the bridge works with TLS that ends in this process.
func TestTLSToUs(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := Upgrade(w, r, ConnOptions{})
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			for {
				frame, err := conn.next()
				if err != nil {
					return
				}
				if _, err := conn.wire.Write(seal(frame.buf, frame.at, frame.op, false)); err != nil {
					t.Error(err)
				}
			}
		}()
	}))
	server.StartTLS()
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	ws, resp, err := dialer.Dial("wss"+server.URL[len("https"):], nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = resp.Body.Close(), ws.Close() }()
	for i := range 50 {
		want := speech(i, 100*i)
		if err := ws.WriteMessage(websocket.TextMessage, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := ws.ReadMessage(); err != nil || string(got) != want {
			t.Fatalf("frame %d came back as %.100q, %v", i, got, err)
		}
	}
}

// TestDialFails verifies that a failed handshake reports its cause and leaves nothing open.
func TestDialFails(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no such bot", http.StatusForbidden)
	}))
	defer refusing.Close()
	talking, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = talking.Close() }()
	serve := func(answer string) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write([]byte(answer))
				defer func() { _ = conn.Close() }()
			}
		}()
		t.Cleanup(func() { _ = listener.Close() })
		return "ws://" + listener.Addr().String()
	}
	for name, tc := range map[string]struct {
		url        string
		wantErr    error // nil: a time-out
		wantStatus int
	}{
		"refused with a status": {
			url:        "ws" + refusing.URL[len("http"):],
			wantErr:    websocket.ErrBadHandshake,
			wantStatus: http.StatusForbidden,
		},
		"an answer without end": {
			url:     serve("HTTP/1.1 101 Switching\r\nX: " + string(make([]byte, 2*smallBuffer))),
			wantErr: errGreeting,
		},
		"no answer": {url: serve("")},
		"no TLS":    {url: "wss" + serve("")[len("ws"):]},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			conn, resp, err := Dialer{}.Dial(ctx, tc.url, nil)
			var timeout net.Error
			if tc.wantErr == nil && (!errors.As(err, &timeout) || !timeout.Timeout()) {
				t.Errorf("got %v, want a time-out", err)
			}
			if conn != nil || tc.wantErr != nil && !errors.Is(err, tc.wantErr) {
				t.Errorf("got %v, want %v", err, tc.wantErr)
			}
			if resp != nil && resp.StatusCode != tc.wantStatus {
				t.Errorf("the status is %d, want %d", resp.StatusCode, tc.wantStatus)
			}
			if resp == nil && tc.wantStatus != 0 {
				t.Error("no response")
			}
		})
	}
}
