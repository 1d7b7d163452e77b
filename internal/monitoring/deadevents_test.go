package monitoring

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/metric"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/metrictest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// deadCounter counts what it is asked, and can be away.
type deadCounter struct {
	mu     sync.Mutex
	counts map[string]int
	oldest time.Time
	err    error
	asked  int
}

func (c *deadCounter) DeadEvents(context.Context) (map[string]int, time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	return c.counts, c.oldest, c.err
}

// gauges are the values that a scrape finds, by name and label.
func gauges(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	return metrictest.Values(t, registry)
}

func TestDeadEventsGauge(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	db := &deadCounter{err: store.ErrUnavailable}
	deadEvents := NewDeadEvents(db)
	deadEvents.now = func() time.Time { return now }
	const came = 1_772_363_000.0
	for _, step := range []struct {
		name      string
		after     time.Duration
		change    func()
		want      map[string]float64
		wantAsked int
	}{
		{"away from the start", 0, func() {}, map[string]float64{}, 1},
		{"not asked again at once", time.Second, func() {
			db.counts = map[string]int{"stale": 0, "other": 0}
			db.err = nil
		}, map[string]float64{}, 1},
		{"none", 15 * time.Second, func() {}, map[string]float64{
			"caly_dead_events stale": 0,
			"caly_dead_events other": 0,
		}, 2},
		{"some", 15 * time.Second, func() {
			db.counts, db.oldest = map[string]int{
				"stale": 3,
				"other": 1,
			}, time.Unix(1_772_363_000, 0)
		},
			map[string]float64{
				"caly_dead_events stale":                    3,
				"caly_dead_events other":                    1,
				"caly_dead_events_oldest_timestamp_seconds": came,
			}, 3},
		{"away", time.Minute, func() {
			db.counts = nil
			db.err = store.ErrUnavailable
		},
			map[string]float64{
				"caly_dead_events stale":                    3,
				"caly_dead_events other":                    1,
				"caly_dead_events_oldest_timestamp_seconds": came,
			}, 4},
		{"back", time.Minute, func() {
			db.counts = map[string]int{"stale": 0}
			db.oldest = time.Time{}
			db.err = nil
		},
			map[string]float64{"caly_dead_events stale": 0}, 5},
	} {
		step.change()
		now = now.Add(step.after)
		if diff := cmp.Diff(step.want, gauges(t, deadEvents)); diff != "" || db.asked != step.wantAsked {
			t.Errorf(
				"%s: asked %d times, want %d; metrics (-want +got):\n%s", step.name, db.asked, step.wantAsked, diff,
			)
		}
	}
}

// TestDeadEventsGaugeAtOnce verifies that many concurrent scrapes cost one query.
func TestDeadEventsGaugeAtOnce(t *testing.T) {
	db := &deadCounter{counts: map[string]int{"stale": 1}}
	deadEvents := NewDeadEvents(db)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { gauges(t, deadEvents) })
	}
	wg.Wait()
	if db.asked != 1 {
		t.Errorf("asked %d times", db.asked)
	}
}

func TestDeadEventsGaugeWithPostgreSQL(t *testing.T) {
	pg := pgtest.New(t)
	db := storetest.Open(t, pg.OperatorDSN, store.OpenOperator)
	for key, reason := range map[byte]string{1: "stale", 2: "stale", 3: "a_reason_of_tomorrow"} {
		event := store.Event{
			Tenant:     "acme/support",
			CallSID:    "c1",
			Kind:       "status",
			Source:     "webhook",
			DedupKey:   [32]byte{key},
			DeadReason: reason,
		}
		if _, err := db.Ingest(t.Context(), event); err != nil {
			t.Fatal(err)
		}
	}
	pg.Exec(
		t,
		`UPDATE call_events SET received_at = now() - interval '1 hour' WHERE id = (SELECT min(id) FROM call_events)`,
	)
	got := gauges(t, NewDeadEvents(db))
	oldest := got["caly_dead_events_oldest_timestamp_seconds"]
	if age := metric.Seconds(time.Now()) - oldest; age < 3600 || age > 3700 {
		t.Errorf("the oldest is %v s old", age)
	}
	delete(got, "caly_dead_events_oldest_timestamp_seconds")
	want := map[string]float64{"caly_dead_events other": 1}
	for _, r := range reason.Dead() {
		want["caly_dead_events "+r] = 0
	}
	want["caly_dead_events stale"] = 2
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}
