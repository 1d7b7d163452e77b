package webhook_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the scheme
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

const signingSecret = "a signing secret of acme"

func tenants() *tenantconfig.Snapshot {
	sig := func(s ...secret.Sensitive) *tenantconfig.Webhooks {
		return &tenantconfig.Webhooks{Signature: &tenantconfig.Signature{Scheme: "HMACSHA1", Secrets: s}}
	}
	hosts := []string{"recordings.exotel.com"}
	return tenantconfig.NewSnapshot(
		&tenantconfig.Tenant{
			ID:                 "acme/support",
			TimeZone:           "Asia/Kolkata",
			Webhooks:           sig(signingSecret, "the next secret of acme"),
			AllowedSourceHosts: hosts,
		},
		&tenantconfig.Tenant{
			ID:                 "globex/sales",
			Webhooks:           sig("a signing secret of globex"),
			AllowedSourceHosts: hosts,
		},
		&tenantconfig.Tenant{ID: "acme/asleep", Suspended: true, Webhooks: sig(signingSecret)},
		&tenantconfig.Tenant{ID: "acme/open"},
	)
}

func newServer(t *testing.T, s webhook.Ingester) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(newHandler(t, s, 0))
	t.Cleanup(srv.Close)
	return srv
}

func sign(key, data string) string {
	hash := hmac.New(sha1.New, []byte(key))
	hash.Write([]byte(data))
	return hex.EncodeToString(hash.Sum(nil))
}

// do sends a request and returns its status, body and headers, redirects not followed.
func do(t *testing.T, method, u, signature, body string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, u, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if signature != "" {
		req.Header.Set("X-Exotel-Signature", signature)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), resp.Header
}

// fake is a store that answers as told. The real one is tested below and in its own package.
type fake struct {
	outcome store.Outcome
	err     error
	mu      sync.Mutex // several workers may commit the events of one request
	got     []store.Event
}

func (f *fake) IngestBatch(_ context.Context, events []store.Event) ([]store.Outcome, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got = append(f.got, events...)
	if f.err != nil {
		return nil, f.err
	}
	outcomes := make([]store.Outcome, len(events))
	for i := range events {
		outcomes[i] = f.outcome
	}
	return outcomes, nil
}

func TestAnswers(t *testing.T) {
	const path, body = "/webhooks/exotel/acme/support/status", "CallSid=c1&Status=completed&EventType=terminal"
	for name, tc := range map[string]struct {
		method, path, key, body string
		unsigned                bool
		err                     error
		want                    int
		code, says              string
	}{
		"good":          {want: 200},
		"second secret": {key: "the next secret of acme", want: 200},
		"wrong secret":  {key: "a signing secret of globex", want: 401, code: "invalid_signature"},
		"no signature": {
			unsigned: true,
			want:     401,
			code:     "invalid_signature",
			says:     "Missing webhook signature",
		},
		"unknown tenant":   {path: "/webhooks/exotel/acme/nobody/status", want: 401, code: "invalid_signature"},
		"no verifier":      {path: "/webhooks/exotel/acme/open/status", want: 401, code: "invalid_signature"},
		"another's secret": {path: "/webhooks/exotel/globex/sales/status", want: 401, code: "invalid_signature"},
		"suspended":        {path: "/webhooks/exotel/acme/asleep/status", want: 403, code: "forbidden"},
		"unknown event":    {path: "/webhooks/exotel/acme/support/nonsense", want: 404, code: "not_found"},
		"doubled slash":    {path: "/webhooks/exotel//acme/support/status", want: 404, code: "not_found"},
		"trailing slash":   {path: path + "/", want: 404, code: "not_found"},
		"another method":   {method: "PUT", want: 405, code: "not_found"},
		"too large":        {body: strings.Repeat("a", 1<<20+1), want: 413, code: "payload_too_large"},
		"no call":          {body: "Status=completed", want: 200},
		"database gone": {
			err:  fmt.Errorf("%w: secret detail", store.ErrUnavailable),
			want: 503,
			code: "unavailable",
		},
		"database hesitates":  {err: context.DeadlineExceeded, want: 503, code: "unavailable"},
		"broken yet verified": {body: "CallSid=%zz", want: 200},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.method == "" {
				tc.method = "POST"
			}
			if tc.path == "" {
				tc.path = path
			}
			if tc.key == "" {
				tc.key = signingSecret
			}
			if tc.body == "" {
				tc.body = body
			}
			srv := newServer(t, &fake{outcome: store.Applied, err: tc.err})
			signature := sign(tc.key, tc.body)
			if tc.unsigned {
				signature = ""
			}
			status, answer, header := do(t, tc.method, srv.URL+tc.path, signature, tc.body)
			if status != tc.want {
				t.Fatalf("answered %d %s, want %d", status, answer, tc.want)
			}
			checkProblem(t, status, answer, header, tc.code, tc.says)
		})
	}
}

func checkProblem(t *testing.T, status int, answer string, header http.Header, code, says string) {
	t.Helper()
	if code == "" {
		return
	}
	var p struct {
		Code, Detail string
		Status       int
	}
	if err := json.Unmarshal([]byte(answer), &p); err != nil {
		t.Fatalf("the body is not a problem: %v: %s", err, answer)
	}
	if p.Code != code || p.Status != status || !strings.Contains(p.Detail, says) ||
		header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("problem %+v, want code %s, status %d, saying %q", p, code, status, says)
	}
	if strings.Contains(answer, "secret") {
		t.Errorf("the answer tells of secrets: %s", answer)
	}
	if (status == 503) != (header.Get("Retry-After") != "") {
		t.Errorf("status %d with Retry-After %q", status, header.Get("Retry-After"))
	}
}

func TestEventsThatCannotBeApplied(t *testing.T) {
	for name, tc := range map[string]struct {
		body string
		err  error
		want string
	}{
		"malformed": {"{", nil, "malformed_body"},
		"no call":   {"CallSid=%zz", nil, "missing_call_sid"},
		"no id":     {"CallSid=../x", nil, "invalid_call_sid"},
		"database refuses": {"CallSid=c1&Status=completed", &store.ServerError{
			Code:    "22021",
			Message: "bad bytes",
		}, "refused_by_database"},
		"one too many": {"CallSid=c1&Status=completed", fmt.Errorf("%w: 16", store.ErrTooManyRecordings),
			"too_many_recordings"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{outcome: store.Dead, err: tc.err}
			srv := newServer(t, f)
			do(t, "POST", srv.URL+"/webhooks/exotel/acme/support/status", sign(signingSecret, tc.body), tc.body)
			last := f.got[len(f.got)-1]
			if last.DeadReason != tc.want {
				t.Errorf("dead reason %q (recordings %v), want %q", last.DeadReason, last.Recordings, tc.want)
			}
		})
	}
}

func TestHostileTextIsMadeFit(t *testing.T) {
	f := &fake{outcome: store.Applied}
	srv := newServer(t, f)
	body := url.Values{"CallSid": {"c1"}, "From": {"a\x00b\xff" + strings.Repeat("é", 100)}}.Encode()
	do(t, "POST", srv.URL+"/webhooks/exotel/acme/support/status", sign(signingSecret, body), body)
	if got := f.got[0].Call.From; strings.ContainsRune(got, 0) || !utf8.ValidString(got) || len(got) > 128 {
		t.Errorf("From reaches the database as %q", got)
	}
}

func TestQuerySecretsAreNotKept(t *testing.T) {
	f := &fake{outcome: store.Applied}
	srv := newServer(t, f)
	raw := "CallSid=c1&token=topsecret&Status=completed"
	status, _, _ := do(t, "GET", srv.URL+"/webhooks/exotel/acme/support/passthru?"+raw, sign(signingSecret, raw), "")
	if status != 200 || strings.Contains(f.got[0].Query, "topsecret") ||
		!strings.Contains(f.got[0].Query, "CallSid=c1") {
		t.Errorf("status %d, kept query %q", status, f.got[0].Query)
	}
}

// TestEverySpelling sends one call in each spelling, twice, to a real PostgreSQL: each is one event and one recording.
func TestEverySpelling(t *testing.T) {
	pg := pgtest.New(t)
	db, err := store.OpenDataplane(t.Context(), pg.DataplaneDSN, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	srv := newServer(t, db)
	sender := exotelsim.Sender{Secret: signingSecret, Wait: time.Millisecond}
	for _, how := range exotelsim.Spellings {
		call := exotelsim.Call{
			SID:          "call" + string(how),
			From:         "0987",
			To:           "0912",
			Started:      time.Now().Add(-time.Minute),
			Ended:        time.Now(),
			RecordingURL: "https://recordings.exotel.com/x/" + string(how) + ".mp3",
		}
		fields := call.Terminal()
		for range 2 {
			if status, _, err := sender.Send(
				t.Context(), srv.URL+"/webhooks/exotel/acme/support/status", fields, how,
			); err != nil ||
				status != 200 {
				t.Fatalf("%s: %d, %v", how, status, err)
			}
		}
	}
	conn, err := pgx.Connect(t.Context(), pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var events, recordings, completed int
	err = conn.QueryRow(
		t.Context(),
		`SELECT (SELECT count(*) FROM call_events), (SELECT count(*) FROM recordings), (SELECT count(*) FROM calls WHERE state = 4)`,
	).
		Scan(&events, &recordings, &completed)
	if want := len(exotelsim.Spellings); err != nil || events != want || recordings != want || completed != want {
		t.Errorf(
			"%d events, %d recordings, %d completed calls (%v); want %d of each",
			events,
			recordings,
			completed,
			err,
			want,
		)
	}
}

// TestOutage verifies that a webhook gets 503, never 200, during a database outage, and that the same event is accepted
// afterwards.
func TestOutage(t *testing.T) {
	pg := pgtest.New(t)
	db, err := store.OpenDataplane(t.Context(), pg.DataplaneDSN, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	srv := newServer(t, db)
	send := func() int {
		const body = "CallSid=c1&Status=completed"
		status, answer, header := do(
			t, "POST", srv.URL+"/webhooks/exotel/acme/support/status", sign(signingSecret, body), body,
		)
		if status != 200 {
			checkProblem(t, status, answer, header, "unavailable", "retry later")
		}
		return status
	}
	pg.Stop(t)
	if got := send(); got != 503 {
		t.Errorf("while PostgreSQL is away: %d, want 503", got)
	}
	pg.Start(t)
	eventually.Within(10*time.Second).Reaches(t, "the event is taken", func(context.Context) (bool, string) {
		got := send()
		return got == http.StatusOK, fmt.Sprint("status ", got)
	})
}

// TestBodyBrokenOff checks that what came of a truncated body is not an event, though its signature is right.
func TestBodyBrokenOff(t *testing.T) {
	for name, framing := range map[string]string{
		"with a length": "Content-Length: 100\r\n\r\nCallSid",
		"in chunks":     "Transfer-Encoding: chunked\r\n\r\n7\r\nCallSid\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{outcome: store.Applied}
			srv := newServer(t, f)
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nX-Exotel-Signature: %s\r\n%s",
				"/webhooks/exotel/acme/support/status", sign(signingSecret, "CallSid"), framing)
			if err != nil {
				t.Fatal(err)
			}
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			if status, _ := answer(t, conn); status != http.StatusBadRequest {
				t.Errorf("a truncated body is answered %d, want 400", status)
			}
			if len(f.got) != 0 {
				t.Errorf("a truncated body was kept: %+v", f.got)
			}
		})
	}
}
