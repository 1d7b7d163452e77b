package store_test

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

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

func TestRetryTotals(t *testing.T) {
	fixture := newFixture(t)
	if got := fixture.totals(t); len(got) != 0 {
		t.Errorf("a new database has the totals %v", got)
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
	want := map[string]resilience.Counts{"s3": counts(1).Plus(counts(2)).Plus(counts(4)), "exotel": counts(10)}
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
	want := map[string]resilience.Counts{"exotel": {Retries: pods * reports}, "s3": {Failed: pods * reports}}
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
	if got := fixture.totals(t); len(got) != 0 {
		t.Errorf("what was refused left %v", got)
	}
	if _, err := store.AsOperator(fixture.upload).RetryTotals(t.Context()); err != nil {
		t.Errorf("an upload pod may read its own: %v", err)
	}
}
