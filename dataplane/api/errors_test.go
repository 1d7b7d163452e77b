package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/api/apitest"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/store"
)

// TestErrors verifies which code answers each error of a handler. Only development mode shows the cause, and the log
// has the errors that a person must act on.
func TestErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		err            error
		wantStatus     int
		wantCode       string
		wantRetryAfter string
		wantLogged     bool
	}{
		"a defect": {errSecret, 500, "internal", "", true},
		"the database is away": {
			fmt.Errorf("list: %w: %w", store.ErrUnavailable, errSecret),
			503,
			"database",
			"5",
			false,
		},
		"the database is too slow": {
			fmt.Errorf("%w: %w: %w", store.ErrUnavailable, context.DeadlineExceeded, errSecret),
			503,
			"database",
			"5",
			false,
		},
		"out of time": {fmt.Errorf("%w: %w", context.DeadlineExceeded, errSecret), 504, "timeout", "", false},
		"broken off":  {fmt.Errorf("%w: %w", context.Canceled, errSecret), 503, "unavailable", "", false},
		"a problem": {
			problem.New(problem.Conflict, "it is there").WithCause(errSecret),
			409,
			"conflict",
			"",
			false,
		},
		"a problem, wrapped": {
			fmt.Errorf("make: %w", problem.New(problem.Conflict, "it is there").WithCause(errSecret)),
			409,
			"conflict",
			"",
			false,
		},
		"a service behind": {problem.New(problem.UpstreamFailure,
			"the bucket refused").WithCause(errSecret).WithRetryAfter(90 * time.Second),
			502, "upstream_failure", "90", true},
		"a problem of an unknown code": {problem.New("made_up", "").WithCause(errSecret), 500, "internal", "", true},
		"the tenant is busy": {fmt.Errorf("list: %w: %w", store.ErrTenantBusy, errSecret),
			503, "unavailable", "1", false},
	} {
		for _, mode := range []api.Mode{"", api.Production, api.Development} {
			t.Run(name+", "+string(mode), func(t *testing.T) {
				var log bytes.Buffer
				rig := failing(
					tc.err, func(o *api.Options) { o.Mode, o.Log = mode, slog.New(slog.NewTextHandler(&log, nil)) },
				)
				answer := rig.Do(t, "GET", "/api/fail", "good", nil)
				var p problem.Problem
				answer.JSON(t, &p)
				if answer.Status != tc.wantStatus || string(p.Code) != tc.wantCode || p.Status != tc.wantStatus ||
					answer.Header.Get("Retry-After") != tc.wantRetryAfter {
					t.Errorf(
						"answered %d, Retry-After %q: %s", answer.Status, answer.Header.Get("Retry-After"), answer.Body,
					)
				}
				if told := strings.Contains(string(answer.Body), "canary"); told != (mode == api.Development) ||
					told != (p.Debug != "") {
					t.Errorf("the cause is told: %v: %s", told, answer.Body)
				}
				logged := strings.Contains(log.String(), "canary") && strings.Contains(log.String(), p.RequestID)
				if logged != tc.wantLogged || p.RequestID == "" || p.RequestID != answer.Header.Get("X-Request-Id") {
					t.Errorf("request %q, log %q", p.RequestID, log.String())
				}
				if answer.Header.Get("Content-Type") != "application/problem+json" ||
					answer.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("headers %v", answer.Header)
				}
			})
		}
	}
}

// TestProblemsAreShared verifies that one problem can answer many requests without a change to it.
func TestProblemsAreShared(t *testing.T) {
	shared := problem.New(problem.Conflict, "it is there").WithCause(errSecret)
	rig := failing(shared, func(o *api.Options) { o.Mode = api.Development })
	first := rig.Do(t, "GET", "/api/fail", "good", nil)
	second := rig.Do(t, "GET", "/api/fail", "good", nil)
	if bytes.Equal(first.Body, second.Body) || shared.RequestID != "" || shared.Debug != "" {
		t.Errorf("%s, %s; the shared one is %+v", first.Body, second.Body, shared)
	}
}

func register(r *apitest.Rig, path string, h func(context.Context) error) {
	api.Register(r.API, api.Operation{
		Method:  http.MethodPost,
		Path:    path,
		ID:      strings.ReplaceAll(path, "/", "-"),
		Tag:     "things",
		Access:  api.Public,
		Summary: "Try",
	}, func(ctx context.Context, _ *struct{ Body thing }) (*struct{}, error) { return nil, h(ctx) })
}

const tryPath, tryBody = "/t/acme/support/api/try", `{"name":"ab"}`

func tryIt(t *testing.T, url string) apitest.Answer {
	t.Helper()
	resp, err := http.Post(
		url+tryPath, "application/json", strings.NewReader(tryBody),
	) //nolint:gosec // a test's own server
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var b bytes.Buffer
	_, _ = b.ReadFrom(resp.Body)
	return apitest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: b.Bytes()}
}

// TestTimeout verifies that a handler's context ends at its time limit, and that the client gets a 504.
func TestTimeout(t *testing.T) {
	rig := newRig(func(o *api.Options) { o.Timeout = 50 * time.Millisecond })
	register(rig, "/api/try", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	if answer := tryIt(t, serving(t, rig).URL); answer.Status != 504 || answer.Code() != "timeout" {
		t.Errorf("answered %d %s", answer.Status, answer.Body)
	}
}

// TestBodyTimeIsNotTheHandlers verifies that the time limit of the body does not end a handler that has its body.
func TestBodyTimeIsNotTheHandlers(t *testing.T) {
	const bound = 100 * time.Millisecond
	rig := newRig(func(o *api.Options) { o.BodyTimeout = bound })
	register(rig, "/api/try", func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(3 * bound):
			return nil
		}
	})
	if answer := tryIt(t, serving(t, rig).URL); answer.Status != 204 {
		t.Errorf("answered %d %s", answer.Status, answer.Body)
	}
}

// slowly ends when the test does.
type slowly struct{ end <-chan struct{} }

func (s slowly) Read([]byte) (int, error) { <-s.end; return 0, errors.New("the test is over") }

func TestSlowBody(t *testing.T) {
	srv := serving(t, newRig(func(o *api.Options) { o.BodyTimeout = 50 * time.Millisecond }))
	req, err := http.NewRequestWithContext(
		t.Context(), http.MethodPost, srv.URL+"/t/acme/support/api/auth/things", slowly{t.Context().Done()},
	)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if client.CloseIdleConnections(); resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("answered %s", resp.Status)
	}
}

// TestPanic verifies that the server answers a panic with the request's id and keeps serving. The answer does not show
// the panic's value.
func TestPanic(t *testing.T) {
	rig := newRig()
	register(rig, "/api/try", func(context.Context) error { panic("canary: a defect") })
	srv := serving(t, rig)
	for range 2 {
		answer := tryIt(t, srv.URL)
		var p problem.Problem
		if answer.JSON(
			t, &p,
		); answer.Status != 500 || p.Code != problem.Internal || p.RequestID != answer.Header.Get("X-Request-Id") ||
			strings.Contains(string(answer.Body), "canary") {
			t.Errorf("answered %d %s", answer.Status, answer.Body)
		}
	}
	if answer := rig.Do(t, "GET", "/api/things/1", "good", nil); answer.Status != 200 {
		t.Errorf("afterwards: %d %s", answer.Status, answer.Body)
	}
}

// TestTokensAreNotLogged verifies that a rejected token appears in no answer and no log line.
func TestTokensAreNotLogged(t *testing.T) {
	for _, mode := range []api.Mode{api.Production, api.Development} {
		var log bytes.Buffer
		rig := newRig(func(o *api.Options) {
			o.Mode, o.Log = mode, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			o.Limiter = &counter{allow: 0}
		})
		rig.SignIn("canary-good", "u", "s", "agent")
		for _, raw := range []string{"canary-bad", "canary-good"} {
			answer := rig.Do(t, "GET", "/api/things/1?limit=canary", raw, nil)
			if answer.Status < 400 ||
				strings.Contains(string(answer.Body)+fmt.Sprint(answer.Header)+log.String(), "canary") {
				t.Errorf("%s: answered %d %v %s; log %s", mode, answer.Status, answer.Header, answer.Body, log.String())
			}
		}
	}
}

// TestChallenge verifies that each 401 has a challenge, also those of handlers.
func TestChallenge(t *testing.T) {
	const challenge = `Bearer realm="caly"`
	for name, tc := range map[string]struct {
		err  *problem.Problem
		want string
	}{
		"a wrong password": {problem.New(problem.Authentication, ""), challenge},
		"a refresh token":  {problem.New(problem.InvalidToken, ""), challenge + `, error="invalid_token"`},
		"one of its own":   {problem.New(problem.Authentication, "").WithHeader("WWW-Authenticate", "Other"), "Other"},
		"no 401":           {problem.New(problem.Conflict, ""), ""},
	} {
		t.Run(name, func(t *testing.T) {
			answer := failing(tc.err).Do(t, "GET", "/api/fail", "good", nil)
			if got := strings.Join(answer.Header.Values("WWW-Authenticate"), "|"); got != tc.want {
				t.Errorf("says %q, want %q", got, tc.want)
			}
		})
	}
}

func TestOptionsCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		o       api.Options
		wantErr bool
	}{
		"nothing": {api.Options{}, false},
		"all": {api.Options{
			Mode:       api.Development,
			TenantFrom: []string{"header", "path", "host"},
		}, false},
		"an unknown mode":   {api.Options{Mode: "debug"}, true},
		"an unknown source": {api.Options{TenantFrom: []string{"cookie"}}, true},
		"a source twice":    {api.Options{TenantFrom: []string{"path", "path"}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tc.o.Check(); (err != nil) != tc.wantErr {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestMetrics checks that each problem is counted once, and that nothing that a client chooses is a label.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	rig := failing(errSecret, func(o *api.Options) { o.Metrics = registry })
	rig.Do(t, "GET", "/api/fail", "good", nil)             // by the handler
	rig.Do(t, "GET", "/api/things/1", "bad", nil)          // by the frame
	rig.Do(t, "GET", "/api/things/1?limit=0", "good", nil) // by huma
	rig.Do(t, "GET", "/api/things/1", "good", nil)         // none
	rig.Do(t, "GET", "/api/nothing/canary", "canary", nil) // no operation
	want := map[string]float64{
		"caly_api_problems_total authentication":         0,
		"caly_api_problems_total conflict":               0,
		"caly_api_problems_total database":               0,
		"caly_api_problems_total forbidden":              0,
		"caly_api_problems_total invalid_signature":      0,
		"caly_api_problems_total payload_too_large":      0,
		"caly_api_problems_total rate_limited":           0,
		"caly_api_problems_total timeout":                0,
		"caly_api_problems_total unavailable":            0,
		"caly_api_problems_total unsupported_media_type": 0,
		"caly_api_problems_total upstream_failure":       0,
		"caly_api_request_seconds deleteThing":           0,
		"caly_api_request_seconds makeThing":             0,
		"caly_api_request_seconds who":                   0,
		"caly_api_problems_total internal":               1,
		"caly_api_problems_total invalid_token":          1,
		"caly_api_problems_total not_found":              1,
		"caly_api_problems_total validation":             1,
		"caly_api_request_seconds fail":                  1,
		"caly_api_request_seconds getThing":              3,
	}
	got := counts(t, registry)
	maps.DeleteFunc(got, func(name string, _ float64) bool { return strings.HasPrefix(name, "caly_admission_") })
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// counts are the values of counters and the number of observations of histograms, by name and label.
func counts(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			all[family.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue() + float64(
				m.GetHistogram().GetSampleCount(),
			)
		}
	}
	return all
}
