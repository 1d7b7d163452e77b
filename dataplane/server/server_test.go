package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// soon bounds a wait for what must happen without delay.
const soon = eventually.Within(5 * time.Second)

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// TestDrain verifies that a pod that is signalled reports that it is not ready, and finishes its requests. It accepts
// new requests until the delay ends, and leaves no goroutine.
func TestDrain(t *testing.T) {
	defer goleak.VerifyNone(t)
	started := make(chan struct{})
	finish := make(chan struct{})
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(started)
			<-finish
		}
		_, _ = w.Write([]byte("done"))
	})
	options := Options{
		Listen:         freeAddress(t),
		InternalListen: freeAddress(t),
		Public:         slow,
		Internal:       http.NotFoundHandler(),
		Ready:          func(context.Context) error { return nil },
		DrainDelay:     500 * time.Millisecond,
		Grace:          5 * time.Second,
		Log:            slog.New(slog.DiscardHandler),
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, options) }()
	soon.Holds(t, "the server is ready", func() bool {
		code, _ := get(t, "http://"+options.InternalListen+"/readyz")
		return code == 200
	})
	answer := make(chan string, 1)
	go func() { _, body := get(t, "http://"+options.Listen+"/slow"); answer <- body }()
	<-started
	stop()
	soon.Holds(t, "the server reports that it drains", func() bool {
		code, body := get(t, "http://"+options.InternalListen+"/readyz")
		return code == 503 && strings.Contains(body, "draining")
	})
	if code, _ := get(t, "http://"+options.Listen+"/fast"); code != 200 {
		t.Errorf("a request within the drain delay: %d, want 200", code)
	}
	close(finish)
	if got := <-answer; got != "done" {
		t.Errorf("the request under way ended with %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestNotReadySaysWhy(t *testing.T) {
	options := Options{
		Ready:    func(context.Context) error { return errors.New("the tenant configs are not read yet") },
		Internal: http.NotFoundHandler(),
	}
	srv := httptest.NewServer(probes(options, new(atomic.Bool)))
	defer srv.Close()
	if code, body := get(t, srv.URL+"/readyz"); code != 503 || !strings.Contains(body, "not read yet") {
		t.Errorf("readyz: %d %q", code, body)
	}
	if code, _ := get(t, srv.URL+"/healthz"); code != 200 {
		t.Errorf("healthz: %d", code)
	}
}

func TestPanicBecomes500(t *testing.T) {
	handler := Middleware(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret detail") }),
		slog.New(slog.DiscardHandler),
	)
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/x", nil))
	if recorder.Code != 500 || strings.Contains(recorder.Body.String(), "secret") ||
		recorder.Header().Get("X-Request-Id") == "" {
		t.Errorf("answered %d %s", recorder.Code, recorder.Body)
	}
}

// TestSlowHeaders verifies that the server disconnects a peer that never ends its headers.
func TestSlowHeaders(t *testing.T) {
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = newServer(http.NotFoundHandler())
	srv.Config.ReadHeaderTimeout = 100 * time.Millisecond
	srv.Start()
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = conn.Write([]byte("POST / HTTP/1.1\r\nHost: x\r\n"))
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("the connection was not closed: %v", err)
	}
}
