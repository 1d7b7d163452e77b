package store_test

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/store"
)

// endingQuery returns how these tests count.
func endingQuery(limit int, bounds ...float64) store.EndingQuery {
	if bounds == nil {
		bounds = []float64{1, 60, 3600}
	}
	return store.EndingQuery{
		Limit:  limit,
		Bounds: bounds,
		Words: store.EndingWords{
			Recordings: []string{"source_not_found", "bucket_unavailable"},
			Captures:   []string{"spool_lost"},
			Streams:    []string{"stop"},
		},
	}
}

// countAll counts every ending, and returns the totals.
func (f *fixture) countAll(t *testing.T) []store.EndingTotal {
	t.Helper()
	for {
		n, err := f.Operator.CountEndings(t.Context(), endingQuery(3))
		if err != nil {
			t.Fatal(err)
		}
		if n < 3 {
			break
		}
	}
	totals, err := f.Operator.EndingTotals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return totals
}

func (f *fixture) nameSeries(t *testing.T, limit int, tenants ...string) {
	t.Helper()
	if err := f.Operator.NameSeries(t.Context(), tenants, limit); err != nil {
		t.Fatal(err)
	}
}

// ended adds a recording that ended, as a pod of any version does.
func (f *fixture) ended(t *testing.T, tenant, id, state, code string, took time.Duration) {
	t.Helper()
	f.Exec(t, `INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts, last_error_code,
			object_key, sha256, finished_by, created_at)
		SELECT $1, $2, 'unknown', 'https://x/a', $3, 1, $4, 'k', repeat('0', 64), 'pod', now() - $5::interval`,
		tenant, id, state, code, took)
}

// TestEndings checks that a recording, a capture and a stream that end are counted, with the time that each took.
func TestEndings(t *testing.T) {
	fixture := newFixture(t)
	fixture.nameSeries(t, 10, acme, globex)
	ids := fixture.enqueue(t, acme, 2)
	uploaded := store.Result{Bucket: "b", Key: "k", Size: 1, SHA256: strings.Repeat("a", 64)}
	fixture.Exec(t, `UPDATE calls SET ended_at = now() - interval '30 seconds' WHERE tenant = $1`, acme)
	if _, err := fixture.upload.Claim(t.Context(), "pod", 2, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := fixture.upload.Complete(t.Context(), "pod", ids[0], uploaded); err != nil {
		t.Fatal(err)
	}
	if err := fixture.upload.Fail(t.Context(), "pod", ids[1], "source_not_found", "404"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 { // codes that no version writes are one series
		fixture.ended(t, globex, fmt.Sprintf("%016x", i), "failed", fmt.Sprint("code-", i), 0)
	}
	stream := fixture.admit(t, acme, "pod")
	for range 2 { // a stream ends once
		_, err := fixture.Dataplane.EndStreams(t.Context(), []store.StreamEnd{{StreamRef: stream, Reason: "stop"}})
		if err != nil {
			t.Fatal(err)
		}
	}
	capture := fixture.capture(t, globex, "00000000000000a1", "pod")
	fixture.Exec(
		t,
		`UPDATE captures SET state = 'failed', error_code = 'spool_lost', finished_at = now() WHERE id = $1`,
		capture.ID,
	)

	type total struct {
		Kind, Tenant, Outcome, Code string
		Count                       int64
		Buckets                     string
	}
	var got []total
	for _, e := range fixture.countAll(t) {
		got = append(got, total{e.Kind, e.Tenant, e.Outcome, e.Code, e.Count, fmt.Sprint(e.Buckets)})
	}
	want := []total{
		{"capture", globex, "failed", "spool_lost", 1, "[0 0 1]"}, // created a minute ago
		{"recording", acme, "failed", "source_not_found", 1, "[0 1 0]"},
		{"recording", acme, "uploaded", "", 1, "[0 1 0]"}, // its call ended 30 s ago
		{"recording", globex, "failed", "other", 3, "[3 0 0]"},
		{"stream", acme, "stop", "", 1, "[1 0 0]"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
	again := fixture.countAll(t)
	if len(again) != len(want) || again[2].Count != 1 || again[2].Seconds < 29 || again[2].Seconds > 60 {
		t.Errorf("counted again: %+v", again)
	}
}

// TestEndingsCountOnce lets three operators count at once while recordings end.
func TestEndingsCountOnce(t *testing.T) {
	fixture := newFixture(t)
	fixture.nameSeries(t, 10, acme)
	const each, writers = 60, 3
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				fixture.ended(t, acme, fmt.Sprintf("%016x", w*each+i), "uploaded", "", time.Second*time.Duration(i))
			}
		})
		group.Go(func() {
			for range 20 {
				if _, err := fixture.Operator.CountEndings(t.Context(), endingQuery(7)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	totals := fixture.countAll(t)
	if len(totals) != 1 || totals[0].Count != each*writers {
		t.Fatalf("%+v, want %d in one row", totals, each*writers)
	}
	if diff := cmp.Diff([]int64{2 * writers, (each - 2) * writers, 0}, totals[0].Buckets); diff != "" {
		t.Errorf("buckets (-want +got):\n%s", diff)
	}
	if left := fixture.Number(t, `SELECT count(*)::int FROM endings`); left != 0 {
		t.Errorf("%d endings were not counted", left)
	}
}

// TestOtherTenants checks the bound on tenants with series of their own, and that no total falls while tenants come and
// go.
func TestOtherTenants(t *testing.T) {
	fixture := newFixture(t)
	count := func(tenants ...string) map[string]int64 {
		t.Helper()
		for i, tenant := range tenants {
			fixture.ended(t, tenant, fmt.Sprintf("%016x", i), "uploaded", "", 0)
		}
		totals := map[string]int64{}
		for _, e := range fixture.countAll(t) {
			totals[e.Tenant] += e.Count
		}
		return totals
	}
	steps := []struct {
		name    string
		limit   int
		tenants []string
		ends    []string
		want    map[string]int64
	}{
		{"nobody is known", 2, nil, []string{"b/b"}, map[string]int64{"other": 1}},
		{"room for two", 2, []string{"b/b", "c/c", "d/d"}, []string{"b/b", "c/c", "d/d"},
			map[string]int64{"b/b": 1, "c/c": 1, "other": 2}},
		{"a new one takes no place", 2, []string{"a/a", "b/b", "c/c"}, []string{"a/a", "c/c"},
			map[string]int64{"b/b": 1, "c/c": 2, "other": 3}},
		{"a deleted one gives its place", 2, []string{"a/a", "c/c"}, []string{"a/a", "b/b"},
			map[string]int64{"a/a": 1, "c/c": 2, "other": 4}},
		{"a smaller bound", 1, []string{"a/a", "c/c"}, []string{"c/c"}, map[string]int64{"a/a": 1, "other": 5}},
		{"no series of their own", 0, []string{"a/a", "c/c"}, []string{"a/a"}, map[string]int64{"other": 6}},
	}
	for _, step := range steps {
		fixture.nameSeries(t, step.limit, step.tenants...)
		if diff := cmp.Diff(step.want, count(step.ends...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

// TestOtherBounds checks that a version with other buckets begins them again, and keeps the counts.
func TestOtherBounds(t *testing.T) {
	fixture := newFixture(t)
	fixture.ended(t, acme, "0000000000000001", "uploaded", "", 30*time.Second)
	fixture.countAll(t)
	fixture.ended(t, acme, "0000000000000002", "uploaded", "", 30*time.Second)
	if _, err := fixture.Operator.CountEndings(t.Context(), endingQuery(10, 10, 20, 40, 80)); err != nil {
		t.Fatal(err)
	}
	totals, err := fixture.Operator.EndingTotals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(totals) != 1 || totals[0].Count != 2 {
		t.Fatalf("%+v, want a count of 2", totals)
	}
	if diff := cmp.Diff([]int64{0, 0, 1, 0}, totals[0].Buckets); diff != "" {
		t.Errorf("buckets (-want +got):\n%s", diff)
	}
}

// TestTenantCounts checks what waits, what failed and what happened, of tenants with and without series of their own.
func TestTenantCounts(t *testing.T) {
	fixture := newFixture(t)
	fixture.nameSeries(t, 10, acme)
	fixture.Exec(t, `INSERT INTO tenants (tenant) VALUES ($1), ($2)`, acme, globex)
	for tenant, n := range map[string]int{acme: 3, globex: 2} {
		fixture.enqueue(t, tenant, n)
	}
	created := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	fixture.Exec(t, `UPDATE recordings SET created_at = $1 WHERE tenant = $2`, created, acme)
	claimed, err := fixture.upload.Claim(t.Context(), "pod", 2, time.Minute)
	if err != nil || len(claimed) != 2 {
		t.Fatalf("%d claimed, %v", len(claimed), err)
	}
	if err := fixture.upload.RetryLater(t.Context(), "pod", claimed[0].ID, store.LaterAttempt{
		At:   time.Now().Add(time.Hour),
		Code: "bucket_unavailable",
	}); err != nil {
		t.Fatal(err)
	}
	fixture.ended(t, acme, "00000000000000f1", "failed", "source_not_found", 0)
	fixture.ended(t, globex, "00000000000000f2", "failed", "a code that no version writes", 0)
	dead := newEvent(acme, "c9", "x", 0, "")
	dead.DeadReason = "stale"
	fixture.ingest(t, dead)

	got, err := fixture.Operator.TenantCounts(t.Context(), endingQuery(0).Words.Recordings)
	if err != nil {
		t.Fatal(err)
	}
	// Only what waits has a known age here.
	ages := cmpopts.IgnoreFields(store.TenantCount{}, "Oldest")
	order := cmpopts.SortSlices(func(a, b store.TenantCount) bool { return a.Tenant+a.Label < b.Tenant+b.Label })
	want := store.TenantCounts{
		Waiting: []store.TenantCount{
			{Tenant: acme, Count: 1},
			{Tenant: acme, Label: "bucket_unavailable", Count: 1},
			{Tenant: "other", Count: 2},
		},
		Uploading: []store.TenantCount{{Tenant: acme, Count: 1}},
		Failed: []store.TenantCount{
			{Tenant: acme, Label: "source_not_found", Count: 1},
			{Tenant: "other", Label: "other", Count: 1},
		},
		Dead:    []store.TenantCount{{Tenant: acme, Label: "stale", Count: 1}},
		Partial: []store.TenantCount{{Tenant: acme}, {Tenant: "other"}},
		Unended: []store.TenantCount{{Tenant: acme}, {Tenant: "other"}},
		Calls:   []store.TenantCount{{Tenant: acme, Label: "0", Count: 3}, {Tenant: "other", Label: "0", Count: 2}},
	}
	if diff := cmp.Diff(want, got, ages, order); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	for _, w := range got.Waiting {
		if w.Tenant == acme && !w.Oldest.Equal(created) {
			t.Errorf("oldest of %+v: want %v", w, created)
		}
	}
	fixture.Exec(t, `UPDATE tenants SET suspended = true WHERE tenant = $1`, acme)
	if got, err = fixture.Operator.TenantCounts(t.Context(), endingQuery(0).Words.Recordings); err != nil {
		t.Fatal(err)
	}
	waiting := []store.TenantCount{{Tenant: acme, Label: "Suspended", Count: 2}, {Tenant: "other", Count: 2}}
	if diff := cmp.Diff(waiting, got.Waiting, ages, order); diff != "" {
		t.Errorf("waiting while a tenant is suspended (-want +got):\n%s", diff)
	}
	for _, w := range got.Waiting {
		if w.Oldest.IsZero() != (w.Tenant == acme) {
			t.Errorf("oldest of %+v: a suspended tenant's has no age", w)
		}
	}
}

// TestDeletedTenantHasNoTotals checks that a Tenant that is made again under the same name does not continue the totals.
func TestDeletedTenantHasNoTotals(t *testing.T) {
	fixture := newFixture(t)
	fixture.nameSeries(t, 10, acme)
	fixture.ended(t, acme, "0000000000000001", "uploaded", "", 0)
	if totals := fixture.countAll(t); len(totals) != 1 {
		t.Fatalf("%+v, want one total", totals)
	}
	fixture.ended(t, acme, "0000000000000002", "uploaded", "", 0)
	if err := fixture.Operator.DeleteTenant(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	if totals := fixture.countAll(t); len(totals) != 0 {
		t.Errorf("%+v, want no total", totals)
	}
}

// TestPodsCannotWriteEndings checks that only the triggers add rows: a pod that chose an id would stop all tenants' ends.
func TestPodsCannotWriteEndings(t *testing.T) {
	fixture := newFixture(t)
	for name, dsn := range map[string]string{"upload": fixture.uploadDSN, "dataplane": fixture.DataplaneDSN} {
		t.Run(name, func(t *testing.T) {
			conn := simpleConn(t, dsn)
			for _, sql := range []string{
				`INSERT INTO endings (id, kind, tenant, call_sid, outcome, code, since, ended_at) OVERRIDING SYSTEM VALUE
					VALUES (1, 'stream', 'acme/support', '', 'stop', '', now(), now())`,
				`SELECT count(*) FROM endings`,
				`DELETE FROM endings`,
				`SELECT count(*) FROM ending_totals`,
				`INSERT INTO metric_tenants VALUES ('acme/support')`,
			} {
				if _, err := conn.Exec(t.Context(), sql); !insufficient(err) {
					t.Errorf("%s: %v, want insufficient privilege", sql, err)
				}
			}
		})
	}
}

// TestHostileEndings lets a pod write what it may write to its own rows. Its end and those of others are counted.
func TestHostileEndings(t *testing.T) {
	fixture := newFixture(t)
	fixture.nameSeries(t, 10, acme, globex)
	conn := simpleConn(t, fixture.uploadDSN)
	for i, at := range []string{"'infinity'", "'-infinity'", "'294276-01-01'", "'4713-01-01 BC'", "now()"} {
		for j, since := range []string{"'infinity'", "'-infinity'", "'294276-01-01'", "'4713-01-01 BC'", "now()"} {
			_, err := conn.Exec(
				t.Context(),
				fmt.Sprintf(`INSERT INTO recording_history (tenant, id, call_sid, source_url, state,
					attempts, last_error_code, finished_by, created_at, finished_at)
				VALUES ('acme/support', '%016x', repeat('c', 5000), 'https://x', 'failed', 1, repeat('%d', 100000), 'pod', %s, %s)`,
					i*5+j, i*5+j, since, at),
			)
			if err != nil {
				t.Fatalf("since %s, at %s: %v", since, at, err)
			}
		}
	}
	fixture.ended(t, globex, "0000000000000001", "uploaded", "", time.Second)
	type total struct {
		Tenant, Outcome, Code string
		Count                 int64
	}
	var got []total
	for _, e := range fixture.countAll(t) {
		got = append(got, total{e.Tenant, e.Outcome, e.Code, e.Count})
		if math.IsInf(e.Seconds, 0) || math.IsNaN(e.Seconds) || e.Seconds < 0 {
			t.Errorf("%+v: the seconds are not finite", e)
		}
	}
	want := []total{{acme, "failed", "other", 25}, {globex, "uploaded", "", 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
}

// TestManyGroups counts as many endings as one transaction may, each of another total.
func TestManyGroups(t *testing.T) {
	fixture := newFixture(t)
	fixture.Exec(t, `INSERT INTO metric_tenants SELECT 'tenant/t' || n FROM generate_series(1, 5000) n`)
	fixture.Exec(t, `INSERT INTO endings (kind, tenant, call_sid, outcome, code, since, ended_at)
		SELECT 'stream', 'tenant/t' || n, '', 'stop', '', now() - interval '1 minute', now() FROM generate_series(1, 5000) n`)
	query := endingQuery(5000, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 60, 70, 80)
	if n, err := fixture.Operator.CountEndings(t.Context(), query); n != 5000 || err != nil {
		t.Fatalf("%d counted, %v", n, err)
	}
	totals, err := fixture.Operator.EndingTotals(t.Context())
	if err != nil || len(totals) != 5000 {
		t.Fatalf("%d totals, %v", len(totals), err)
	}
	// The minute is the bound of the eleventh bucket, which has it.
	if diff := cmp.Diff([]int64{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}, totals[0].Buckets); diff != "" {
		t.Errorf("buckets (-want +got):\n%s", diff)
	}
}
