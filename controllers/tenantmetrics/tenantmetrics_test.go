package tenantmetrics

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// cluster returns a client of a cluster with Tenants, each "namespace/name".
func cluster(t testing.TB, ids ...string) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme)
	for _, id := range ids {
		namespace, name, _ := strings.Cut(id, "/")
		builder.WithObjects(&v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
	}
	return builder.Build()
}

func operator(t *testing.T, pg *pgtest.Server) *store.Operator {
	t.Helper()
	return storetest.Open(t, pg.OperatorDSN, store.OpenOperator)
}

// uploaded adds a recording that was uploaded some time after it was queued.
func uploaded(t *testing.T, pg *pgtest.Server, tenant string, n int, after time.Duration) {
	t.Helper()
	pg.Exec(t, `INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts, object_key, sha256,
			finished_by, created_at)
		VALUES ($1, $2, 'c', 'https://x/a', 'uploaded', 1, 'k', repeat('0', 64), 'pod', now() - $3::interval)`,
		tenant, fmt.Sprintf("%016x", n), after)
}

var options = Options{MaxTenants: 2, Words: store.EndingWords{Recordings: []string{"Storage"}}}

// TestExporter counts rows of three tenants. Two have series of their own. It continues where another leader
// stopped.
func TestExporter(t *testing.T) {
	pg := pgtest.New(t)
	reader := cluster(t, "acme/support", "beta/sales", "corp/help")
	first := New(reader, operator(t, pg), options)
	if err := first.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	queued := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	pg.Exec(t, `INSERT INTO recordings (tenant, id, call_sid, source_url, last_error_code, created_at)
		VALUES ('acme/support', '00000000000000a1', 'c', 'https://x/a', 'Storage', $1),
			('acme/support', '00000000000000a2', 'c', 'https://x/b', '', $1),
			('corp/help', '00000000000000a3', 'c', 'https://x/c', 'what no version writes', $1)`, queued)
	uploaded(t, pg, "acme/support", 1, 30*time.Second)
	uploaded(t, pg, "corp/help", 2, time.Minute)
	if err := first.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	uploaded(t, pg, "acme/support", 3, 100*time.Hour)
	second := New(reader, operator(t, pg), options)
	second.now = func() time.Time { return queued }
	if err := second.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := `
# HELP caly_tenant_metrics_last_success_timestamp_seconds When the metrics of the tenants were read from PostgreSQL last.
# TYPE caly_tenant_metrics_last_success_timestamp_seconds gauge
caly_tenant_metrics_last_success_timestamp_seconds 1.767323045e+09
# HELP caly_tenant_recordings_oldest_timestamp_seconds When the oldest recording was queued that is not uploaded; absent without one.
# TYPE caly_tenant_recordings_oldest_timestamp_seconds gauge
caly_tenant_recordings_oldest_timestamp_seconds{tenant="acme/support"} 1.767323045e+09
caly_tenant_recordings_oldest_timestamp_seconds{tenant="other"} 1.767323045e+09
# HELP caly_tenant_recordings_total Recordings whose upload ended, by outcome and, for failed ones, the code of the error.
# TYPE caly_tenant_recordings_total counter
caly_tenant_recordings_total{code="",outcome="uploaded",tenant="acme/support"} 2
caly_tenant_recordings_total{code="",outcome="uploaded",tenant="other"} 1
# HELP caly_tenant_recordings_waiting Recordings that wait for an upload pod, by the code of their last error; empty: not tried yet.
# TYPE caly_tenant_recordings_waiting gauge
caly_tenant_recordings_waiting{code="",tenant="acme/support"} 1
caly_tenant_recordings_waiting{code="Storage",tenant="acme/support"} 1
caly_tenant_recordings_waiting{code="other",tenant="other"} 1
# HELP caly_tenants Tenants in the cluster.
# TYPE caly_tenants gauge
caly_tenants 3
`
	err := testutil.CollectAndCompare(
		second,
		strings.NewReader(want),
		"caly_tenant_metrics_last_success_timestamp_seconds",
		"caly_tenant_recordings_oldest_timestamp_seconds",
		"caly_tenant_recordings_total",
		"caly_tenant_recordings_waiting",
		"caly_tenants",
	)
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(map[float64]uint64{
		20:        0,
		40:        1,
		48 * 3600: 1,
	}, bucketsOf(t, second, "acme/support", 20, 40, 48*3600)); diff != "" {
		t.Errorf("buckets (-want +got):\n%s", diff)
	}
	problems, err := testutil.CollectAndLint(second)
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v %v", problems, err)
	}
}

// bucketsOf returns some of the buckets of a tenant's histogram.
func bucketsOf(t *testing.T, e *Exporter, tenant string, uppers ...float64) map[float64]uint64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(e)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[float64]uint64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != "caly_tenant_recording_seconds" || m.GetLabel()[0].GetValue() != tenant {
				continue
			}
			for _, b := range m.GetHistogram().GetBucket() {
				for _, upper := range uppers {
					if b.GetUpperBound() == upper {
						got[upper] = b.GetCumulativeCount()
					}
				}
			}
		}
	}
	return got
}

// TestSeriesOfADeletedTenantEnd checks that no series of a Tenant outlives it, and that its rows are not counted as its
// own again.
func TestSeriesOfADeletedTenantEnd(t *testing.T) {
	pg := pgtest.New(t)
	db := operator(t, pg)
	exporter := New(cluster(t, "acme/support"), db, options)
	if err := exporter.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	uploaded(t, pg, "acme/support", 1, 0)
	if err := exporter.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := testutil.CollectAndCount(exporter, "caly_tenant_recordings_total"); got != 1 {
		t.Errorf("%d series, want 1", got)
	}
	exporter.client = cluster(t)
	if err := exporter.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := testutil.CollectAndCount(exporter, "caly_tenant_recordings_total"); got != 0 {
		t.Errorf("%d series of a Tenant that does not exist", got)
	}
}

// TestCallsAndEvents exports what backfill found, calls without an end, and dead events with the time of the oldest.
func TestCallsAndEvents(t *testing.T) {
	pg := pgtest.New(t)
	db := operator(t, pg)
	exporter := New(cluster(t, "acme/support", "beta/sales", "corp/help"), db, options)
	if err := exporter.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	pg.Exec(t, `INSERT INTO tenants (tenant) VALUES ('acme/support'), ('beta/sales'), ('corp/help')`)
	pg.Exec(t, `INSERT INTO calls (tenant, call_sid, state, started_at) VALUES
		('acme/support', 'live', 1, now() - interval '10 minutes'), ('acme/support', 'lost', 1, now() - interval '1 hour'),
		('acme/support', 'old', 1, now() - interval '8 days'), ('corp/help', 'lost', 1, now() - interval '1 day')`)
	pg.Exec(t, `INSERT INTO call_events (tenant, call_sid, kind, dedup_key, source, raw, dead_reason, received_at)
		VALUES ('beta/sales', 'c', 'status', sha256('a'), 'webhook', '', 'stale', '2026-01-02T03:04:05Z'),
			('beta/sales', 'c', 'status', sha256('b'), 'webhook', '', 'malformed_body', '2026-01-02T03:04:06Z')`)
	for tenant, calls := range map[string]map[string]int64{
		"acme/support": {"found": 3, "left_out": 0},
		"corp/help":    {"found": 5},
	} {
		if err := db.AddBackfill(t.Context(), tenant, calls); err != nil {
			t.Fatal(err)
		}
	}
	if err := exporter.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := `
# HELP caly_tenant_backfill_calls_total Calls that backfill filled in (found, found_partial) or could not use (left_out).
# TYPE caly_tenant_backfill_calls_total counter
caly_tenant_backfill_calls_total{result="found",tenant="acme/support"} 3
caly_tenant_backfill_calls_total{result="found",tenant="other"} 5
caly_tenant_backfill_calls_total{result="left_out",tenant="acme/support"} 0
# HELP caly_tenant_calls_unended Calls that began 15 minutes to 7 days ago and have no end; at most 1,000 of each tenant.
# TYPE caly_tenant_calls_unended gauge
caly_tenant_calls_unended{tenant="acme/support"} 1
caly_tenant_calls_unended{tenant="beta/sales"} 0
caly_tenant_calls_unended{tenant="other"} 1
# HELP caly_tenant_dead_events_oldest_timestamp_seconds When the oldest event came that could not be applied; absent without one.
# TYPE caly_tenant_dead_events_oldest_timestamp_seconds gauge
caly_tenant_dead_events_oldest_timestamp_seconds{tenant="beta/sales"} 1.767323045e+09
`
	if err := testutil.CollectAndCompare(exporter, strings.NewReader(want), "caly_tenant_backfill_calls_total",
		"caly_tenant_calls_unended", "caly_tenant_dead_events_oldest_timestamp_seconds"); err != nil {
		t.Error(err)
	}
}

// failing is a store that does not answer.
type failing struct{ Store }

func (failing) TenantCounts(context.Context, []string) (store.TenantCounts, error) {
	return store.TenantCounts{}, errors.New("no answer")
}

// TestFailedRoundKeepsTheLast checks that nothing is exported before the first round, and that a round that fails leaves
// the last result with its time.
func TestFailedRoundKeepsTheLast(t *testing.T) {
	pg := pgtest.New(t)
	db := operator(t, pg)
	exporter := New(cluster(t, "acme/support"), failing{db}, options)
	if err := exporter.round(t.Context()); err == nil {
		t.Error("the round reports no error")
	}
	if got := testutil.CollectAndCount(exporter); got != 0 {
		t.Errorf("%d series before the first round", got)
	}
	exporter.store = db
	exporter.now = func() time.Time { return time.Unix(1000, 0) }
	if err := exporter.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	exporter.store = failing{db}
	exporter.now = time.Now
	if err := exporter.round(t.Context()); err == nil {
		t.Error("the round reports no error")
	}
	want := `
# HELP caly_tenant_metrics_last_success_timestamp_seconds When the metrics of the tenants were read from PostgreSQL last.
# TYPE caly_tenant_metrics_last_success_timestamp_seconds gauge
caly_tenant_metrics_last_success_timestamp_seconds 1000
`
	err := testutil.CollectAndCompare(
		exporter, strings.NewReader(want), "caly_tenant_metrics_last_success_timestamp_seconds",
	)
	if err != nil {
		t.Error(err)
	}
}
