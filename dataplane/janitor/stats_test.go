package janitor

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/store"
)

// TestStatsOfAllPods asks a pod what the cleanups of all pods did, while PostgreSQL answers and while it does not.
func TestStatsOfAllPods(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	db := &reaper{cleanups: store.CleanupTotals{
		CleanupCounts: store.CleanupCounts{
			Cleanups:       7,
			StreamSessions: 100,
			Connections:    20,
			MemoryLeaks:    3,
			LastAt:         at,
		},
		LoginSessions: 1000,
	}}
	j := New(Options{Store: db, Registry: &fakeStreams{}, Tenants: tenants})
	own := PodStats{Cleanups: 1, SessionsCleanedUp: 2, OrphanedConnectionsClosed: 1, LastCleanupTime: &at}
	all := Stats{
		Cleanups:                  8,
		SessionsCleanedUp:         1102,
		StreamSessionsCleanedUp:   102,
		LoginSessionsCleanedUp:    1000,
		OrphanedConnectionsClosed: 21,
		MemoryLeaksDetected:       3,
		LastCleanupTime:           &at,
		Pod:                       own,
	}
	alone := Stats{
		Cleanups:                  1,
		SessionsCleanedUp:         2,
		StreamSessionsCleanedUp:   2,
		OrphanedConnectionsClosed: 1,
		LastCleanupTime:           &at,
		Pod:                       own,
	}
	away := errors.New("the database is away")
	for _, step := range []struct {
		name      string
		do        func()
		want      Stats
		wantRead  bool
		wantAdded int
	}{
		{"before PostgreSQL answered once", func() { db.err = away; j.count(2, 1); j.succeeded(at) }, alone, false, 0},
		{"what cannot be stored is kept", func() { j.flush(t.Context()) }, alone, false, 0},
		{"what is not stored counts", func() { db.err = nil }, all, true, 0},
		{"what is stored counts once", func() { j.flush(t.Context()) }, all, true, 1},
		{"nothing new is stored", func() { j.flush(t.Context()); j.flush(t.Context()) }, all, true, 1},
		{"the last answer stays", func() { db.err = away }, all, true, 1},
	} {
		step.do()
		got := j.Stats(t.Context())
		if d := cmp.Diff(step.want, got, cmpopts.IgnoreFields(Stats{}, "MemoryUsage", "TotalsReadTime")); d != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, d)
		}
		if (got.TotalsReadTime != nil) != step.wantRead || db.added != step.wantAdded {
			t.Errorf(
				"%s: read at %v, stored %d times, want %d", step.name, got.TotalsReadTime, db.added, step.wantAdded,
			)
		}
	}
}

// TestManyClients asks for the totals while one question is under way: the others cost no connection and do not wait.
func TestManyClients(t *testing.T) {
	asked := make(chan struct{}, 10)
	answer := make(chan struct{})
	j := New(Options{
		Store:    &reaper{asked: func() { asked <- struct{}{}; <-answer }},
		Registry: &fakeStreams{},
		Tenants:  tenants,
	})
	var first sync.WaitGroup
	first.Go(func() { j.Stats(t.Context()) })
	<-asked
	for range 10 {
		j.Stats(t.Context())
	}
	close(answer)
	first.Wait()
	if n := len(asked); n != 0 {
		t.Errorf("%d more questions", n)
	}
}
