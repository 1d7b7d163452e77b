package server

import (
	"context"
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
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func testOptions(t *testing.T, public http.Handler) Options {
	t.Helper()
	return Options{
		Listen:         freeAddress(t),
		InternalListen: freeAddress(t),
		Public:         public,
		Internal:       http.NotFoundHandler(),
		Ready:          func(context.Context) error { return nil },
		DrainDelay:     50 * time.Millisecond,
		Grace:          10 * time.Second,
		Log:            quiet(),
	}
}

// running is a server under way. Its stop may be called once; its end is what Run returned.
func running(t *testing.T, o Options) (stop context.CancelFunc, end chan error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	end = make(chan error, 1)
	go func() { end <- Run(ctx, o) }()
	soon.Holds(t, "the server is ready", func() bool {
		code, _ := get(t, "http://"+o.InternalListen+"/readyz")
		return code == 200
	})
	return stop, end
}

// TestDrainTakesNothingNew verifies that a draining server accepts no new connection and finishes its last request.
func TestDrainTakesNothingNew(t *testing.T) {
	defer goleak.VerifyNone(t)
	started := make(chan struct{})
	finish := make(chan struct{})
	options := testOptions(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(started)
		<-finish
		_, _ = w.Write([]byte("done"))
	}))
	stop, end := running(t, options)
	answer := make(chan string, 1)
	go func() { _, body := get(t, "http://"+options.Listen+"/slow"); answer <- body }()
	<-started
	stop()
	soon.Holds(t, "the port is closed", func() bool {
		conn, err := net.Dial("tcp", options.Listen)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	if code, _ := get(t, "http://"+options.InternalListen+"/healthz"); code != 200 {
		t.Errorf("a pod that drains is not alive (%d): it would be killed in the middle", code)
	}
	close(finish)
	if got := <-answer; got != "done" {
		t.Errorf("the request under way ended with %q", got)
	}
	if err := <-end; err != nil {
		t.Error(err)
	}
}

// TestGraceEnds verifies that a request that never ends does not hold the pod beyond its grace.
func TestGraceEnds(t *testing.T) {
	defer goleak.VerifyNone(t)
	started := make(chan struct{})
	options := testOptions(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
	}))
	options.Grace = 100 * time.Millisecond
	stop, end := running(t, options)
	answered := make(chan struct{})
	go func() { get(t, "http://"+options.Listen+"/"); close(answered) }()
	<-started
	stop()
	if err := <-end; err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("ended with %v, want it to say that requests were cut off", err)
	}
	<-answered
}

func TestAddressTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for name, change := range map[string]func(*Options){
		"listen for webhooks": func(o *Options) { o.Listen = taken.Addr().String() },
		"listen for probes":   func(o *Options) { o.InternalListen = taken.Addr().String() },
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			options := testOptions(t, http.NotFoundHandler())
			change(&options)
			if err := Run(t.Context(), options); err == nil || !strings.HasPrefix(err.Error(), name) {
				t.Errorf("got %v, want an error of %q", err, name)
			}
			for _, address := range []string{options.Listen, options.InternalListen} {
				if address == taken.Addr().String() {
					continue
				}
				listener, err := net.Listen("tcp", address)
				if err != nil {
					t.Fatalf("the other address is still held: %v", err)
				}
				_ = listener.Close()
			}
		})
	}
}

// TestProbesStayInside verifies that the public listener has neither probes nor metrics.
func TestProbesStayInside(t *testing.T) {
	options := testOptions(t, http.NotFoundHandler())
	options.Internal = http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("metrics")) },
	)
	stop, end := running(t, options)
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if code, _ := get(t, "http://"+options.Listen+path); code != http.StatusNotFound {
			t.Errorf("the public %s is answered %d", path, code)
		}
		if code, _ := get(t, "http://"+options.InternalListen+path); code != http.StatusOK {
			t.Errorf("the internal %s is answered %d", path, code)
		}
	}
	stop()
	if err := <-end; err != nil {
		t.Error(err)
	}
}

// TestReadinessIsBounded verifies that a readiness check that hangs makes the pod not ready, and that the probe gets an
// answer.
func TestReadinessIsBounded(t *testing.T) {
	options := Options{
		Internal: http.NotFoundHandler(),
		Ready:    func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	}
	srv := httptest.NewServer(probes(options, new(atomic.Bool)))
	defer srv.Close()
	if code, body := get(t, srv.URL+"/readyz"); code != http.StatusServiceUnavailable ||
		!strings.Contains(body, "deadline") {
		t.Errorf("answered %d %q", code, body)
	}
}

// TestPanics verifies that a response cut by a panic never looks complete, and that the server keeps serving.
func TestPanics(t *testing.T) {
	srv := httptest.NewServer(Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/before":
			panic("a defect")
		case "/half":
			_, _ = w.Write([]byte("half"))
			_ = http.NewResponseController(w).Flush()
			panic("a defect")
		case "/abort":
			panic(http.ErrAbortHandler)
		}
	}), quiet()))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	defer srv.Close()
	for path, tc := range map[string]struct {
		wantCode int
		wantErr  bool
	}{
		"/before": {wantCode: http.StatusInternalServerError},
		"/half":   {wantCode: http.StatusOK, wantErr: true},
		"/abort":  {wantErr: true},
		"/good":   {wantCode: http.StatusOK},
	} {
		t.Run(path[1:], func(t *testing.T) {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
			code := 0
			resp, err := client.Get(srv.URL + path)
			if err == nil {
				code = resp.StatusCode
				_, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			if code != tc.wantCode || (err != nil) != tc.wantErr {
				t.Errorf("answered %d, %v; want %d, error %v", code, err, tc.wantCode, tc.wantErr)
			}
		})
	}
}

func TestRequestIDsDiffer(t *testing.T) {
	handler := Middleware(http.NotFoundHandler(), quiet())
	seen := map[string]bool{}
	for range 1000 {
		recorder := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Header.Set("X-Request-Id", "chosen by the sender")
		handler.ServeHTTP(recorder, req)
		seen[recorder.Header().Get("X-Request-Id")] = true
	}
	if len(seen) != 1000 || seen["chosen by the sender"] || seen[""] {
		t.Errorf("1000 requests have %d ids", len(seen))
	}
}

// TestSlowPeersAreCutOff verifies that peers that never end a request lose their slots.
func TestSlowPeersAreCutOff(t *testing.T) {
	defer goleak.VerifyNone(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	server.ReadHeaderTimeout = 100 * time.Millisecond
	server.ReadTimeout = 200 * time.Millisecond
	served := make(chan error, 1)
	go func() { served <- serve(server, limit(listener, 2)) }()
	for _, said := range []string{"POST / HTTP/1.1\r\nHost: x\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"} {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, said)
	}
	if code, body := get(t, "http://"+listener.Addr().String()); code != 200 {
		t.Errorf("with both slots taken by slow peers: %d %s", code, body)
	}
	_ = server.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
