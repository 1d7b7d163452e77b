package exotelsim

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// unpooled has no connection pool, so that nothing of a test outlives it.
var unpooled = &http.Client{
	Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
	Timeout:   10 * time.Second,
}

func start(t *testing.T, o Options) *Server {
	t.Helper()
	server, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

// answer is what a test looks at. err is the body's.
type answer struct {
	status int
	header http.Header
	length int64
	body   []byte
	err    error
}

// get asks for a path; what changes the request first.
func get(t *testing.T, s *Server, path string, what ...func(*http.Request)) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range what {
		w(req)
	}
	resp, err := unpooled.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, resp.ContentLength, body, err}
}

func with(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func basic(key, token string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(key, token) }
}

func method(m string) func(*http.Request) {
	return func(r *http.Request) { r.Method = m }
}
