package monitoring

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
	mu     sync.Mutex
	totals map[string]resilience.Counts
	err    error
	added  int
	hangs  chan struct{} // a question waits for its end; nil: none waits
}

func (k *kept) RetryTotals(ctx context.Context) (map[string]resilience.Counts, error) {
	if k.hangs != nil {
		select {
		case <-k.hangs:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.totals, k.err
}

func (k *kept) AddProcessRetries(_ context.Context, counts map[string]resilience.Counts) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.totals = resilience.Sum(k.totals, counts)
		k.added++
	}
	return k.err
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

// TestStore stores what a process counted once, whether PostgreSQL answers at once or later, and reports it all the time.
func TestStore(t *testing.T) {
	db := &kept{totals: map[string]resilience.Counts{"s3": {Retries: 4}}, err: store.ErrUnavailable}
	stats := NewRetryStats(db, retriedOnce(t))
	for _, step := range []struct {
		name      string
		do        func()
		wantAdded int
	}{
		{"away", func() { stats.store(t.Context()); db.err = nil }, 0},
		{"not stored yet", func() {}, 0},
		{"stored", func() { stats.store(t.Context()) }, 1},
		{"nothing new", func() { stats.store(t.Context()) }, 1},
	} {
		step.do()
		got, err := stats.Stats(t.Context())
		if err != nil || got.TotalRetries != 5 || got.SuccessfulRetries != 1 || db.added != step.wantAdded {
			t.Errorf("%s: %+v, %v, stored %d times, want %d", step.name, got, err, db.added, step.wantAdded)
		}
	}
}

// TestStoreAtTheEnd checks that a process stores what it counted when it ends, and at an interval before.
func TestStoreAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &kept{}
		own := retriedOnce(t)
		stats := NewRetryStats(db, own)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = stats.Start(ctx) })
		time.Sleep(3*storeEvery + time.Second) // of the test's clock
		synctest.Wait()
		if db.added != 1 {
			t.Errorf("stored %d times, want once", db.added)
		}
		_ = own.Do(ctx, "ns/t", "sts", func(context.Context) error { return resilience.Retryable(errors.New("away")) })
		cancel()
		running.Wait()
		if db.added != 2 || db.totals["sts"].Failed != 1 {
			t.Errorf("stored %d times, %v", db.added, db.totals)
		}
	})
}

// TestManyAsk checks that clients that ask at once wait for one connection at most, and for a bounded time.
func TestManyAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &kept{hangs: make(chan struct{})}
		stats := NewRetryStats(db, retriedOnce(t))
		began := time.Now()
		var clients sync.WaitGroup
		for range 20 {
			clients.Go(func() {
				if _, err := stats.Stats(t.Context()); err == nil {
					t.Error("it was answered")
				}
			})
		}
		clients.Wait()
		if took := time.Since(began); took > answerWithin {
			t.Errorf("it took %s", took)
		}
	})
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
