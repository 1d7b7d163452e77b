package janitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/background"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const acme = "acme/support"

// fakeStreams is a pod's streams as a test wants them.
type fakeStreams struct {
	rows, streams int
	err           error
	calls         atomic.Int32
}

func (r *fakeStreams) Reconcile(ctx context.Context) (int, int, error) {
	r.calls.Add(1)
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	return r.rows, r.streams, r.err
}
func (r *fakeStreams) Live() int { return r.streams }

// reaper answers as a test wants, and notes the limits that it was asked with.
type reaper struct {
	mu     sync.Mutex
	dead   int
	err    error
	busy   bool
	limits []int

	cleanups store.CleanupTotals // of all pods
	added    int                 // how often
	asked    func()              // before an answer about them; nil does nothing
}

func (r *reaper) AddCleanups(_ context.Context, c store.CleanupCounts) (store.CleanupTotals, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.cleanups.CleanupCounts = plus(r.cleanups.CleanupCounts, c)
		r.added++
	}
	return r.cleanups, r.err
}

func (r *reaper) CleanupTotals(context.Context) (store.CleanupTotals, error) {
	if r.asked != nil {
		r.asked()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cleanups, r.err
}

func (r *reaper) ReapStreams(_ context.Context, _ []string, _ time.Duration, limit int) (int, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limits = append(r.limits, limit)
	if r.err != nil || r.busy {
		return 0, false, r.err
	}
	n := min(r.dead, limit)
	r.dead -= n
	return n, true, nil
}

func tenants() []string { return []string{acme} }

// start runs a janitor until stop.
func start(t *testing.T, j *Janitor) (stop func()) {
	t.Helper()
	return background.Run(t, j.Run)
}

// TestRun verifies that the janitor cleans up at its start, at its interval and at its stop, and what it counts.
func TestRun(t *testing.T) {
	reg := &fakeStreams{rows: 2, streams: 1}
	db := &reaper{dead: 2500}
	metrics := prometheus.NewPedanticRegistry()
	j := New(Options{
		Store:      db,
		Registry:   reg,
		Tenants:    tenants,
		Every:      10 * time.Millisecond,
		ReapEvery:  2 * time.Millisecond,
		Unseen:     time.Millisecond,
		Registerer: metrics,
	})
	if stats := j.Stats(t.Context()); stats.IsRunning || stats.LastCleanupTime != nil || stats.SessionsCleanedUp != 0 {
		t.Errorf("before it starts: %+v", stats)
	}
	stop := start(t, j)
	eventually.Holds(t, "all that is dead is ended, in batches", func() bool {
		return j.Stats(t.Context()).SessionsCleanedUp >= 2500+2*2 && reg.calls.Load() > 2
	})
	if !j.Stats(t.Context()).IsRunning {
		t.Error("it does not say that it runs")
	}
	before := reg.calls.Load()
	stop()
	stats := j.Stats(t.Context())
	calls := int64(reg.calls.Load())
	if int64(before) >= calls || stats.IsRunning || stats.SessionsCleanedUp != 2500+2*calls ||
		stats.OrphanedConnectionsClosed != calls ||
		stats.LastCleanupTime == nil ||
		time.Since(*stats.LastCleanupTime) > time.Minute {
		t.Errorf("%d cleanups, %d before the stop: %+v", calls, before, stats)
	}
	want := map[string]float64{
		"caly_cleanup_sessions_total":                 float64(stats.SessionsCleanedUp),
		"caly_cleanup_orphaned_connections_total":     float64(calls),
		"caly_cleanup_runs_total":                     float64(calls),
		"caly_cleanup_last_success_timestamp_seconds": float64(stats.LastCleanupTime.UnixNano()) / 1e9,
	}
	got := values(t, metrics)
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s is %v, want %v", name, got[name], w)
		}
	}
}

// values of metrics, summed up over their labels.
func values(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			out[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

// TestFailures verifies that no failure ends the janitor. Each is logged, and a failed cleanup does not count as a
// success.
func TestFailures(t *testing.T) {
	away := errors.New("the database is away")
	for name, tc := range map[string]struct {
		registry *fakeStreams
		reaper   *reaper
	}{
		"reconciling": {&fakeStreams{err: away}, &reaper{}},
		"reaping":     {&fakeStreams{}, &reaper{err: away}},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			metrics := prometheus.NewPedanticRegistry()
			j := New(Options{
				Store:      tc.reaper,
				Registry:   tc.registry,
				Tenants:    tenants,
				Every:      time.Millisecond,
				ReapEvery:  time.Hour,
				Log:        slog.New(slog.NewTextHandler(&log, nil)),
				Registerer: metrics,
			})
			stop := start(t, j)
			eventually.Holds(t, "it goes on", func() bool { return tc.registry.calls.Load() > 3 })
			stop()
			if stats := j.Stats(
				t.Context(),
			); stats.LastCleanupTime != nil || values(t, metrics)["caly_cleanup_runs_total"] < 3 ||
				values(t,
					metrics)["caly_cleanup_last_success_timestamp_seconds"] != 0 ||
				!strings.Contains(log.String(),
					"the database is away") {
				t.Errorf("%+v, %s", stats, log.String())
			}
		})
	}
}

// TestReapAfterOutage verifies that no stream counts as dead after a database outage until the time for a heartbeat has
// passed again.
func TestReapAfterOutage(t *testing.T) {
	db := &reaper{dead: 10}
	j := New(Options{Store: db, Registry: &fakeStreams{}, Tenants: tenants, Unseen: time.Hour})
	reap := func() int {
		n, err := j.reap(t.Context())
		if (err != nil) != (db.err != nil) {
			t.Error(err)
		}
		return n
	}
	step := func(what string, want int) {
		t.Helper()
		if n := reap(); n != want {
			t.Errorf("%s: %d were ended, want %d", what, n, want)
		}
	}
	step("at the start", 0)
	j.since = time.Now().Add(-59 * time.Minute)
	step("before the time has passed", 0)
	j.since = time.Now().Add(-61 * time.Minute)
	step("after it", 10)
	db.dead, db.err = 10, errors.New("away")
	step("while it is away", 0)
	db.err = nil
	step("when it is back", 0)
	j.since = time.Now().Add(-61 * time.Minute)
	db.busy = true
	step("while another pod is at it", 0)
	db.busy = false
	step("in the end", 10)
}

// TestKilledPod checks that another pod ends the sessions of a killed pod, and no live session. Two janitors end each
// row once.
func TestKilledPod(t *testing.T) {
	pg := pgtest.New(t)
	db, err := store.OpenDataplane(t.Context(), pg.DataplaneDSN, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	tenant := &tenantconfig.Tenant{ID: acme}
	snapshot := tenantconfig.NewSnapshot(tenant)
	pod := func(name string) *registry.Registry {
		return registry.New(registry.Options{
			Store:          db,
			Pod:            name,
			Tenants:        func() *tenantconfig.Snapshot { return snapshot },
			HeartbeatEvery: 300 * time.Millisecond,
		})
	}
	killed := pod("killed")
	here := pod("here")
	background.Run(t, here.Run)
	for range 300 { // of a pod that never says that it lives
		if _, err := killed.Admit(t.Context(), tenant, 1000, registry.Stream{}); err != nil {
			t.Fatal(err)
		}
	}
	going, err := here.Admit(t.Context(), tenant, 1000, registry.Stream{})
	if err != nil {
		t.Fatal(err)
	}
	one := New(Options{
		Store:     db,
		Registry:  here,
		Tenants:   snapshot.IDs,
		ReapEvery: 300 * time.Millisecond,
		Unseen:    2 * time.Second,
	})
	two := New(Options{
		Store:     db,
		Registry:  here,
		Tenants:   snapshot.IDs,
		ReapEvery: 300 * time.Millisecond,
		Unseen:    2 * time.Second,
	})
	start(t, one)
	start(t, two)
	eventually.Holds(t, "300 are ended, as either pod answers", func() bool {
		return one.Stats(t.Context()).SessionsCleanedUp >= 300 && two.Stats(t.Context()).SessionsCleanedUp >= 300
	})
	conn, err := pgx.Connect(t.Context(), pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var orphaned, others int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE pod = 'killed' AND end_reason = 'orphaned'),
			count(*) FILTER (WHERE pod <> 'killed' AND ended_at IS NOT NULL)
		FROM stream_sessions`).Scan(&orphaned, &others); err != nil {
		t.Fatal(err)
	}
	first := one.Stats(t.Context())
	second := two.Stats(t.Context())
	sum := first.Pod.SessionsCleanedUp + second.Pod.SessionsCleanedUp
	if orphaned != 300 || others != 0 || sum != 300 || going.Context().Err() != nil {
		t.Errorf("%d rows are ended, %d of others, and the pods count %+v and %+v", orphaned, others, first, second)
	}
	if first.SessionsCleanedUp != 300 || second.SessionsCleanedUp != 300 {
		t.Errorf("the pods say %+v and %+v of all pods, want 300 each", first, second)
	}
	// Its place is free again, so the limit is what it was.
	if _, err := here.Admit(t.Context(), tenant, 2, registry.Stream{}); err != nil {
		t.Error(err)
	}
}

// TestStatsJSON verifies the member names of the statistics that dashboards read.
func TestStatsJSON(t *testing.T) {
	j := New(Options{
		Store:    &reaper{},
		Registry: &fakeStreams{streams: 7},
		Tenants:  tenants,
		Memory: MemoryOptions{Read: func() Usage {
			return Usage{
				HeapBytes:  5,
				Goroutines: 6,
				HeapUsed:   7,
				HeapTotal:  8,
				Resident:   9,
			}
		}},
	})
	recorder := httptest.NewRecorder()
	j.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/api/monitoring/cleanup-stats", nil))
	var got map[string]any
	if err := json.Unmarshal(recorder.Body.Bytes(), &got); err != nil ||
		recorder.Header().Get("Content-Type") != "application/json" {
		t.Fatal(err, recorder.Header())
	}
	if at, err := time.Parse(time.RFC3339, got["totalsReadTime"].(string)); err != nil || time.Since(at) > time.Minute {
		t.Errorf("the totals were read at %v, %v", at, err)
	}
	delete(got, "totalsReadTime")
	want := map[string]any{
		"isRunning":                 false,
		"cleanups":                  0.,
		"sessionsCleanedUp":         0.,
		"streamSessionsCleanedUp":   0.,
		"loginSessionsCleanedUp":    0.,
		"orphanedConnectionsClosed": 0.,
		"memoryLeaksDetected":       0.,
		"lastCleanupTime":           nil,
		"pod": map[string]any{
			"cleanups":                  0.,
			"sessionsCleanedUp":         0.,
			"orphanedConnectionsClosed": 0.,
			"memoryLeaksDetected":       0.,
			"lastCleanupTime":           nil,
		},
		"memoryUsage": map[string]any{
			"heapUsed":           7.,
			"heapTotal":          8.,
			"rss":                9.,
			"heapBytes":          5.,
			"goroutines":         6.,
			"liveStreams":        7.,
			"baselineHeapBytes":  0.,
			"baselineGoroutines": 0.,
			"suspected":          false,
			"heapProfiles":       []any{},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
