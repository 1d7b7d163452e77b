package resilience

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/testkit/metrictest"
)

func TestCounts(t *testing.T) {
	reg := prometheus.NewRegistry()
	registry := NewRegistry(Options{
		FailureThreshold: 1,
		Policy:           Policy{MaxAttempts: 2, BaseDelay: time.Microsecond, MaxDelay: time.Microsecond},
	}, reg)
	if got := registry.Counts(); len(got) != 0 {
		t.Errorf("a new registry counts %v", got)
	}
	_ = registry.Do(t.Context(), "ns/t", "s3", (&script{answers: []error{errDown}}).call)
	_ = registry.Do(t.Context(), "ns/t", "exotel", (&script{answers: []error{errDown, nil}}).call)
	_ = registry.Do(t.Context(), "ns/t", "agent", (&script{answers: []error{nil}}).call) // at once: nothing to count
	want := map[string]Counts{"s3": {Retries: 1, Failed: 1, BreakerOpened: 1}, "exotel": {Retries: 1, Successful: 1}}
	if d := cmp.Diff(want, registry.Counts()); d != "" {
		t.Errorf("counts (-want +got):\n%s", d)
	}
	wantMetrics := map[string]float64{
		"caly_retries_total s3":                    1,
		"caly_retried_calls_total s3 failure":      1,
		"caly_retried_calls_total s3 success":      0,
		"caly_circuit_breaker_opened_total s3":     1,
		"caly_retries_total exotel":                1,
		"caly_retried_calls_total exotel failure":  0,
		"caly_retried_calls_total exotel success":  1,
		"caly_circuit_breaker_opened_total exotel": 0,
	}
	if d := cmp.Diff(wantMetrics, metrictest.Values(t, reg)); d != "" {
		t.Errorf("metrics (-want +got):\n%s", d)
	}
}

// TestAnnounce verifies that the series of an announced dependency exist from the start, and count on after a second
// announcement.
func TestAnnounce(t *testing.T) {
	reg := prometheus.NewRegistry()
	registry := NewRegistry(Options{FailureThreshold: 1, Policy: Policy{MaxAttempts: 1}}, reg)
	registry.Announce("s3")
	want := map[string]float64{
		"caly_retries_total s3":                0,
		"caly_retried_calls_total s3 failure":  0,
		"caly_retried_calls_total s3 success":  0,
		"caly_circuit_breaker_opened_total s3": 0,
	}
	if d := cmp.Diff(want, metrictest.Values(t, reg)); d != "" {
		t.Errorf("before the first call (-want +got):\n%s", d)
	}
	_ = registry.Do(t.Context(), "ns/t", "s3", (&script{answers: []error{errDown}}).call)
	registry.Announce("s3")
	want["caly_circuit_breaker_opened_total s3"] = 1
	if d := cmp.Diff(want, metrictest.Values(t, reg)); d != "" {
		t.Errorf("after a failure (-want +got):\n%s", d)
	}
}

// TestCountsAreACopy verifies that a snapshot of the counts does not change afterwards.
func TestCountsAreACopy(t *testing.T) {
	registry := NewRegistry(Options{Policy: Policy{
		MaxAttempts: 2,
		BaseDelay:   time.Microsecond,
		MaxDelay:    time.Microsecond,
	}}, nil)
	call := func() { _ = registry.Do(t.Context(), "ns/t", "s3", (&script{answers: []error{errDown, nil}}).call) }
	call()
	before := registry.Counts()
	call()
	if d := cmp.Diff(map[string]Counts{"s3": {Retries: 1, Successful: 1}}, before); d != "" {
		t.Errorf("the earlier snapshot (-want +got):\n%s", d)
	}
}

func TestSinceAndSum(t *testing.T) {
	earlier := map[string]Counts{"s3": {Retries: 3, Failed: 1}, "exotel": {Retries: 1}}
	now := map[string]Counts{
		"s3":     {Retries: 5, Failed: 1, BreakerOpened: 1},
		"exotel": {Retries: 1},
		"agent":  {Successful: 2},
	}
	for name, tc := range map[string]struct {
		got, want map[string]Counts
	}{
		"since": {Since(now, earlier), map[string]Counts{
			"s3":    {Retries: 2, BreakerOpened: 1},
			"agent": {Successful: 2},
		}},
		"since nothing":       {Since(earlier, nil), earlier},
		"nothing since":       {Since(now, now), map[string]Counts{}},
		"sum gives it back":   {Sum(earlier, Since(now, earlier)), now},
		"sum of nothing":      {Sum(nil, nil), map[string]Counts{}},
		"sum changes neither": {Sum(earlier), map[string]Counts{"s3": {Retries: 3, Failed: 1}, "exotel": {Retries: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, tc.got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestStatsOf(t *testing.T) {
	for name, tc := range map[string]struct {
		counts map[string]Counts
		want   string
	}{
		"nothing retried": {
			nil,
			`{"totalRetries":0,"successfulRetries":0,"failedRetries":0,"circuitBreakerTriggered":0,` +
				`"retrySuccessRate":"0.00%","retrySuccessRatio":0}`,
		},
		"two dependencies": {map[string]Counts{"s3": {4, 2, 1, 1}, "exotel": {2, 1, 0, 0}},
			`{"totalRetries":6,"successfulRetries":3,"failedRetries":1,"circuitBreakerTriggered":1,` +
				`"retrySuccessRate":"75.00%","retrySuccessRatio":0.75}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := json.Marshal(StatsOf(tc.counts))
			if d := cmp.Diff(tc.want, string(got)); d != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, d)
			}
		})
	}
}
