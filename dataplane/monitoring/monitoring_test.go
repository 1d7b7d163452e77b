package monitoring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func get(h http.Handler, method, path, authorization string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	req := httptest.NewRequest(method, path, nil)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	h.ServeHTTP(recorder, req)
	return recorder
}

func fixed(name string, v any) Section {
	return NewSection(name, func(context.Context) any { return v })
}

// TestStatus verifies that a section that panics or hangs does not affect the other sections.
func TestStatus(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	for name, tc := range map[string]struct {
		sections []Section
		want     map[string]any
	}{
		"none": {nil, map[string]any{}},
		"good ones": {[]Section{fixed("tenants", map[string]int{"known": 3}), fixed("build", "v1")},
			map[string]any{"tenants": map[string]any{"known": 3.}, "build": "v1"}},
		"one that panics": {[]Section{NewSection("bad", func(context.Context) any { panic("a defect") }), fixed("build", "v1")},
			map[string]any{"bad": map[string]any{"error": "it panicked: a defect"}, "build": "v1"}},
		"one that hangs": {[]Section{NewSection("bad", func(context.Context) any { <-over; return 1 }), fixed("build", "v1")},
			map[string]any{"bad": map[string]any{"error": "no answer in time"}, "build": "v1"}},
		"nothing to say": {[]Section{fixed("build", nil)}, map[string]any{"build": nil}},
	} {
		t.Run(name, func(t *testing.T) {
			recorder := get(New(50*time.Millisecond, tc.sections...), "GET", "/api/monitoring/status", "")
			var got map[string]any
			if err := json.Unmarshal(recorder.Body.Bytes(), &got); err != nil || recorder.Code != 200 ||
				recorder.Header().Get("Cache-Control") != "no-store" {
				t.Fatalf("answered %d %v: %v: %s", recorder.Code, recorder.Header(), err, recorder.Body)
			}
			at, err := time.Parse(time.RFC3339, got["time"].(string))
			if delete(got, "time"); err != nil || time.Since(at).Abs() > time.Minute {
				t.Errorf("the time is %v, %v", at, err)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestOneAtATime verifies that a section that ignores its context holds at most one goroutine.
func TestOneAtATime(t *testing.T) {
	var asked atomic.Int32
	finish := make(chan struct{})
	handler := New(
		10*time.Millisecond, NewSection("deaf", func(context.Context) any { asked.Add(1); <-finish; return "done" }),
	)
	for range 5 {
		if recorder := get(handler, "GET", "/api/monitoring/status", ""); !strings.Contains(
			recorder.Body.String(), `"error"`,
		) {
			t.Errorf("answered %s", recorder.Body)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
	close(finish)
	eventually.Within(5*time.Second).Holds(t, "it is asked again after its end", func() bool {
		return strings.Contains(get(handler, "GET", "/api/monitoring/status", "").Body.String(), "done")
	})
}

func TestPaths(t *testing.T) {
	handler := New(0, NewSection("unwritable", func(context.Context) any { return func() {} }))
	for name, tc := range map[string]struct {
		method, path string
		want         int
	}{
		"another path":   {"GET", "/api/monitoring/", 404},
		"a slash more":   {"GET", "/api/monitoring/status/", 404},
		"another method": {"POST", "/api/monitoring/status", 405},
		"not JSON":       {"GET", "/api/monitoring/status", 500},
	} {
		t.Run(name, func(t *testing.T) {
			if recorder := get(handler, tc.method, tc.path, ""); recorder.Code != tc.want ||
				recorder.Header().Get("Content-Type") != "application/problem+json" ||
				(tc.want == 405) != (recorder.Header().Get("Allow") == "GET, HEAD") {
				t.Errorf("answered %d %v %s", recorder.Code, recorder.Header(), recorder.Body)
			}
		})
	}
}

// TestPublic verifies that only the operator's token is accepted. Without a configured token the path does not exist.
func TestPublic(t *testing.T) {
	for name, tc := range map[string]struct {
		file          string // "" for none, "-" for one that is missing
		authorization string
		want          int
	}{
		"no file":             {"", "Bearer sesame-open-sesame", 404},
		"a missing file":      {"-", "Bearer sesame-open-sesame", 404},
		"an empty file":       {" \n", "Bearer ", 404},
		"a file too long":     {strings.Repeat("x", maxToken+1), "Bearer " + strings.Repeat("x", maxToken+1), 404},
		"15 bytes":            {"sesame-open-ses", "Bearer sesame-open-ses", 404},
		"16 bytes":            {"sesame-open-sesa", "Bearer sesame-open-sesa", 200},
		"15 and spaces":       {"sesame-open-ses    ", "Bearer sesame-open-ses", 404},
		"no token":            {"sesame-open-sesame", "", 401},
		"another scheme":      {"sesame-open-sesame", "Basic sesame-open-sesame", 401},
		"an empty token":      {"sesame-open-sesame", "Bearer ", 401},
		"another token":       {"sesame-open-sesame", "Bearer sesame-open-sesam", 401},
		"a longer token":      {"sesame-open-sesame", "Bearer sesame-open-sesame2", 401},
		"the token":           {"sesame-open-sesame", "Bearer sesame-open-sesame", 200},
		"the token of a line": {"sesame-open-sesame\n", "bearer sesame-open-sesame", 200},
	} {
		t.Run(name, func(t *testing.T) {
			path := tc.file
			if path != "" {
				path = filepath.Join(t.TempDir(), "token")
			}
			if tc.file != "" && tc.file != "-" {
				write(t, path, tc.file)
			}
			recorder := get(NewPublic(path, New(0), quiet), "GET", "/api/monitoring/status", tc.authorization)
			if recorder.Code != tc.want || strings.Contains(recorder.Body.String(), "sesam") ||
				(recorder.Code == 401) != (recorder.Header().Get("WWW-Authenticate") != "") {
				t.Errorf("answered %d, want %d: %v %s", recorder.Code, tc.want, recorder.Header(), recorder.Body)
			}
		})
	}
}

var quiet = slog.New(slog.DiscardHandler)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRotation verifies that a replaced or removed token file is in force at the next request. The log reports it once
// and never shows a token.
func TestRotation(t *testing.T) {
	const first, second = "first-token-of-all", "second-token-of-all"
	var log bytes.Buffer
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, first)
	public := NewPublic(path, New(0), slog.New(slog.NewTextHandler(&log, nil)))
	status := func(token string) int { return get(public, "GET", "/api/monitoring/status", "Bearer "+token).Code }
	check := func(when string, wantFirst, wantSecond int) {
		t.Helper()
		for range 3 {
			if a, b := status(first), status(second); a != wantFirst || b != wantSecond {
				t.Errorf("%s: %d and %d, want %d and %d", when, a, b, wantFirst, wantSecond)
			}
		}
	}
	check("at first", 200, 401)
	replacement := path + ".new"
	write(t, replacement, second) // as long as a Secret's new file: it replaces the old one by a rename
	if err := os.Rename(replacement, path); err != nil {
		t.Fatal(err)
	}
	check("after it was replaced", 401, 200)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, replacement, first+" ") // of the same size and time
	if err := errors.Join(
		os.Chtimes(replacement, info.ModTime(), info.ModTime()), os.Rename(replacement, path),
	); err != nil {
		t.Fatal(err)
	}
	check("after it was replaced within one tick of the clock", 200, 401)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("after it was removed", 404, 404)
	write(t, path, first)
	check("after it is back", 200, 401)
	text := log.String()
	if lines := strings.Count(text, "\n"); lines != 1 || strings.Contains(text, first) ||
		strings.Contains(text, second) {
		t.Errorf("the log has %d lines: %s", lines, text)
	}
}

// TestFurtherPaths checks that further paths need the same methods and token as the status, and that nothing near them
// is served.
func TestFurtherPaths(t *testing.T) {
	h := New(0, fixed("build", "v1"))
	h.Handle(
		"cleanup-stats",
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("further")) }),
	)
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, "sesame-open-sesame")
	public := NewPublic(path, h, quiet)
	for name, tc := range map[string]struct {
		handler             http.Handler
		method, path, token string
		want                int
	}{
		"inside":              {h, "GET", "cleanup-stats", "", 200},
		"head":                {h, "HEAD", "cleanup-stats", "", 200},
		"another method":      {h, "DELETE", "cleanup-stats", "", 405},
		"under it":            {h, "GET", "cleanup-stats/x", "", 404},
		"the status still is": {h, "GET", "status", "", 200},
		"outside":             {public, "GET", "cleanup-stats", "", 401},
		"with the token":      {public, "GET", "cleanup-stats", "Bearer sesame-open-sesame", 200},
	} {
		t.Run(name, func(t *testing.T) {
			recorder := get(tc.handler, tc.method, PathPrefix+tc.path, tc.token)
			if recorder.Code != tc.want ||
				(recorder.Body.String() == "further") != (tc.want == 200 && tc.path == "cleanup-stats") {
				t.Errorf("answered %d %s", recorder.Code, recorder.Body)
			}
		})
	}
}

// TestActions checks that an action needs the token and POST, and that the internal listener does not have it.
func TestActions(t *testing.T) {
	h := New(0)
	ran := 0
	h.HandleAction("cleanup", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran++ }))
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, "sesame-open-sesame")
	const good = "Bearer sesame-open-sesame"
	public := NewPublic(path, h, quiet)
	for name, tc := range map[string]struct {
		handler       http.Handler
		method, token string
		want          int
	}{
		"with the token":   {public, "POST", good, 200},
		"no token":         {public, "POST", "", 401},
		"a wrong token":    {public, "POST", "Bearer sesame-open-sesamE", 401},
		"another method":   {public, "GET", good, 405},
		"method, no token": {public, "GET", "", 401},
		"inside":           {h, "POST", "", 404},
		"no token exists":  {NewPublic("", h, quiet), "POST", good, 404},
	} {
		ran = 0
		recorder := get(tc.handler, tc.method, PathPrefix+"cleanup", tc.token)
		if recorder.Code != tc.want || (ran == 1) != (tc.want == 200) {
			t.Errorf("%s: answered %d and ran %d times, want %d", name, recorder.Code, ran, tc.want)
		}
		if allow := recorder.Header().Get("Allow"); (allow == "POST") != (tc.want == 405) {
			t.Errorf("%s: Allow is %q", name, allow)
		}
	}
}

// TestRetryStats checks the answer about retries, inside and outside, while PostgreSQL answers and while it does not.
func TestRetryStats(t *testing.T) {
	var failed error
	h := New(0)
	h.Handle("retry-stats", RetryStats(func(context.Context) (resilience.Stats, error) {
		return resilience.StatsOf(map[string]resilience.Counts{"s3": {Retries: 20, Successful: 13, Failed: 2}}), failed
	}))
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, "sesame-open-sesame")
	public := NewPublic(path, h, quiet)
	for name, tc := range map[string]struct {
		handler       http.Handler
		method, token string
		err           error
		want          int
		wantBody      string
	}{
		"inside": {handler: h, method: "GET", want: 200, wantBody: `"retrySuccessRate": "86.67%",`},
		"with the token": {
			handler:  public,
			method:   "GET",
			token:    "Bearer sesame-open-sesame",
			want:     200,
			wantBody: `"totalRetries": 20,`,
		},
		"without a token": {handler: public, method: "GET", want: 401},
		"written to":      {handler: h, method: "POST", want: 405},
		"database down": {
			handler:  h,
			method:   "GET",
			err:      errors.New("away"),
			want:     503,
			wantBody: `"code":"database"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			failed = tc.err
			got := get(tc.handler, tc.method, PathPrefix+"retry-stats", tc.token)
			if got.Code != tc.want || !strings.Contains(got.Body.String(), tc.wantBody) {
				t.Errorf("answered %d %s, want %d with %q", got.Code, got.Body, tc.want, tc.wantBody)
			}
		})
	}
}

// TestShortToken checks that a token that can be guessed is reported at the start, without the token, and that a longer
// one in its place is accepted.
func TestShortToken(t *testing.T) {
	const short, long = "sesame", "sesame-open-sesame"
	var log bytes.Buffer
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, short)
	public := NewPublic(path, New(0), slog.New(slog.NewTextHandler(&log, nil)))
	said := log.String()
	named := strings.Contains(said, "has 6 bytes and needs at least 16") && strings.Contains(said, path)
	if !named || strings.Contains(said, `"`+short) {
		t.Errorf("logged %q", said)
	}
	for range 3 {
		if recorder := get(
			public, "GET", "/api/monitoring/status", "Bearer "+short,
		); recorder.Code != http.StatusNotFound {
			t.Errorf("a short token: %d, want 404", recorder.Code)
		}
	}
	write(t, path, long)
	if recorder := get(public, "GET", "/api/monitoring/status", "Bearer "+long); recorder.Code != http.StatusOK {
		t.Errorf("a long token: %d, want 200", recorder.Code)
	}
	if log.String() != said {
		t.Errorf("logged again: %q", log.String())
	}
}
