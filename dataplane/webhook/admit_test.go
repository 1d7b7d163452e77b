package webhook_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// heldUp is a store that answers nobody until it is released.
type heldUp struct {
	entered chan struct{}
	may     chan struct{}
	release func()
	over    <-chan struct{} // closed before the test's cleanups, so that a server's cleanup does not wait for this store
}

func newHeldUp(t *testing.T) *heldUp {
	h := &heldUp{entered: make(chan struct{}, 64), may: make(chan struct{}), over: t.Context().Done()}
	h.release = sync.OnceFunc(func() { close(h.may) })
	return h
}

func (h *heldUp) IngestBatch(_ context.Context, events []store.Event) ([]store.Outcome, error) {
	h.entered <- struct{}{}
	select {
	case <-h.may:
	case <-h.over:
		return nil, context.Canceled
	}
	outcomes := make([]store.Outcome, len(events))
	for i := range outcomes {
		outcomes[i] = store.Applied
	}
	return outcomes, nil
}

// serveBounded serves at most room webhooks at a time.
func serveBounded(t *testing.T, s webhook.Ingester, room int) *httptest.Server {
	t.Helper()
	handler := handlerWith(t, webhook.Options{Store: s, MaxInFlight: room})
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	return srv
}

// headers sends a webhook's headers, and as much of its body as is given.
func headers(t *testing.T, srv *httptest.Server, body string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	head := fmt.Sprintf(
		"POST %s HTTP/1.1\r\nHost: x\r\nX-Exotel-Signature: %s\r\nContent-Length: %d\r\n\r\n",
		statusPath,
		sign(signingSecret, statusBody),
		len(statusBody),
	)
	if _, err := fmt.Fprint(conn, head, body); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	return conn
}

func answer(t *testing.T, c net.Conn) (status int, retryAfter string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Retry-After")
}

// TestFull checks that one webhook too many is rejected before its body arrives; those in work get their 200.
func TestFull(t *testing.T) {
	heldUp := newHeldUp(t)
	srv := serveBounded(t, heldUp, 1)
	first := headers(t, srv, statusBody)
	<-heldUp.entered
	if status, retry := answer(t, headers(t, srv, "")); status != http.StatusServiceUnavailable || retry == "" {
		t.Errorf("one too many is answered %d, Retry-After %q", status, retry)
	}
	heldUp.release()
	if status, _ := answer(t, first); status != http.StatusOK {
		t.Errorf("the one in work is answered %d", status)
	}
	if status, _, _ := do(
		t, "POST", srv.URL+statusPath, sign(signingSecret, statusBody), statusBody,
	); status != http.StatusOK {
		t.Errorf("afterwards: %d", status)
	}
}

// TestHeldUpEndsWithItsTest checks that a test that fails before it releases its store ends at once.
func TestHeldUpEndsWithItsTest(t *testing.T) {
	var client net.Conn
	t.Run("a test that does not release", func(t *testing.T) {
		heldUp := newHeldUp(t)
		client = headers(t, serveBounded(t, heldUp, 1), statusBody)
		<-heldUp.entered
	})
	_ = client.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := client.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes came from a server that is closed", n)
	}
}

// TestUnreadBodyIsNotWaitedFor verifies that a request with a wrong path or method is answered before its body arrives.
func TestUnreadBodyIsNotWaitedFor(t *testing.T) {
	srv := serveBounded(t, &fake{}, 1)
	for name, tc := range map[string]struct {
		line string
		want int
	}{"path": {"POST /webhooks/exotel/a/b/nonsense", 404}, "method": {"PUT " + statusPath, 405}} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", tc.line)
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if status, _ := answer(t, conn); status != tc.want {
			t.Errorf("%s: %d, want %d", name, status, tc.want)
		}
		_ = conn.Close()
	}
}

// TestSlowBodiesDoNotStarveOthers verifies that good senders are answered while slow bodies hold all unverified places.
func TestSlowBodiesDoNotStarveOthers(t *testing.T) {
	registry := prometheus.NewRegistry()
	srv := httptest.NewServer(handlerWith(t, webhook.Options{
		Store:       &fake{outcome: store.Applied},
		MaxInFlight: 4,
		Metrics:     registry,
	}))
	t.Cleanup(srv.Close)
	var slow []net.Conn
	for n := 1; n <= 3; n++ { // as many as may be unverified
		slow = append(slow, headers(t, srv, "CallSid="))
		eventually.Within(10*time.Second).Holds(t, "the place is taken", func() bool {
			return inFlight(t, registry) >= float64(n)
		})
	}
	good := 0
	eventually.Within(10*time.Second).Holds(t, "four good webhooks are answered 200", func() bool {
		switch status, _, _ := do(t, "POST", srv.URL+statusPath, sign(signingSecret, statusBody), statusBody); status {
		case http.StatusOK:
			good++
		case http.StatusServiceUnavailable:
		default:
			t.Fatalf("a good sender is answered %d", status)
		}
		return good == 4
	})
	if status, _ := answer(t, slow[0]); status != http.StatusRequestTimeout {
		t.Errorf("the slowest is answered %d, want 408", status)
	}
	for _, c := range slow[1:] {
		_, _ = io.WriteString(c, statusBody[len("CallSid="):])
		if status, _ := answer(t, c); status != http.StatusOK {
			t.Errorf("one that was not in the way is answered %d", status)
		}
	}
}

// TestChunkedBodyWithoutEnd verifies that a chunked body without an end is cut at the bound and then holds no place.
func TestChunkedBodyWithoutEnd(t *testing.T) {
	// The server bounds no time here, so that nothing but the bound ends the body.
	srv := serveBounded(t, &fake{outcome: store.Applied}, 1)
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", statusPath)
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 64<<10, strings.Repeat("a", 64<<10))
	for range 64 {
		if _, err := io.WriteString(conn, chunk); err != nil {
			break // cut off, as it should be
		}
	}
	// The bound is well before a read's timeout.
	eventually.Within(5*time.Second).Holds(t, "the next webhook is answered 200", func() bool {
		status, _, _ := do(t, "POST", srv.URL+statusPath, sign(signingSecret, statusBody), statusBody)
		if status != http.StatusOK && status != http.StatusServiceUnavailable {
			t.Fatalf("the next webhook is answered %d", status)
		}
		return status == http.StatusOK
	})
}

// TestTenantShare tests that the webhooks of one tenant that wait for their commit leave places for another tenant.
func TestTenantShare(t *testing.T) {
	const places = 8
	heldUp := newHeldUp(t)
	registry := prometheus.NewRegistry()
	srv := httptest.NewServer(handlerWith(t, webhook.Options{Store: heldUp, MaxInFlight: places, Metrics: registry}))
	t.Cleanup(srv.Close)
	wait := func(metric string, want float64) {
		t.Helper()
		eventually.Within(10*time.Second).Succeeds(t, func(context.Context) error {
			if got := metricOf(t, registry, metric); got != want {
				return fmt.Errorf("%s is %v, want %v", metric, got, want)
			}
			return nil
		})
	}
	var first []net.Conn
	for n := range places / 2 {
		first = append(first, headers(t, srv, statusBody))
		wait("caly_webhook_verified_total", float64(n+1))
	}
	if status, retry := answer(t, headers(t, srv, statusBody)); status != http.StatusServiceUnavailable || retry == "" {
		t.Errorf("a webhook beyond the share is answered %d, Retry-After %q", status, retry)
	}
	wait("caly_webhook_in_flight", places/2)
	answered := make(chan int, 1)
	go func() {
		path := strings.Replace(statusPath, "acme/support", "globex/sales", 1)
		status, _, _ := do(t, "POST", srv.URL+path, sign("a signing secret of globex", statusBody), statusBody)
		answered <- status
	}()
	wait("caly_webhook_in_flight", places/2+1)
	heldUp.release()
	if status := <-answered; status != http.StatusOK {
		t.Errorf("another tenant's webhook is answered %d", status)
	}
	for _, c := range first {
		if status, _ := answer(t, c); status != http.StatusOK {
			t.Errorf("a webhook within the share is answered %d", status)
		}
	}
}
