package store_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
)

// TestCleanupTotals adds the cleanups of pods at once, and the login sessions that the operator removes.
func TestCleanupTotals(t *testing.T) {
	fixture := newFixture(t)
	fixture.reseed(t)
	if got, err := fixture.Dataplane.CleanupTotals(t.Context()); err != nil || got != (store.CleanupTotals{}) {
		t.Fatalf("a new database has %+v, %v", got, err)
	}
	last := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	const pods = 5
	var wg sync.WaitGroup
	for n := range pods {
		wg.Go(func() {
			_, err := fixture.Dataplane.AddCleanups(t.Context(), store.CleanupCounts{
				Cleanups:       1,
				StreamSessions: 2,
				Connections:    3,
				MemoryLeaks:    4,
				LastAt:         last.Add(-time.Duration(n) * time.Second),
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	fixture.Exec(t, `UPDATE login_sessions SET expires_at = now() - interval '31 days' WHERE tenant = '`+acme+`'`)
	for range 2 { // the second time finds none
		if _, err := fixture.Operator.SweepAccounts(t.Context(), store.DefaultKeep, 100); err != nil {
			t.Fatal(err)
		}
	}
	got, err := fixture.Dataplane.AddCleanups(t.Context(), store.CleanupCounts{StreamSessions: 1})
	if err != nil {
		t.Fatal(err)
	}
	want := store.CleanupTotals{
		CleanupCounts: store.CleanupCounts{
			Cleanups:       pods,
			StreamSessions: 2*pods + 1,
			Connections:    3 * pods,
			MemoryLeaks:    4 * pods,
			LastAt:         last,
		},
		LoginSessions: 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
	if read, err := fixture.Dataplane.CleanupTotals(t.Context()); err != nil || !cmp.Equal(got, read) {
		t.Errorf("read %+v, %v, want %+v", read, err, got)
	}
}

// TestHostileCleanups lets a data-plane pod write what its role may write: the totals count on, and no cleanup is in the
// future.
func TestHostileCleanups(t *testing.T) {
	fixture := newFixture(t)
	conn := simpleConn(t, fixture.DataplaneDSN)
	if _, err := conn.Exec(t.Context(), `UPDATE cleanup_totals SET cleanups = 9223372036854775807`); err != nil {
		t.Fatal(err)
	}
	got, err := fixture.Dataplane.AddCleanups(t.Context(), store.CleanupCounts{
		Cleanups: 1,
		LastAt:   time.Now().Add(time.Hour),
	})
	if err != nil || got.Cleanups != 1<<61+1 || time.Until(got.LastAt) > time.Minute {
		t.Errorf("%+v, %v", got, err)
	}
}
