package store_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// mostStatements is above what any method sends.
const mostStatements = 60

// TestLostConnectionChangesNothing loses the connection before each statement of each method of the data plane in
// turn. The method reports it, and no row has changed: nothing is half done.
func TestLostConnectionChangesNothing(t *testing.T) {
	fixture := newFixture(t)
	wire := fixture.NewWire(t)
	db, err := store.OpenDataplane(
		t.Context(), pgtest.At(t, fixture.DataplaneDSN, wire.Address), store.Options{MaxConns: 2},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	calls := reading()
	maps.Copy(calls, writing())
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		t.Run(name, func(t *testing.T) {
			fixture.reseed(t)
			before := fixture.digests(t, acme)
			for n := range mostStatements {
				if err := db.Ping(t.Context()); err != nil {
					t.Fatalf("the connection that is back: %v", err)
				}
				wire.LoseAfter(n)
				_, err := calls[name](t.Context(), db)
				if !wire.Restore() {
					if err != nil || n == 0 {
						t.Errorf("with %d statements: %v", n, err)
					}
					return
				}
				if err == nil {
					t.Errorf("without statement %d it reports success", n+1)
				}
				if diff := cmp.Diff(before, fixture.digests(t, acme)); diff != "" {
					t.Errorf("without statement %d rows have changed (-before +after):\n%s", n+1, diff)
				}
			}
			t.Errorf("it sends more than %d statements", mostStatements)
		})
	}
}
