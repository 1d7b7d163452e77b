package monitoring

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/metrictest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// kept is a database that can be away.
type kept struct {
	totals map[string]resilience.Counts
	err    error
}

func (k *kept) RetryTotals(context.Context) (map[string]resilience.Counts, error) {
	return k.totals, k.err
}

// retriedOnce is a registry that has seen one call fail once and then succeed.
func retriedOnce(t *testing.T) *resilience.Registry {
	t.Helper()
	registry := resilience.NewRegistry(resilience.Options{Policy: resilience.Policy{BaseDelay: 1}}, nil)
	failed := false
	err := registry.Do(t.Context(), "ns/t", "s3", func(context.Context) error {
		if !failed {
			failed = true
			return resilience.Retryable(errors.New("away"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return registry
}

func TestServe(t *testing.T) {
	uploads := map[string]resilience.Counts{
		"s3":     {Retries: 4, Successful: 2, Failed: 1, BreakerOpened: 1},
		"exotel": {Retries: 2, Successful: 1},
	}
	for name, tc := range map[string]struct {
		kept       *kept
		method     string
		wantStatus int
		wantBody   string
	}{
		"both": {&kept{totals: uploads}, http.MethodGet, 200,
			`{"totalRetries":7,"successfulRetries":4,"failedRetries":1,"circuitBreakerTriggered":1,` +
				`"retrySuccessRate":"80.00%","retrySuccessRatio":0.8}`},
		"nothing kept yet": {
			&kept{},
			http.MethodGet,
			200,
			`{"totalRetries":1,"successfulRetries":1,"failedRetries":0,"circuitBreakerTriggered":0,` +
				`"retrySuccessRate":"100.00%","retrySuccessRatio":1}`,
		},
		"database away": {&kept{err: store.ErrUnavailable}, http.MethodGet, 503, "which does not answer: try again"},
		"written to":    {&kept{totals: uploads}, http.MethodPost, 405, "are read with GET"},
	} {
		t.Run(name, func(t *testing.T) {
			rec := httptest.NewRecorder()
			NewRetryStats(tc.kept, retriedOnce(t)).ServeHTTP(rec, httptest.NewRequest(tc.method, RetryStatsPath, nil))
			if rec.Code != tc.wantStatus || !strings.Contains(rec.Body.String(), tc.wantBody) {
				t.Errorf("answered %d %s, want %d with %q", rec.Code, rec.Body, tc.wantStatus, tc.wantBody)
			}
		})
	}
}

// TestMetricsOutliveAnOutage verifies that the counters do not fall during a database outage. Prometheus would take
// that for a reset.
func TestMetricsOutliveAnOutage(t *testing.T) {
	db := &kept{totals: map[string]resilience.Counts{"s3": {Retries: 4, Successful: 2, Failed: 1, BreakerOpened: 3}}}
	stats := NewRetryStats(db, retriedOnce(t))
	registry := prometheus.NewRegistry()
	registry.MustRegister(stats)
	want := map[string]float64{
		"caly_retries_total s3":                5,
		"caly_retried_calls_total s3 failure":  1,
		"caly_retried_calls_total s3 success":  3,
		"caly_circuit_breaker_opened_total s3": 3,
	}
	for _, when := range []string{"while it answers", "while it is away"} {
		if diff := cmp.Diff(want, metrictest.Values(t, registry)); diff != "" {
			t.Errorf("metrics %s (-want +got):\n%s", when, diff)
		}
		db.totals = nil
		db.err = store.ErrUnavailable
	}
}

func TestWithPostgreSQL(t *testing.T) {
	db := storetest.Open(t, pgtest.New(t).OperatorDSN, store.OpenOperator)
	pod := storetest.OpenUpload(t, db, "acme/support")
	counts := map[string]resilience.Counts{"exotel": {Retries: 3, Failed: 1}}
	if err := pod.AddRetries(t.Context(), "acme/support", counts); err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	NewRetryStats(db, retriedOnce(t)).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, RetryStatsPath, nil))
	var got resilience.Stats
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := resilience.Stats{
		TotalRetries:      4,
		SuccessfulRetries: 1,
		FailedRetries:     1,
		RetrySuccessRate:  "50.00%",
		RetrySuccessRatio: 0.5,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("statistics (-want +got):\n%s", diff)
	}
}
