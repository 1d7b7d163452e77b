package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// installation is what the test asks, as handlers that a case may replace.
type installation struct {
	ready, metrics, keys, webhook http.HandlerFunc
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

const leads = "leader_election_master_status{name=\"caly-operator\"} 1\n"

// smokeOf returns a test of an installation with one pod of each kind.
func smokeOf(t *testing.T, i installation) *smokeTest {
	t.Helper()
	mux := http.NewServeMux()
	for pattern, pair := range map[string][2]http.HandlerFunc{
		"GET /readyz":                {i.ready, answer(200, "ok")},
		"GET /metrics":               {i.metrics, answer(200, leads)},
		"GET /.well-known/jwks.json": {i.keys, answer(200, `{"keys":[]}`)},
		"POST /webhooks/exotel/":     {i.webhook, answer(401, `{"code":"INVALID_SIGNATURE"}`)},
	} {
		handler := pair[0]
		if handler == nil {
			handler = pair[1]
		}
		mux.HandleFunc(pattern, handler)
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	pods := net.JoinHostPort("pods.test", target.Port())
	return &smokeTest{
		service:         server.URL,
		dataplanePods:   pods,
		operatorPods:    pods,
		operatorMetrics: pods,
		client:          newSmokeClient(),
		resolve:         func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil },
	}
}

func TestSmoke(t *testing.T) {
	for name, tc := range map[string]struct {
		installation
		change func(*smokeTest)
		want   string
	}{
		"all well": {},
		"a pod is not ready": {
			installation: installation{ready: answer(503, "not ready: waiting for PostgreSQL")},
			want:         "pods of the data plane are ready: ",
		},
		"the cause is told": {
			installation: installation{ready: answer(503, "not ready: waiting for PostgreSQL")},
			want:         "answers 503, want 200: not ready: waiting for PostgreSQL",
		},
		"nobody leads": {
			installation: installation{metrics: answer(200, strings.ReplaceAll(leads, " 1", " 0"))},
			want:         "one pod of the operator leads: 0 of 1 pods of the operator lead",
		},
		"two lead": {
			change: func(s *smokeTest) {
				s.resolve = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1", "127.0.0.1"}, nil }
			},
			want: "2 of 2 pods of the operator lead",
		},
		"keys without keys": {installation: installation{keys: answer(200, "{}")}, want: "the answer has no keys"},
		"a webhook is accepted": {
			installation: installation{webhook: answer(200, "ok")},
			want:         "answers 200, want 401: ok",
		},
		"a redirect is not followed": {
			installation: installation{keys: http.RedirectHandler("/readyz", http.StatusFound).ServeHTTP},
			want:         "answers 302, want 200",
		},
		"no pod": {
			change: func(s *smokeTest) {
				s.resolve = func(context.Context, string) ([]string, error) { return nil, errors.New("no such host") }
			},
			want: "no pod is ready, or the name cannot be resolved: no such host",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := smokeOf(t, tc.installation)
			if tc.change != nil {
				tc.change(s)
			}
			s.within = 10 * time.Second
			if tc.want != "" {
				s.within = 500 * time.Millisecond
			}
			var out strings.Builder
			err := s.run(t.Context(), &out)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if err == nil && strings.Count(out.String(), "ok: ") != 5 {
				t.Errorf("it prints %q, want 5 checks", out.String())
			}
		})
	}
}

// TestSmokeWaits verifies that a check that fails at first is made again, and one that succeeded is not.
func TestSmokeWaits(t *testing.T) {
	keys, readies := 0, 0
	s := smokeOf(t, installation{
		keys: func(w http.ResponseWriter, r *http.Request) {
			keys++
			if keys == 1 {
				answer(503, "busy")(w, r)
				return
			}
			answer(200, `{"keys":[]}`)(w, r)
		},
		ready: func(w http.ResponseWriter, r *http.Request) {
			readies++
			answer(200, "ok")(w, r)
		},
	})
	s.within = time.Minute
	var out strings.Builder
	if err := s.run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if keys != 2 || readies != 2 {
		t.Errorf("asked %d times for keys and %d times for readiness, want 2 and 2", keys, readies)
	}
}

func TestSmokeCommand(t *testing.T) {
	checkFailure(
		t, execute(t, "smoke"), "--service, --dataplane-pods, --operator-pods and --operator-metrics are needed",
	)
}
