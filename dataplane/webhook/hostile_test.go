package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/server"
	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/store"
)

const (
	statusPath = "/webhooks/exotel/acme/support/status"
	statusBody = "CallSid=c1&Status=completed&EventType=terminal"
)

func newHandler(t testing.TB, s webhook.Ingester, maxBody int64) *webhook.Handler {
	t.Helper()
	return handlerWith(t, webhook.Options{Store: s, MaxBody: maxBody})
}

// handlerWith fills in what is not set, and closes the handler when the test has ended.
func handlerWith(t testing.TB, o webhook.Options) *webhook.Handler {
	t.Helper()
	if o.Tenants == nil {
		o.Tenants = tenants
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	handler := webhook.New(o)
	t.Cleanup(handler.Close)
	return handler
}

// post gives the handler a request without a network in between.
func post(h http.Handler, path, signature, body string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Exotel-Signature", signature)
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, req)
	return recorder
}

// TestRefusalsAreAlike verifies that the answer does not show whether the tenant is unknown or the secret is wrong.
func TestRefusalsAreAlike(t *testing.T) {
	handler := server.Middleware(newHandler(t, &fake{}, 0), slog.New(slog.DiscardHandler))
	type answer struct {
		Status int
		Header http.Header
		Body   string
	}
	refusal := func(path string) answer {
		recorder := post(handler, path, sign("nobody's secret", statusBody), statusBody)
		id := recorder.Header().Get("X-Request-Id")
		if len(id) != 16 || !strings.Contains(recorder.Body.String(), id) {
			t.Fatalf("request id %q in %s", id, recorder.Body)
		}
		header := recorder.Header().Clone()
		header.Del("X-Request-Id")
		return answer{recorder.Code, header, strings.ReplaceAll(recorder.Body.String(), id, "")}
	}
	want := refusal(statusPath)
	if want.Status != http.StatusUnauthorized {
		t.Fatalf("a wrong signature is answered %d", want.Status)
	}
	for name, path := range map[string]string{
		"unknown tenant":    "/webhooks/exotel/acme/nobody/status",
		"unknown namespace": "/webhooks/exotel/nobody/support/status",
		"no verifier":       "/webhooks/exotel/acme/open/status",
		"suspended":         "/webhooks/exotel/acme/asleep/status",
		"traversal":         "/webhooks/exotel/../support/status",
	} {
		if d := cmp.Diff(want, refusal(path)); d != "" {
			t.Errorf("%s (-wrong signature +this):\n%s", name, d)
		}
	}
}

// TestOneFlippedBit verifies that a change of any bit of the body, the signature or the secret is rejected.
func TestOneFlippedBit(t *testing.T) {
	f := &fake{outcome: store.Applied}
	handler := newHandler(t, f, 0)
	flip := func(s string, bit int) string {
		b := []byte(s)
		b[bit/8] ^= 1 << (bit % 8)
		return string(b)
	}
	good := sign(signingSecret, statusBody)
	for name, tc := range map[string]struct {
		text    string
		request func(flipped string) (signature, body string)
	}{
		"body":      {statusBody, func(s string) (string, string) { return good, s }},
		"signature": {good, func(s string) (string, string) { return s, statusBody }},
		"secret":    {signingSecret, func(s string) (string, string) { return sign(s, statusBody), statusBody }},
	} {
		for bit := range len(tc.text) * 8 {
			signature, body := tc.request(flip(tc.text, bit))
			if strings.EqualFold(signature, good) && body == statusBody {
				continue // the other case of a hex digit
			}
			if recorder := post(handler, statusPath, signature, body); recorder.Code != http.StatusUnauthorized {
				t.Fatalf("%s with bit %d flipped: %d", name, bit, recorder.Code)
			}
		}
	}
	if len(f.got) != 0 {
		t.Errorf("%d events of refused requests were kept", len(f.got))
	}
}

// TestOnlyWhatIsSignedIsRead checks that an attacker who has seen a signed request cannot add fields to it.
func TestOnlyWhatIsSignedIsRead(t *testing.T) {
	const query = "CallSid=c2&RecordingUrl=https://recordings.exotel.com/forged.mp3&Status=failed"
	for name, tc := range map[string]struct {
		method, query, body, signed string
		want                        int
		wantCall                    string
	}{
		"query next to a body": {
			"POST",
			query,
			"CallSid=c1&Status=completed",
			"CallSid=c1&Status=completed",
			200,
			"c1",
		},
		"body of a GET": {
			"GET",
			"CallSid=c1&Status=completed",
			query,
			"CallSid=c1&Status=completed",
			200,
			"c1",
		},
		"POST with a query alone": {
			"POST",
			"CallSid=c1&Status=completed",
			"",
			"CallSid=c1&Status=completed",
			200,
			"c1",
		},
		"signature of nothing":     {"POST", query, "", "", 401, ""},
		"signature of the body":    {"GET", query, "CallSid=c1", "CallSid=c1", 401, ""},
		"signature of the query":   {"POST", query, "CallSid=c1", query, 401, ""},
		"nothing, and that signed": {"POST", "", "", "", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{outcome: store.Applied}
			req := httptest.NewRequest(tc.method, statusPath+"?"+tc.query, strings.NewReader(tc.body))
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("X-Exotel-Signature", sign(signingSecret, tc.signed))
			recorder := httptest.NewRecorder()
			newHandler(t, f, 0).ServeHTTP(recorder, req)
			if recorder.Code != tc.want {
				t.Fatalf("answered %d %s, want %d", recorder.Code, recorder.Body, tc.want)
			}
			if tc.wantCall == "" {
				return
			}
			if event := f.got[0]; event.CallSID != tc.wantCall || event.Recordings != nil ||
				event.Call.State != store.CallCompleted {
				t.Errorf("unsigned fields were read: %+v", event)
			}
		})
	}
}

func TestOversizedBody(t *testing.T) {
	for name, body := range map[string]io.Reader{
		"declared": strings.NewReader(strings.Repeat("a", 4<<10)),
		"chunked":  io.MultiReader(strings.NewReader(strings.Repeat("a", 4<<10))),
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{}
			srv := httptest.NewServer(newHandler(t, f, 1<<10))
			defer srv.Close()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+statusPath, body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Exotel-Signature", sign(signingSecret, "x"))
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			answer, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != http.StatusRequestEntityTooLarge || len(f.got) != 0 {
				t.Fatalf("answered %d, %d events kept", resp.StatusCode, len(f.got))
			}
			checkProblem(t, resp.StatusCode, string(answer), resp.Header, "payload_too_large", "")
		})
	}
}

// TestBodyThatNeverEnds verifies that a sender that stops in the middle of its body gets a 408 and is disconnected.
func TestBodyThatNeverEnds(t *testing.T) {
	f := &fake{}
	srv := httptest.NewServer(handlerWith(t, webhook.Options{Store: f, BodyWithin: 200 * time.Millisecond}))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nCallSid=", statusPath)
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") || len(f.got) != 0 {
		t.Errorf("answered %q (%v), %d events kept", answer, err, len(f.got))
	}
}

func TestMethods(t *testing.T) {
	handler := newHandler(t, &fake{outcome: store.Applied}, 0)
	for _, method := range []string{"PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW"} {
		req := httptest.NewRequest(method, statusPath, nil)
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, req)
		if recorder.Code != http.StatusMethodNotAllowed || recorder.Header().Get("Allow") != "GET, POST" {
			t.Errorf("%s: answered %d, Allow %q", method, recorder.Code, recorder.Header().Get("Allow"))
		}
	}
}

// FuzzPath verifies that no path is answered with a redirect, and that only a tenant's own webhooks are answered 200.
func FuzzPath(f *testing.F) {
	for _, p := range []string{statusPath, "/", "//", "/webhooks/exotel//acme/support/status",
		"//webhooks/exotel/acme/support/status", "/webhooks/exotel/acme/support/status/",
		"/webhooks/exotel/acme/support/../support/status", "/webhooks/exotel/./acme/support/status",
		"/webhooks/exotel/acme%2Fsupport/status", "/webhooks/exotel",
		"/webhooks/exotel/acme/support/passthru", "/webhooks/exotel/acme/support/status%00",
		"/WEBHOOKS/exotel/acme/support/status", "http://x/webhooks/exotel/acme/support/status"} {
		f.Add(p)
	}
	handler := newHandler(f, &fake{outcome: store.Applied}, 0)
	f.Fuzz(func(t *testing.T, path string) {
		address, err := url.ParseRequestURI(path)
		if err != nil {
			return // net/http answers those 400 by itself
		}
		req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(statusBody))
		req.URL = address
		req.Header.Set("X-Exotel-Signature", sign(signingSecret, statusBody))
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, req)
		switch recorder.Code {
		case http.StatusOK:
			if !strings.HasPrefix(address.Path, "/webhooks/exotel/acme/support/") ||
				strings.Contains(address.Path, "//") ||
				strings.Contains(address.Path, "..") {
				t.Errorf("%q is answered 200", path)
			}
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		default:
			t.Errorf("%q is answered %d", path, recorder.Code)
		}
		if recorder.Header().Get("Location") != "" {
			t.Errorf("%q leads to %q", path, recorder.Header().Get("Location"))
		}
	})
}

// panicking is a store with a defect.
type panicking struct{ once sync.Once }

func (p *panicking) IngestBatch(context.Context, []store.Event) ([]store.Outcome, error) {
	p.once.Do(func() { panic("a defect with a secret in it") })
	return []store.Outcome{store.Applied}, nil
}

// TestPanicBelow verifies that a panic is answered as safe to retry with the request's id, and that the process keeps
// serving.
func TestPanicBelow(t *testing.T) {
	srv := httptest.NewServer(server.Middleware(newHandler(t, &panicking{}, 0), slog.New(slog.DiscardHandler)))
	defer srv.Close()
	status, answer, header := do(t, "POST", srv.URL+statusPath, sign(signingSecret, statusBody), statusBody)
	checkProblem(t, status, answer, header, "internal", "safe to retry")
	var p struct{ RequestID string }
	if err := json.Unmarshal([]byte(answer), &p); err != nil || status != 500 || p.RequestID == "" ||
		p.RequestID != header.Get("X-Request-Id") {
		t.Errorf("answered %d %s, X-Request-Id %q", status, answer, header.Get("X-Request-Id"))
	}
	status, _, again := do(t, "POST", srv.URL+statusPath, sign(signingSecret, statusBody), statusBody)
	if status != 200 || again.Get("X-Request-Id") == header.Get("X-Request-Id") {
		t.Errorf("the next request is answered %d, with the id %s", status, again.Get("X-Request-Id"))
	}
}

// TestPassingRefusal verifies that a temporary error of PostgreSQL is answered 503 and never makes an event dead.
func TestPassingRefusal(t *testing.T) {
	for name, code := range map[string]string{"deadlock": "40P01", "serialization": "40001", "lock": "55P03"} {
		t.Run(name, func(t *testing.T) {
			f := &fake{err: &store.ServerError{Code: code, Message: "PostgreSQL says: x"}}
			recorder := post(newHandler(t, f, 0), statusPath, sign(signingSecret, statusBody), statusBody)
			if recorder.Code != http.StatusServiceUnavailable || recorder.Header().Get("Retry-After") == "" ||
				len(f.got) != 1 {
				t.Errorf("answered %d after %d tries: %+v", recorder.Code, len(f.got), f.got)
			}
		})
	}
}

// TestDeadEventCarriesNothingElse verifies that a dead event is stored without its fields, because PostgreSQL may have
// rejected one of them.
func TestDeadEventCarriesNothingElse(t *testing.T) {
	f := &fake{err: &store.ServerError{Code: "22021", Message: "bad bytes"}}
	body := statusBody + "&RecordingUrl=https://recordings.exotel.com/%FF.mp3"
	post(newHandler(t, f, 0), statusPath, sign(signingSecret, body), body)
	last := f.got[len(f.got)-1]
	if len(f.got) != 2 || last.DeadReason != "refused_by_database" || last.Recordings != nil ||
		last.Call != (store.Call{}) ||
		!bytes.Equal(last.Raw, []byte(body)) {
		t.Errorf("after %d tries: %+v", len(f.got), last)
	}
}
