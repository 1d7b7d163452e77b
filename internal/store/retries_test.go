package store_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/store"
)

// counts of one dependency, told apart by their first figure.
func counts(n int64) resilience.Counts {
	return resilience.Counts{Retries: n, Successful: n + 1, Failed: n + 2, BreakerOpened: n + 3}
}

func (f *fixture) totals(t *testing.T) map[string]resilience.Counts {
	t.Helper()
	got, err := f.Operator.RetryTotals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// withZeros adds the dependencies that are known and have no counts.
func withZeros(counts map[string]resilience.Counts) map[string]resilience.Counts {
	return resilience.Sum(counts, map[string]resilience.Counts{"exotel": {}, "s3": {}, "sts": {}, "other": {}})
}

func TestRetryTotals(t *testing.T) {
	fixture := newFixture(t)
	if diff := cmp.Diff(withZeros(nil), fixture.totals(t)); diff != "" {
		t.Errorf("totals of a new database (-want +got):\n%s", diff)
	}
	for _, add := range []struct {
		by     *store.Upload
		tenant string
		counts map[string]resilience.Counts
	}{
		{fixture.upload, acme, map[string]resilience.Counts{"s3": counts(1), "exotel": counts(10)}},
		{fixture.upload, acme, map[string]resilience.Counts{"s3": counts(2)}},
		{fixture.upload2, globex, map[string]resilience.Counts{"s3": counts(4)}},
		{fixture.upload2, globex, nil},
	} {
		if err := add.by.AddRetries(t.Context(), add.tenant, add.counts); err != nil {
			t.Fatal(err)
		}
	}
	want := withZeros(map[string]resilience.Counts{
		"s3":     counts(1).Plus(counts(2)).Plus(counts(4)),
		"exotel": counts(10),
	})
	if diff := cmp.Diff(want, fixture.totals(t)); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
	// A deleted tenant's rows go, its part of the totals stays: they are counters.
	if err := fixture.Operator.DeleteTenant(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, fixture.totals(t)); diff != "" {
		t.Errorf("totals after a tenant was deleted (-want +got):\n%s", diff)
	}
	if n := fixture.Number(t, `SELECT count(*)::int FROM retry_statistics WHERE tenant = $1`, acme); n != 0 {
		t.Errorf("%d rows of the deleted tenant are left", n)
	}
}

func TestAddRetriesAtOnce(t *testing.T) {
	fixture := newFixture(t)
	const pods, reports = 8, 20
	var wg sync.WaitGroup
	for range pods {
		wg.Go(func() {
			for range reports {
				if err := fixture.upload.AddRetries(t.Context(), acme, map[string]resilience.Counts{
					"exotel": {Retries: 1},
					"s3":     {Failed: 1},
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want := withZeros(map[string]resilience.Counts{
		"exotel": {Retries: pods * reports},
		"s3":     {Failed: pods * reports},
	})
	if diff := cmp.Diff(want, fixture.totals(t)); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
}

func TestAddRetriesRefuses(t *testing.T) {
	fixture := newFixture(t)
	for name, add := range map[string]func() error{
		"another tenant's statistics": func() error {
			return fixture.upload.AddRetries(t.Context(), globex, map[string]resilience.Counts{"s3": counts(1)})
		},
		"a dependency with a bad name": func() error {
			return fixture.upload.AddRetries(t.Context(), acme, map[string]resilience.Counts{
				"exotel":  counts(1),
				"no name": counts(1),
			})
		},
		"the data plane": func() error {
			dataplane := store.AsUpload(fixture.Dataplane)
			return dataplane.AddRetries(t.Context(), acme, map[string]resilience.Counts{"s3": counts(1)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := add(); err == nil {
				t.Error("was taken")
			}
		})
	}
	if diff := cmp.Diff(withZeros(nil), fixture.totals(t)); diff != "" {
		t.Errorf("what was refused left (-want +got):\n%s", diff)
	}
	if totals, err := store.AsOperator(fixture.upload).RetryTotals(t.Context()); err == nil {
		t.Errorf("an upload pod reads the totals of all tenants: %v", totals)
	}
}

// TestProcessRetries adds what pods of the operator and of the data plane counted to what upload pods reported.
func TestProcessRetries(t *testing.T) {
	fixture := newFixture(t)
	if err := fixture.upload.AddRetries(t.Context(), acme, map[string]resilience.Counts{"s3": counts(1)}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for _, err := range []error{
				fixture.Operator.AddProcessRetries(t.Context(), map[string]resilience.Counts{"sts": counts(10)}),
				fixture.Dataplane.AddProcessRetries(t.Context(), map[string]resilience.Counts{
					"s3":          counts(100),
					"no such one": counts(1000),
				}),
			} {
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	times := func(n, c int64) (sum resilience.Counts) {
		for range n {
			sum = sum.Plus(counts(c))
		}
		return sum
	}
	want := map[string]resilience.Counts{
		"exotel": {},
		"s3":     counts(1).Plus(times(10, 100)),
		"sts":    times(10, 10),
		"other":  times(10, 1000),
	}
	for name, read := range map[string]func(context.Context) (map[string]resilience.Counts, error){
		"the operator":   fixture.Operator.RetryTotals,
		"the data plane": fixture.Dataplane.RetryTotals,
	} {
		got, err := read(t.Context())
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v, totals (-want +got):\n%s", name, err, diff)
		}
	}
}

// TestHostileRetries lets an upload pod and a data-plane pod write what their roles may write. The totals stay readable
// and count on, and the data plane sees no row of a tenant.
func TestHostileRetries(t *testing.T) {
	fixture := newFixture(t)
	most := resilience.Counts{Retries: math.MaxInt64, Successful: math.MinInt64, Failed: math.MaxInt64}
	for i := range 3 {
		name := fmt.Sprintf("any-name-%d", i)
		if err := fixture.upload.AddRetries(t.Context(), acme, map[string]resilience.Counts{name: most}); err != nil {
			t.Fatal(err)
		}
	}
	conn := simpleConn(t, fixture.DataplaneDSN)
	if _, err := conn.Exec(
		t.Context(), `UPDATE retry_totals SET retries = 9223372036854775807, failed = -1`,
	); err != nil {
		t.Fatal(err)
	}
	if err := fixture.Operator.AddProcessRetries(
		t.Context(), map[string]resilience.Counts{"s3": {Retries: 1}},
	); err != nil {
		t.Fatal(err)
	}
	got := fixture.totals(t)
	for dependency, c := range got {
		if c.Retries < 1 || c.Successful < 0 || c.Failed < 0 {
			t.Errorf("%s has the totals %+v", dependency, c)
		}
	}
	if len(got) != 4 {
		t.Errorf("%d dependencies, want the known ones and other: %v", len(got), got)
	}
	for _, sql := range []string{
		`SELECT count(*) FROM retry_statistics`,
		`SELECT retries FROM retry_statistics`,
		`INSERT INTO retry_totals (dependency) VALUES ('new')`,
		`UPDATE retry_totals SET dependency = 'new'`,
		`DELETE FROM retry_totals`,
		`UPDATE cleanup_totals SET login_sessions = 1`,
		`DELETE FROM cleanup_totals`,
		`INSERT INTO cleanup_totals DEFAULT VALUES`,
		`SELECT count(*) FROM backfill_totals`,
	} {
		if _, err := conn.Exec(t.Context(), sql); !insufficient(err) {
			t.Errorf("the data plane: %s: %v, want insufficient privilege", sql, err)
		}
	}
	upload := simpleConn(t, fixture.uploadDSN)
	for _, sql := range []string{
		`SELECT * FROM caly_retry_totals()`,
		`SELECT * FROM retry_totals`,
		`SELECT * FROM cleanup_totals`,
	} {
		if _, err := upload.Exec(t.Context(), sql); !insufficient(err) {
			t.Errorf("an upload pod: %s: %v, want insufficient privilege", sql, err)
		}
	}
}

// insufficient reports whether PostgreSQL refused a statement for want of a privilege.
func insufficient(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42501"
}
