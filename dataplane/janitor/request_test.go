package janitor

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// post asks for a cleanup.
func post(ctx context.Context, j *Janitor) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, "/api/monitoring/cleanup", nil)
	j.Cleanup().ServeHTTP(recorder, req)
	return recorder
}

// heldStreams are streams whose reconciliation waits until it may end.
type heldStreams struct {
	fakeStreams
	may chan struct{}
}

func (s *heldStreams) Reconcile(ctx context.Context) (int, int, error) {
	rows, streams, err := s.fakeStreams.Reconcile(ctx)
	if s.calls.Load() > 1 { // not the cleanup at the start
		<-s.may
	}
	return rows, streams, err
}

func TestRequestedCleanup(t *testing.T) {
	for name, tc := range map[string]struct {
		err       error
		want      int
		wantCalls int32
		wantBody  string
		wantLog   string
	}{
		"done":          {nil, 200, 2, `"isRunning": true`, `msg="cleanup done"`},
		"database down": {errors.New("the database is away"), 503, 2, `"code":"database"`, `msg="cleanup failed`},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			streams := &fakeStreams{err: tc.err}
			j := New(Options{
				Store:    &reaper{},
				Registry: streams,
				Tenants:  tenants,
				Log:      slog.New(slog.NewTextHandler(&log, nil)),
			})
			stop := start(t, j)
			answer := post(t.Context(), j)
			calls := streams.calls.Load()
			stop()
			if answer.Code != tc.want || !strings.Contains(answer.Body.String(), tc.wantBody) {
				t.Errorf("answered %d %s, want %d", answer.Code, answer.Body, tc.want)
			}
			if calls != tc.wantCalls || !strings.Contains(log.String(), tc.wantLog) {
				t.Errorf("%d cleanups, want %d; logged %s", calls, tc.wantCalls, log.String())
			}
			if strings.Contains(answer.Body.String(), "away") {
				t.Errorf("the client sees the cause: %s", answer.Body)
			}
		})
	}
}

// TestTwoRequestedCleanups checks that a second request does not wait for the first one.
func TestTwoRequestedCleanups(t *testing.T) {
	streams := &heldStreams{may: make(chan struct{})}
	j := New(Options{Store: &reaper{}, Registry: streams, Tenants: tenants})
	start(t, j)
	first := make(chan int, 1)
	go func() { first <- post(t.Context(), j).Code }()
	eventually.Holds(t, "the first is in progress", func() bool { return streams.calls.Load() == 2 })
	second := post(t.Context(), j)
	close(streams.may)
	if second.Code != 429 || second.Header().Get("Retry-After") != "5" ||
		!strings.Contains(second.Body.String(), `"code":"rate_limited"`) {
		t.Errorf("the second is answered %d %v %s", second.Code, second.Header(), second.Body)
	}
	if code := <-first; code != 200 {
		t.Errorf("the first is answered %d", code)
	}
	if code := post(t.Context(), j).Code; code != 200 {
		t.Errorf("one after both is answered %d", code)
	}
}

// TestRequestedWithoutRun checks that a request ends in time while the janitor does not run.
func TestRequestedWithoutRun(t *testing.T) {
	j := New(Options{Store: &reaper{}, Registry: &fakeStreams{}, Tenants: tenants, Budget: 10 * time.Millisecond})
	if answer := post(t.Context(), j); answer.Code != 503 || answer.Header().Get("Retry-After") == "" {
		t.Errorf("answered %d %s", answer.Code, answer.Body)
	}
}

// TestReadMemory needs a system with /proc, as CI has.
func TestReadMemory(t *testing.T) {
	usage := readUsage()
	if usage.HeapUsed == 0 || usage.HeapTotal < usage.HeapUsed || usage.Resident < usage.HeapUsed/2 {
		t.Errorf("%+v", usage)
	}
}
