package store_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

func (f *fixture) ingest(t *testing.T, events ...store.Event) {
	t.Helper()
	for _, e := range events {
		if _, err := f.Dataplane.Ingest(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKnownCalls(t *testing.T) {
	fixture := newFixture(t)
	const url = "https://recordings.exotel.com/x/a.mp3"
	ended := newEvent(acme, "ended", "terminal", store.CallBusy, url)
	ended.Call.EndedAt = time.Now()
	dead := func(sid, source string) store.Event {
		event := newEvent(acme, sid, "terminal", store.CallCompleted, "")
		event.Source, event.DeadReason, event.DedupKey = source, "source_refused", sha256.Sum256([]byte(sid+source))
		return event
	}
	fixture.ingest(
		t,
		ended,
		newEvent(acme, "no-end", "terminal", store.CallCompleted, ""),
		newEvent(acme, "answered", "answered", store.CallInProgress, ""),
		dead("dead", "backfill"),
		dead("dead-webhook", "webhook"),
		newEvent(acme, "both", "terminal", store.CallCompleted, ""),
		dead("both", "backfill"),
		newEvent(globex, "globex", "terminal", store.CallCompleted, ""),
		newEvent(acme, "unasked", "terminal", store.CallCompleted, ""),
	)
	got, err := fixture.Operator.KnownCalls(
		t.Context(),
		acme,
		[]string{"ended", "no-end", "answered", "dead", "dead-webhook", "both", "globex", "nobody", "ended"},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]store.Known{
		"ended":    {Terminal: true, Ended: true, RecordingIDs: []string{recording.ID("ended", url)}},
		"no-end":   {Terminal: true},
		"answered": {},
		"dead":     {Dead: true},
		"both":     {Terminal: true, Dead: true},
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("known (-want +got):\n%s", d)
	}
}

// TestSuspects lists ten calls, one a minute, and leaves out calls that are not suspects.
func TestSuspects(t *testing.T) {
	fixture := newFixture(t)
	now := time.Now().Truncate(time.Second)
	open := func(tenant, sid string, state store.CallState, age time.Duration) {
		event := newEvent(tenant, sid, "answered", state, "")
		event.Call.StartedAt = now.Add(-age)
		fixture.ingest(t, event)
	}
	for i := range 10 {
		open(acme, fmt.Sprint("c", i), store.CallInProgress, time.Hour-time.Duration(i)*time.Minute)
	}
	open(acme, "twin", store.CallUnknown, time.Hour)
	open(acme, "over", store.CallFailed, time.Hour)
	open(acme, "young", store.CallRinging, time.Minute)
	open(acme, "ancient", store.CallRinging, 1000*time.Hour)
	open(globex, "theirs", store.CallRinging, time.Hour)
	legs := newEvent(acme, "legs", "", store.CallUnknown, "") // a dialled leg has ended, and perhaps not the call
	legs.Call.StartedAt = now.Add(-31 * time.Minute)
	legs.Legs = []store.Leg{{Kind: store.LegDial, Key: "dial:1", State: store.CallNoAnswer, Called: true}}
	fixture.ingest(t, legs)
	fixture.ingest(
		t, newEvent(acme, "heard-of", "answered", store.CallInProgress, ""),
	) // no start: it counts from when it was heard of
	fixture.Exec(t, `UPDATE calls SET created_at = now() - interval '30 minutes' WHERE call_sid = 'heard-of'`)

	var got []string
	var after store.Suspect
	for page := 0; ; page++ {
		list, err := fixture.Operator.Suspects(t.Context(), acme, store.SuspectQuery{
			From:  now.Add(-24 * time.Hour),
			To:    now.Add(-15 * time.Minute),
			After: after,
			Limit: 5,
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			got = append(got, s.CallSID)
		}
		if len(list) < 5 {
			break
		}
		if after = list[4]; page > 9 {
			t.Fatal("the pages do not end")
		}
	}
	want := []string{"c0", "twin", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9", "legs", "heard-of"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("suspects (-want +got):\n%s", d)
	}
	fixture.Exec(t, `UPDATE calls SET state = 6, whole_weight = 5::bigint << 44 | 6 WHERE state < 4`)
	if list, err := fixture.Operator.Suspects(t.Context(), acme, store.SuspectQuery{
		From:  now.Add(-24 * time.Hour),
		To:    now,
		Limit: 5,
	}); err != nil ||
		len(list) != 1 || list[0].CallSID != "legs" {
		t.Errorf("calls that have ended are suspects: %v, %v", list, err)
	}
}

// TestSuspectsReadAnIndex verifies that the query for the few calls without a known end uses an index.
func TestSuspectsReadAnIndex(t *testing.T) {
	fixture := newFixture(t)
	fixture.Exec(t, `INSERT INTO calls (tenant, call_sid, started_at, state, whole_weight) SELECT $1, 'c' || n,
		now() - n * interval '1 second', CASE WHEN n % 4000 = 0 THEN 6 ELSE 5 END,
		CASE WHEN n % 4000 = 0 THEN 0 ELSE 5::bigint << 44 | 5 END FROM generate_series(1, 20000) n`, acme)
	fixture.Exec(t, `ANALYZE calls`)
	db, err := store.OpenOperator(t.Context(), fixture.OperatorDSN, store.Options{MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 8 { // from the sixth on a prepared statement may have a plan for any argument
		list, err := db.Suspects(t.Context(), acme, store.SuspectQuery{
			From:  time.Now().Add(-24 * time.Hour),
			To:    time.Now(),
			Limit: 100,
		})
		if err != nil || len(list) != 5 {
			t.Fatalf("%v, %v", list, err)
		}
	}
	db.Close()
	eventually.Within(10*time.Second).Succeeds(t, func(context.Context) error {
		const scans = `SELECT idx_scan::int FROM pg_stat_user_indexes WHERE indexrelname = 'calls_unended'`
		if n := fixture.Number(t, scans); n != 8 {
			return fmt.Errorf("%v of 8 queries used the index", n)
		}
		return nil
	})
}
