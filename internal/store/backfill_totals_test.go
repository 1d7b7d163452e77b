package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
)

// TestBackfillTotals adds the results of runs. Tenants without series of their own are one, and a deleted one loses its
// totals.
func TestBackfillTotals(t *testing.T) {
	fixture := newFixture(t)
	fixture.nameSeries(t, 2, acme, globex)
	for _, run := range []struct {
		tenant string
		calls  map[string]int64
	}{
		{acme, map[string]int64{"found": 2, "left_out": 1}},
		{acme, map[string]int64{"found": 3, "left_out": 0, "found_partial": 0}},
		{globex, map[string]int64{"found": 5}},
		{"beyond/one", map[string]int64{"found": 7}},
		{"beyond/two", map[string]int64{"found": 11}},
		{acme, nil},
	} {
		if err := fixture.Operator.AddBackfill(t.Context(), run.tenant, run.calls); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string, want ...store.BackfillTotal) {
		t.Helper()
		got, err := fixture.Operator.BackfillTotals(t.Context())
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v, totals (-want +got):\n%s", when, err, diff)
		}
	}
	rest := []store.BackfillTotal{{
		Tenant: globex,
		Result: "found",
		Calls:  5,
	}, {
		Tenant: "other",
		Result: "found",
		Calls:  18,
	}}
	check("after the runs", append([]store.BackfillTotal{
		{Tenant: acme, Result: "found", Calls: 5},
		{Tenant: acme, Result: "found_partial"},
		{Tenant: acme, Result: "left_out", Calls: 1},
	}, rest...)...)
	if err := fixture.Operator.DeleteTenant(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	check("after a tenant was deleted", rest...)
	fixture.nameSeries(t, 2, acme)
	check("after a tenant lost its series", rest[1])
}
