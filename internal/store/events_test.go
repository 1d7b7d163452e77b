package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

const source = "https://recordings.exotel.com/x/c1.mp3"

// deadEvent is an event that could not be applied.
func deadEvent(tenant, sid, reason string) store.Event {
	event := newEvent(tenant, sid, "terminal", store.CallCompleted, source)
	event.DeadReason = reason
	return event
}

// keep ingests an event and returns its id.
func (f *fixture) keep(t *testing.T, e store.Event, want store.Outcome) int64 {
	t.Helper()
	if outcome, err := f.Dataplane.Ingest(t.Context(), e); err != nil || outcome != want {
		t.Fatalf("ingest: %v, %v; want %v", outcome, err, want)
	}
	return int64(
		f.Number(t, `SELECT id FROM call_events WHERE tenant = $1 AND dedup_key = $2`, e.Tenant, e.DedupKey[:]),
	)
}

func ids(list []store.KeptEvent) (ids []int64) {
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	return ids
}

func TestEvents(t *testing.T) {
	fixture := newFixture(t)
	fixture.keep(t, newEvent(acme, "c1", "answered", store.CallInProgress, ""), store.Applied) // 1
	fixture.keep(t, deadEvent(acme, "c1", "stale"), store.Dead)                                // 2
	fixture.keep(t, deadEvent(globex, "c1", "stale"), store.Dead)                              // 3
	fixture.keep(t, deadEvent(acme, "c2", "malformed_body"), store.Dead)                       // 4
	fixture.Exec(t, `WITH n AS (SELECT id, row_number() OVER (ORDER BY id) AS n FROM call_events)
		UPDATE call_events e SET received_at = '2026-01-01 00:00Z'::timestamptz + n.n * interval '1 hour' FROM n
			WHERE n.id = e.id`)
	first := int64(fixture.Number(t, `SELECT min(id) FROM call_events`))
	hour := func(n int) time.Time { return time.Date(2026, 1, 1, n, 0, 0, 0, time.UTC) }
	for name, tc := range map[string]struct {
		filter store.EventFilter
		want   []int64 // counted from 1
	}{
		"dead":               {store.EventFilter{}, []int64{4, 3, 2}},
		"all":                {store.EventFilter{Which: store.AllEvents}, []int64{4, 3, 2, 1}},
		"of a tenant":        {store.EventFilter{Tenant: acme}, []int64{4, 2}},
		"of a call":          {store.EventFilter{Which: store.AllEvents, Tenant: acme, CallSID: "c1"}, []int64{2, 1}},
		"for a reason":       {store.EventFilter{Reason: "stale"}, []int64{3, 2}},
		"since":              {store.EventFilter{Since: hour(3)}, []int64{4, 3}},
		"until":              {store.EventFilter{Until: hour(3)}, []int64{2}},
		"of no tenant known": {store.EventFilter{Tenant: "acme/other"}, nil},
		"a page":             {store.EventFilter{Limit: 2}, []int64{4, 3}},
		"the next page":      {store.EventFilter{Limit: 2, Before: first + 2}, []int64{2}},
		"all at once": {store.EventFilter{
			Tenant:  acme,
			CallSID: "c2",
			Reason:  "malformed_body",
			Since:   hour(4),
			Until:   hour(5),
			Before:  first + 4,
			Limit:   9,
		},
			[]int64{4}},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := fixture.Operator.Events(t.Context(), tc.filter)
			if err != nil {
				t.Fatal(err)
			}
			got := ids(list)
			for i := range got {
				got[i] -= first - 1
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("events (-want +got):\n%s", d)
			}
		})
	}
}

func TestEvent(t *testing.T) {
	fixture := newFixture(t)
	for name, tc := range map[string]struct {
		query, body, wantQuery, wantBody bool
		raw                              string
	}{
		"query":                  {query: true, wantQuery: true, raw: "unsigned"},
		"body":                   {body: true, wantBody: true, raw: "signed"},
		"both":                   {query: true, body: true, wantQuery: true, wantBody: true, raw: "x"},
		"as before, with a body": {wantBody: true, raw: "signed"},
		"as before, without":     {wantQuery: true},
	} {
		t.Run(name, func(t *testing.T) {
			event := deadEvent(acme, name, "stale")
			event.Raw = []byte(tc.raw)
			event.CoversQuery = tc.query
			event.CoversBody = tc.body
			event.ContentType = "text/x"
			event.Query = "a=b"
			id := fixture.keep(t, event, store.Dead)
			got, err := fixture.Operator.Event(t.Context(), id)
			want := store.KeptEvent{
				ID:          id,
				Tenant:      acme,
				CallSID:     name,
				Kind:        "status",
				EventType:   "terminal",
				Source:      "webhook",
				Reason:      "stale",
				ContentType: "text/x",
				Query:       "a=b",
				CoversQuery: tc.wantQuery,
				CoversBody:  tc.wantBody,
				Size:        len(tc.raw),
				Raw:         []byte(tc.raw),
			}
			if age := time.Since(got.ReceivedAt); age < -time.Minute || age > time.Minute {
				t.Errorf("received %s ago", age)
			}
			got.ReceivedAt = time.Time{}
			if d := cmp.Diff(want, got); d != "" || err != nil {
				t.Errorf("%v, event (-want +got):\n%s", err, d)
			}
		})
	}
	if _, err := fixture.Operator.Event(t.Context(), 1<<40); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an event that is not there: %v", err)
	}
}

// many makes n events of tenants tenants, every tenth of them dead.
func (f *fixture) many(t *testing.T, n, tenants int) {
	t.Helper()
	f.Exec(t, `INSERT INTO call_events (tenant, call_sid, kind, dedup_key, source, raw, applied_at, dead_reason)
		SELECT 'many/t' || n % $2, 'c' || n, 'status', sha256(n::text::bytea), 'webhook', 'raw',
			CASE WHEN n % 10 <> 0 THEN now() END,
			CASE WHEN n % 10 = 0 THEN (ARRAY['stale', 'malformed_body', 'something_new', 'and_another'])[1 + n / 10 %
				4] END
		FROM generate_series(1, $1) n`, n, tenants)
	f.Exec(t, `ANALYZE call_events`)
}

func TestEventsByPages(t *testing.T) {
	fixture := newFixture(t)
	fixture.many(t, 30_000, 7)
	seen := map[int64]bool{}
	pages := 0
	filter := store.EventFilter{Limit: 5000} // more than a page may have
	for {
		list, err := fixture.Operator.Events(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		pages++
		for _, e := range list {
			if seen[e.ID] || filter.Before > 0 && e.ID >= filter.Before || e.Raw == nil || len(e.Raw) > 0 ||
				e.Size != 3 {
				t.Fatalf("%+v is listed after %d", e, filter.Before)
			}
			seen[e.ID] = true
		}
		filter.Before = list[len(list)-1].ID
	}
	if len(seen) != 3000 || pages != 3 {
		t.Errorf("%d events in %d pages, want 3000 in 3", len(seen), pages)
	}
}

// TestDeadEvents counts the dead events of tenants by reason, with the time of the oldest, and no more than a bound.
func TestDeadEvents(t *testing.T) {
	fixture := newFixture(t)
	dead := func() []store.TenantCount {
		t.Helper()
		counts, err := fixture.Operator.TenantCounts(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return counts.Dead
	}
	if got := dead(); len(got) != 0 {
		t.Errorf("without any: %+v", got)
	}
	fixture.many(t, 4000, 3)
	fixture.Exec(t, `INSERT INTO tenants (tenant) SELECT DISTINCT tenant FROM call_events ON CONFLICT DO NOTHING`)
	fixture.nameSeries(t, 1, "many/t2")
	want := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	fixture.Exec(t, `UPDATE call_events SET received_at = $1 WHERE id = (SELECT min(id) FROM call_events
			WHERE tenant = 'many/t2' AND dead_reason IS NOT NULL)`, want)
	sums := map[string]int64{}
	oldest := map[string]time.Time{}
	for _, c := range dead() {
		sums[c.Label] += c.Count
		if o, found := oldest[c.Tenant]; !found || c.Oldest.Before(o) {
			oldest[c.Tenant] = c.Oldest
		}
	}
	if d := cmp.Diff(map[string]int64{"stale": 100, "malformed_body": 100, "other": 200}, sums); d != "" {
		t.Errorf("counts (-want +got):\n%s", d)
	}
	if len(oldest) != 2 || !oldest["many/t2"].Equal(want) || !oldest["other"].After(want) {
		t.Errorf("the oldest are of %v, want %v of many/t2", oldest, want)
	}
	fixture.Exec(t, `INSERT INTO call_events (tenant, call_sid, kind, dedup_key, source, raw, dead_reason)
		SELECT 'many/t2', 'flood', 'status', decode(lpad(to_hex(n), 64, '0'), 'hex'), 'webhook', '', 'stale'
		FROM generate_series(1, 11000) n`)
	var n int64
	for _, c := range dead() {
		if c.Tenant == "many/t2" {
			n += c.Count
		}
	}
	if n != 10_000 {
		t.Errorf("%d of a tenant with more than 11,000 are counted", n)
	}
}

// TestDeadEventsAreIndexed verifies that the count of dead events uses an index, so that a scrape does not read all
// events.
func TestDeadEventsAreIndexed(t *testing.T) {
	fixture := newFixture(t)
	fixture.many(t, 20_000, 3)
	fixture.Exec(t, `INSERT INTO tenants (tenant) SELECT DISTINCT tenant FROM call_events ON CONFLICT DO NOTHING`)
	before := fixture.Number(t, `SELECT seq_scan::int FROM pg_stat_user_tables WHERE relname = 'call_events'`)
	scans := func() int {
		fixture.Exec(t, `SELECT pg_stat_clear_snapshot()`)
		return fixture.Number(
			t, `SELECT idx_scan::int FROM pg_stat_user_indexes WHERE indexrelname = 'call_events_dead'`,
		)
	}
	index := scans()
	if _, err := fixture.Operator.TenantCounts(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	fixture.Operator.Close() // a connection reports what it did at its end at the latest
	eventually.Within(10*time.Second).Succeeds(t, func(context.Context) error {
		if n := scans(); n < index+3 { // one for each tenant
			return fmt.Errorf("%d scans of the index, want 3 more than %d", n, index)
		}
		return nil
	})
	if n := fixture.Number(
		t, `SELECT seq_scan::int FROM pg_stat_user_tables WHERE relname = 'call_events'`,
	); n != before {
		t.Errorf("the table was read as a whole %d times", n-before)
	}
}

// TestOthersSeeNoEvents verifies that the roles of the pods can neither list nor replay events.
func TestOthersSeeNoEvents(t *testing.T) {
	fixture := newFixture(t)
	id := fixture.keep(t, deadEvent(acme, "c1", "stale"), store.Dead)
	globexID := fixture.keep(t, deadEvent(globex, "c1", "stale"), store.Dead)
	event := deadEvent(acme, "c1", "")
	asDataplane := store.AsOperator(fixture.Dataplane)
	asUpload := store.AsOperator(fixture.upload)
	if list, err := asDataplane.Events(t.Context(), store.EventFilter{}); err != nil || len(list) != 0 {
		t.Errorf("the data plane, bound to no tenant, lists %v, %v", ids(list), err)
	}
	if _, err := asDataplane.Event(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it shows one: %v", err)
	}
	_, err := asUpload.Events(t.Context(), store.EventFilter{})
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("an upload pod lists: %v", err)
	}
	for who, db := range map[string]*store.Operator{"data plane": asDataplane, "upload pod": asUpload} {
		if replay, err := db.Replay(t.Context(), id, event, false); err == nil {
			t.Errorf("the %s applies it: %+v", who, replay)
		}
	}
	conn, err := pgx.Connect(t.Context(), fixture.DataplaneDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var got []int64
	if err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SELECT set_config('caly.tenant', $1, true)`, globex); err != nil {
			return err
		}
		return tx.QueryRow(t.Context(), `SELECT array_agg(id) FROM call_events`).Scan(&got)
	}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]int64{globexID}, got); d != "" {
		t.Errorf("bound to globex, the data plane sees (-want +got):\n%s", d)
	}
	if n := fixture.Number(t, `SELECT count(*) FROM call_events WHERE dead_reason IS NOT NULL`); n != 2 {
		t.Errorf("%d dead events are left of 2", n)
	}
}

func TestReplay(t *testing.T) {
	for name, tc := range map[string]struct {
		change              func(*store.Event)
		before              string
		tenant              string
		want                store.Replay
		wantErr             error
		wantDead            string
		wantCalls, wantRecs int
	}{
		"good": {want: store.Replay{Outcome: store.Applied}, wantCalls: 1, wantRecs: 1},
		"its reason holds": {
			change:   func(e *store.Event) { e.DeadReason = "source_refused" },
			want:     store.Replay{Outcome: store.Dead, Reason: "source_refused"},
			wantDead: "source_refused",
		},
		"another reason": {
			change:   func(e *store.Event) { e.DeadReason = "stale" },
			want:     store.Replay{Outcome: store.Dead, Reason: "stale"},
			wantDead: "stale",
		},
		"another tenant's": {
			change:   func(e *store.Event) { e.Tenant = globex },
			wantErr:  store.ErrNotFound,
			wantDead: "source_refused",
		},
		"refused by database": {
			change:   func(e *store.Event) { e.Call.From = "a\x00b" },
			want:     store.Replay{Outcome: store.Dead, Reason: reason.DeadRefused},
			wantDead: reason.DeadRefused,
		},
		"too many recordings": {
			before: `INSERT INTO calls (tenant, call_sid, recording_ids)
				SELECT 'acme/support', 'c1', array_agg(n::text) FROM generate_series(1, 16) n`,
			want:      store.Replay{Outcome: store.Applied},
			wantCalls: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			fixture := newFixture(t)
			id := fixture.keep(t, deadEvent(acme, "c1", "source_refused"), store.Dead)
			if tc.before != "" {
				fixture.Exec(t, tc.before)
			}
			event := deadEvent(acme, "c1", "")
			if tc.change != nil {
				tc.change(&event)
			}
			for range 2 {
				got, err := fixture.Operator.Replay(t.Context(), id, event, false)
				if d := cmp.Diff(tc.want, got); d != "" || !errors.Is(err, tc.wantErr) {
					t.Errorf("%v, replay (-want +got):\n%s", err, d)
				}
				if kept, err := fixture.Operator.Event(t.Context(), id); err != nil || kept.Reason != tc.wantDead {
					t.Errorf("it is kept as dead for %q (%v), want %q", kept.Reason, err, tc.wantDead)
				}
				if calls, recs := fixture.Number(t, `SELECT count(*) FROM calls`), fixture.Number(
					t, `SELECT count(*) FROM recordings`,
				); calls != tc.wantCalls ||
					recs != tc.wantRecs {
					t.Errorf("%d calls and %d recordings, want %d and %d", calls, recs, tc.wantCalls, tc.wantRecs)
				}
				// a partial event is applied again; else the second time there is nothing left to do
				if tc.want.Outcome == store.Applied && tc.before == "" {
					tc.want = store.Replay{Outcome: store.Duplicate}
				}
			}
		})
	}
}

// TestReplayAtOnce verifies that an event that many callers replay at the same time is applied once.
func TestReplayAtOnce(t *testing.T) {
	fixture := newFixture(t)
	id := fixture.keep(t, deadEvent(acme, "c1", "source_refused"), store.Dead)
	var mu sync.Mutex
	got := map[store.Replay]int{}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			replay, err := fixture.Operator.Replay(t.Context(), id, deadEvent(acme, "c1", ""), false)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[replay]++
		})
	}
	wg.Wait()
	if d := cmp.Diff(map[store.Replay]int{{Outcome: store.Applied}: 1, {Outcome: store.Duplicate}: 19}, got); d != "" {
		t.Errorf("outcomes (-want +got):\n%s", d)
	}
	if n := fixture.Number(t, `SELECT count(*) FROM recordings`); n != 1 {
		t.Errorf("%d recordings, want 1", n)
	}
}

// TestReplayOfTheUnread verifies that unreadable deliveries with different keys count as one event after a replay reads
// them.
func TestReplayOfTheUnread(t *testing.T) {
	fixture := newFixture(t)
	unread := store.Event{
		Tenant:     acme,
		CallSID:    store.UnreadCall,
		Kind:       "status",
		Source:     "webhook",
		Raw:        []byte("raw"),
		DeadReason: "malformed_body",
		DedupKey:   sha256.Sum256([]byte("of what was received")),
	}
	kept := fixture.keep(t, unread, store.Dead)
	event := newEvent(acme, "c1", "terminal", store.CallCompleted, source)
	for i, want := range []store.Outcome{store.Applied, store.Duplicate} {
		if got, err := fixture.Operator.Replay(t.Context(), kept, event, false); err != nil || got.Outcome != want {
			t.Errorf("replay %d: %+v, %v; want %v", i, got, err, want)
		}
	}
	if outcome, err := fixture.Dataplane.Ingest(t.Context(), unread); err != nil || outcome != store.Duplicate {
		t.Errorf("a late delivery: %v, %v; want a duplicate", outcome, err)
	}
	applied := `SELECT count(*) FROM call_events
		WHERE call_sid = 'c1' AND event_type = 'terminal' AND dead_reason IS NULL`
	if n := fixture.Number(t, applied); n != 1 {
		t.Errorf("%d events are applied, want 1", n)
	}
	if n := fixture.Number(t, `SELECT count(*) FROM recordings`); n != 1 {
		t.Errorf("%d recordings, want 1", n)
	}
}

// TestReplayOfPartialThatIsDead checks that a partial event stays applied if a newer reader cannot apply it.
func TestReplayOfPartialThatIsDead(t *testing.T) {
	fixture := newFixture(t)
	event := newEvent(acme, "c1", "terminal", store.CallCompleted, source)
	event.Unread = []store.Unread{{Field: "Status", Reason: "unknown_value"}}
	id := fixture.keep(t, event, store.Applied)
	before := pgtest.Value[string](t, fixture.Server, everything)
	for name, change := range map[string]func(*store.Event){
		"stale":            func(e *store.Event) { e.DeadReason = "stale" },
		reason.DeadRefused: func(e *store.Event) { e.Call.From = "a\x00b" },
	} {
		again := event
		change(&again)
		got, err := fixture.Operator.Replay(t.Context(), id, again, false)
		if want := (store.Replay{Outcome: store.Duplicate, Reason: name}); got != want || err != nil {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	kept, err := fixture.Operator.Event(t.Context(), id)
	if err != nil || kept.Reason != "" || len(kept.Unread) != 1 ||
		pgtest.Value[string](t, fixture.Server, everything) != before {
		t.Errorf("the event is %+v now (%v), want that nothing changes", kept, err)
	}
}

// everything is all rows of the tables that an event touches, physical places included: an update that changes nothing moves them.
const everything = `SELECT md5(coalesce(string_agg(x, '|' ORDER BY x), '')) FROM (
	SELECT ctid::text || e::text FROM call_events e UNION ALL SELECT c::text FROM calls c UNION ALL SELECT s::text
		FROM call_streams s
	UNION ALL SELECT r::text FROM recordings r UNION ALL SELECT h::text FROM recording_history h UNION ALL
		SELECT t::text FROM tenants t) all_rows(x)`

func TestDryRunLeavesNoTrace(t *testing.T) {
	fixture := newFixture(t)
	id := fixture.keep(t, deadEvent(acme, "c1", "source_refused"), store.Dead)
	unread := fixture.keep(t, store.Event{
		Tenant:     acme,
		CallSID:    store.UnreadCall,
		Kind:       "status",
		Source:     "webhook",
		DeadReason: "malformed_body",
	}, store.Dead)
	good := deadEvent(acme, "c1", "")
	stale := deadEvent(acme, "c1", "stale")
	bad := deadEvent(acme, "c1", "")
	good.Stream = &store.Stream{SID: "s1", Status: "completed"}
	bad.Call.From = "a\x00b"
	before := pgtest.Value[string](t, fixture.Server, everything)
	for name, tc := range map[string]struct {
		id   int64
		e    store.Event
		want store.Replay
	}{
		"applied":      {id, good, store.Replay{Outcome: store.Applied}},
		"still dead":   {id, stale, store.Replay{Outcome: store.Dead, Reason: "stale"}},
		"refused":      {id, bad, store.Replay{Outcome: store.Dead, Reason: reason.DeadRefused}},
		"read at last": {unread, newEvent(acme, "c9", "answered", 3, ""), store.Replay{Outcome: store.Applied}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fixture.Operator.Replay(t.Context(), tc.id, tc.e, true)
			if d := cmp.Diff(tc.want, got); d != "" || err != nil {
				t.Errorf("%v, replay (-want +got):\n%s", err, d)
			}
			if after := pgtest.Value[string](t, fixture.Server, everything); after != before {
				t.Error("the rows are not what they were")
			}
		})
	}
}

// TestReplayIsAsIfDelivered checks that a call with events that were dead at first ends in the same rows as one
// without.
func TestReplayIsAsIfDelivered(t *testing.T) {
	fixture := newFixture(t)
	admin, err := pgxpool.New(t.Context(), fixture.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		one := fmt.Sprint("one", n)
		other := fmt.Sprint("other", n)
		history := events(r)
		if _, err := fixture.Dataplane.IngestBatch(t.Context(), of(history, one)); err != nil {
			r.Fatal(err)
		}
		var dead []store.Event
		for _, e := range of(history, other) {
			kept := e
			if rapid.Bool().Draw(r, "dead") {
				kept.DeadReason = "stale"
				dead = append(dead, e)
			}
			if _, err := fixture.Dataplane.Ingest(t.Context(), kept); err != nil {
				r.Fatal(err)
			}
		}
		if len(dead) > 0 {
			dead = append(rapid.Permutation(dead).Draw(r, "order"), dead[0])
		}
		for _, e := range dead {
			var id int64
			err := admin.QueryRow(
				t.Context(), `SELECT id FROM call_events WHERE tenant = $1 AND dedup_key = $2`, e.Tenant, e.DedupKey[:],
			).Scan(&id)
			if err != nil {
				r.Fatal(err)
			}
			if _, err := fixture.Operator.Replay(t.Context(), id, e, false); err != nil {
				r.Fatal(err)
			}
		}
		if diff := cmp.Diff(rowsOf(r, admin, one), rowsOf(r, admin, other)); diff != "" {
			r.Fatalf("rows after %v (%v dead at first) differ:\n%s", history, dead, diff)
		}
	})
}

// TestDeadEventsGoWithTheirTenant verifies that the deletion of a tenant removes its dead events and no others.
func TestDeadEventsGoWithTheirTenant(t *testing.T) {
	fixture := newFixture(t)
	fixture.keep(t, deadEvent(acme, "c1", "stale"), store.Dead)
	fixture.keep(t, deadEvent(globex, "c1", "stale"), store.Dead)
	if err := fixture.Operator.DeleteTenant(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	if of := pgtest.Value[string](t, fixture.Server, `SELECT string_agg(tenant, ' ') FROM call_events`); of != globex {
		t.Errorf("events are left of %q", of)
	}
}

func TestReplayWhileTheDatabaseIsAway(t *testing.T) {
	fixture := newFixture(t)
	id := fixture.keep(t, deadEvent(acme, "c1", "source_refused"), store.Dead)
	fixture.Stop(t)
	_, err := fixture.Operator.Replay(t.Context(), id, deadEvent(acme, "c1", ""), false)
	fixture.Start(t)
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("it says %v", err)
	}
	if replay, err := fixture.Operator.Replay(t.Context(), id, deadEvent(acme, "c1", ""), false); err != nil ||
		replay.Outcome != store.Applied {
		t.Errorf("when it is back: %+v, %v", replay, err)
	}
}
