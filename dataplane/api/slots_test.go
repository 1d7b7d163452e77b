package api_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/api/apitest"
	"github.com/caly-dev/caly/dataplane/server"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

const slotPatience = 20 * time.Second

// serveSlots serves an API with few places over a real connection. It counts the requests that arrive.
func serveSlots(t *testing.T, places int) (r *apitest.Rig, address string, arrived *atomic.Int32) {
	t.Helper()
	r = newRig(func(o *api.Options) {
		o.MaxInFlight = places
		o.BodyTimeout = time.Hour
	})
	arrived = &atomic.Int32{}
	handler := server.Middleware(r.API, quiet)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return r, s.Listener.Addr().String(), arrived
}

// slowBody sends the head of a request, and one byte of its body.
func slowBody(t *testing.T, address, head string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "POST /api/auth/things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+
		"Content-Length: 100\r\n%s\r\n{", head)
	if err != nil {
		t.Fatal(err)
	}
}

// TestSlowBodies tests that requests whose bodies do not arrive do not keep out requests of people who are signed
// in, and that they give their places to public requests.
func TestSlowBodies(t *testing.T) {
	const places = 8
	rig, address, arrived := serveSlots(t, places)
	for range 2 * places {
		slowBody(t, address, "X-Caly-Tenant: acme/support\r\n")
	}
	// The API has accepted or refused each of them: either way is right.
	eventually.Within(slotPatience).Holds(t, "the slow bodies have arrived", func() bool {
		return arrived.Load() == 2*places
	})
	for range 2 * places {
		get := func(path, bearer string) int {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Caly-Tenant", rig.Tenant.ID)
			if bearer != "" {
				req.Header.Set("Authorization", "Bearer "+bearer)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			return resp.StatusCode
		}
		eventually.Within(slotPatience).Holds(t, "a public request is answered", func() bool {
			return get("/api/auth/who", "") == http.StatusOK
		})
		eventually.Within(slotPatience).Holds(t, "a request of a person is answered", func() bool {
			return get("/api/things/1", "good") == http.StatusOK
		})
	}
}

// TestTenantShare tests that one tenant's requests in progress leave places for another tenant.
func TestTenantShare(t *testing.T) {
	const places = 8
	rig := newRig(func(o *api.Options) { o.MaxInFlight = places })
	other := tenantNamed("globex/sales")
	rig.Know(rig.Tenant, other)
	rig.Tokens.Add("other", apitest.ClaimsOf(other, "user-3", "session-3", "agent"))
	started := make(chan struct{}, places)
	finish := make(chan struct{})
	api.Register(rig.API, api.Operation{
		Method:  http.MethodGet,
		Path:    "/api/slow",
		ID:      "slow",
		Tag:     "things",
		Access:  api.SignedIn,
		Summary: "Be slow",
	}, func(context.Context, *struct{}) (*struct{}, error) {
		started <- struct{}{}
		<-finish
		return nil, nil //nolint:nilnil // 204
	})
	var requests sync.WaitGroup
	for range places / 4 {
		requests.Go(func() {
			if answer := rig.Do(t, "GET", "/api/slow", "good", nil); answer.Status != http.StatusNoContent {
				t.Errorf("within the share: %d %s", answer.Status, answer.Body)
			}
		})
		<-started
	}
	answer := rig.Do(t, "GET", "/api/things/1", "good", nil)
	if answer.Status != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Errorf("beyond the share: %d %s", answer.Status, answer.Body)
	}
	if answer := rig.Send(
		request("GET", "/api/things/1", "Authorization: Bearer other"),
	); answer.Status != http.StatusOK {
		t.Errorf("another tenant: %d %s", answer.Status, answer.Body)
	}
	close(finish)
	requests.Wait()
	if answer := rig.Do(t, "GET", "/api/things/1", "good", nil); answer.Status != http.StatusOK {
		t.Errorf("afterwards: %d %s", answer.Status, answer.Body)
	}
}

// pipes is a listener whose connections have no buffer: a write waits until the peer reads.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestSlowReaders tests that clients that do not read a large answer give their places to others.
func TestSlowReaders(t *testing.T) {
	const places = 4
	rig := newRig(func(o *api.Options) { o.MaxInFlight = places })
	listener := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	s := &http.Server{Handler: server.Middleware(rig.API, quiet), ReadHeaderTimeout: slotPatience}
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-served //nolint:errcheck // it says that it was closed
	})
	for range places { // the last one is refused: strangers have three quarters
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = ours.Close() })
		listener.conns <- theirs
		if _, err := fmt.Fprint(ours, "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := ours.Read(make([]byte, 1)); err != nil { // the answer has begun
			t.Fatal(err)
		}
	}
	eventually.Within(slotPatience).Holds(t, "another request is answered", func() bool {
		return rig.Do(t, "GET", "/api/auth/who", "", nil).Status == http.StatusOK
	})
}
