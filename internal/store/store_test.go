package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
	"github.com/caly-dev/caly/migrations"
)

const (
	acme   = "acme/support"
	globex = "globex/sales"
)

// opening is one of the functions that open a handle.
type opening[DB any] = func(context.Context, string, store.Options) (DB, error)

// openAs opens a handle by the name of its component, and closes it.
func openAs(t *testing.T, component, dsn string) error {
	t.Helper()
	return map[string]func(context.Context, string) error{
		"operator":  try(store.OpenOperator),
		"dataplane": try(store.OpenDataplane),
		"upload":    try(store.OpenUpload),
	}[component](t.Context(), dsn)
}

func try[DB interface{ Close() }](connect opening[DB]) func(context.Context, string) error {
	return func(ctx context.Context, dsn string) error {
		db, err := connect(ctx, dsn, store.Options{})
		if err == nil {
			db.Close()
		}
		return err
	}
}

// fixture is a database with the handles of two tenants' upload pods too.
type fixture struct {
	*storetest.DB
	upload, upload2 *store.Upload // acme's, globex's
	uploadDSN       string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{DB: storetest.New(t)}
	f.uploadDSN = storetest.UploadDSN(t, f.Operator, acme, "pw-acme")
	f.upload = storetest.Open(t, f.uploadDSN, store.OpenUpload)
	f.upload2 = storetest.Open(t, storetest.UploadDSN(t, f.Operator, globex, "pw-globex"), store.OpenUpload)
	return f
}

func newEvent(tenant, sid, eventType string, state store.CallState, url string) store.Event {
	event := store.Event{
		Tenant:    tenant,
		Kind:      "status",
		CallSID:   sid,
		EventType: eventType,
		Source:    "webhook",
		Raw:       []byte("raw"),
		DedupKey:  sha256.Sum256([]byte(tenant + sid + eventType + fmt.Sprint(state))),
		Call:      store.Call{State: state},
	}
	if url != "" {
		event.Recordings = []store.NewRecording{{ID: recording.ID(sid, url), SourceURL: url}}
	}
	return event
}

func (f *fixture) enqueue(t *testing.T, tenant string, n int) []string {
	t.Helper()
	ids := make([]string, n)
	for i := range n {
		sid := fmt.Sprintf("call%04d", i)
		url := "https://recordings.exotel.com/x/" + sid + ".mp3"
		ids[i] = recording.ID(sid, url)
		if _, err := f.Operator.Enqueue(t.Context(), tenant, sid, store.NewRecording{
			ID:        ids[i],
			SourceURL: url,
		}); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

func TestIngestOnceUnderConcurrency(t *testing.T) {
	fixture := newFixture(t)
	event := newEvent(acme, "c1", "terminal", store.CallCompleted, "https://recordings.exotel.com/x/c1.mp3")
	outcomes := make(chan store.Outcome, 50)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			outcome, err := fixture.Dataplane.Ingest(t.Context(), event)
			if err != nil {
				t.Error(err)
			}
			outcomes <- outcome
		})
	}
	wg.Wait()
	close(outcomes)
	got := map[store.Outcome]int{}
	for o := range outcomes {
		got[o]++
	}
	if diff := cmp.Diff(map[store.Outcome]int{store.Applied: 1, store.Duplicate: 49}, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if n := fixture.Number(t, `SELECT count(*) FROM recordings`); n != 1 {
		t.Errorf("%d recordings, want 1", n)
	}
}

func TestRecordingOfSeveralEventsIsQueuedOnce(t *testing.T) {
	fixture := newFixture(t)
	url := "https://recordings.exotel.com/x/c1.mp3"
	for _, e := range []store.Event{
		newEvent(acme, "c1", "answered", store.CallInProgress, url),
		newEvent(acme, "c1", "terminal", store.CallCompleted, url),
	} {
		if outcome, err := fixture.Dataplane.Ingest(t.Context(), e); err != nil || outcome != store.Applied {
			t.Fatalf("ingest: %v, %v", outcome, err)
		}
	}
	got, err := fixture.upload.Claim(t.Context(), "w", 10, time.Minute)
	if err != nil || len(got) != 1 {
		t.Fatalf("claimed %d, %v; want 1", len(got), err)
	}
	res := store.Result{Bucket: "b", Key: "k", SHA256: strings.Repeat("a", 64), MD5: "m", Size: 3}
	if err := fixture.upload.Complete(t.Context(), "w", got[0].ID, res); err != nil {
		t.Fatal(err)
	}
	if created, err := fixture.Operator.Enqueue(
		t.Context(), acme, "c1", newEvent(acme, "c1", "", 0, url).Recordings[0],
	); err != nil ||
		created {
		t.Errorf("after it is history it was queued again: %v, %v", created, err)
	}
}

func TestTooManyRecordingsOfOneCall(t *testing.T) {
	fixture := newFixture(t)
	var err error
	for i := range 17 {
		url := fmt.Sprintf("https://recordings.exotel.com/x/%d.mp3", i)
		_, err = fixture.Operator.Enqueue(t.Context(), acme, "c1", store.NewRecording{
			ID:        recording.ID("c1", url),
			SourceURL: url,
		})
		if i < 16 && err != nil {
			t.Fatal(err)
		}
	}
	if !errors.Is(err, store.ErrTooManyRecordings) {
		t.Errorf("the seventeenth: %v, want ErrTooManyRecordings", err)
	}
}

// TestRejectedRecordingsMakeRoom checks that a recording that may be fetched gets the place of one that is rejected, in
// whatever order an event names them, and that no call has more than 16.
func TestRejectedRecordingsMakeRoom(t *testing.T) {
	named := func(sid string, rejected, allowed int) store.Event {
		event := newEvent(acme, sid, fmt.Sprint(rejected, allowed), store.CallCompleted, "")
		event.Recordings = nil
		for i := range rejected + allowed {
			url := fmt.Sprintf("https://host.example/%s/%d-%d.mp3", sid, rejected, i)
			newRecording := store.NewRecording{ID: recording.ID(sid, url), SourceURL: url}
			if i < rejected {
				newRecording.Rejected = "the host is not allowed"
			}
			event.Recordings = append(event.Recordings, newRecording)
		}
		return event
	}
	fixture := newFixture(t)
	for name, tc := range map[string]struct {
		events                 []store.Event
		places, queued, failed int
	}{
		"rejected first":     {[]store.Event{named("c1", 16, 0), named("c1", 0, 2)}, 16, 2, 16},
		"in one event":       {[]store.Event{named("c2", 20, 3)}, 16, 3, 13},
		"allowed first":      {[]store.Event{named("c3", 0, 16), named("c3", 2, 0)}, 16, 16, 0},
		"all places allowed": {[]store.Event{named("c4", 8, 0), named("c4", 0, 16)}, 16, 16, 8},
	} {
		for _, e := range tc.events {
			if outcome, err := fixture.Dataplane.Ingest(t.Context(), e); err != nil || outcome != store.Applied {
				t.Fatalf("%s: %v, %v", name, outcome, err)
			}
		}
		sid := tc.events[0].CallSID
		places := fixture.Number(t, `SELECT cardinality(recording_ids) FROM calls WHERE call_sid = $1`, sid)
		queued := fixture.Number(t, `SELECT count(*) FROM recordings WHERE call_sid = $1`, sid)
		failed := fixture.Number(t, `SELECT count(*) FROM recording_history WHERE call_sid = $1`, sid)
		if places != tc.places || queued != tc.queued || failed != tc.failed {
			t.Errorf("%s: %d places, %d queued and %d rejected; want %d, %d and %d", name, places, queued, failed,
				tc.places, tc.queued, tc.failed)
		}
	}
	extra := store.NewRecording{ID: "x", SourceURL: "https://host.example/x.mp3"}
	_, err := fixture.Operator.Enqueue(t.Context(), acme, "c4", extra)
	if !errors.Is(err, store.ErrTooManyRecordings) {
		t.Errorf("the seventeenth: %v, want ErrTooManyRecordings", err)
	}
}

func TestDeadEventIsKept(t *testing.T) {
	fixture := newFixture(t)
	event := newEvent(acme, "c1", "terminal", store.CallCompleted, "https://recordings.exotel.com/x/c1.mp3")
	event.DeadReason = "bad_time"
	if outcome, err := fixture.Dataplane.Ingest(t.Context(), event); err != nil || outcome != store.Dead {
		t.Fatalf("ingest: %v, %v; want Dead", outcome, err)
	}
	if n := fixture.Number(t, `SELECT count(*) FROM call_events WHERE dead_reason = 'bad_time'`); n != 1 {
		t.Errorf("%d dead events, want 1", n)
	}
	if n := fixture.Number(t, `SELECT (SELECT count(*) FROM calls) + (SELECT count(*) FROM recordings)`); n != 0 {
		t.Errorf("a dead event touched %d rows", n)
	}
}

// TestCallStateOrderIndependent verifies that the events of a call in one second lead to the same state in any order.
// The state is completed, or else the greatest.
func TestCallStateOrderIndependent(t *testing.T) {
	fixture := newFixture(t)
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		states := rapid.SliceOfN(rapid.IntRange(0, 8), 1, 6).Draw(r, "states")
		n++
		sid := fmt.Sprintf("call%d", n)
		want := 0
		for _, s := range states {
			want = max(want, s)
			if _, err := fixture.Dataplane.Ingest(
				t.Context(), newEvent(acme, sid, "e", store.CallState(s), ""),
			); err != nil {
				r.Fatal(err)
			}
		}
		if slices.Contains(states, int(store.CallCompleted)) {
			want = int(store.CallCompleted)
		}
		if got := fixture.Number(t, `SELECT state FROM calls WHERE call_sid = $1`, sid); got != want {
			r.Fatalf("after %v the state is %d, want %d", states, got, want)
		}
	})
}

func TestClaimGivesEachRowOnce(t *testing.T) {
	fixture := newFixture(t)
	fixture.enqueue(t, acme, 100)
	seen := sync.Map{}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for {
				got, err := fixture.upload.Claim(t.Context(), fmt.Sprint("w", w), 7, time.Minute)
				if err != nil {
					t.Error(err)
				}
				if len(got) == 0 {
					return
				}
				for _, r := range got {
					if _, twice := seen.LoadOrStore(r.ID, w); twice {
						t.Errorf("%s was claimed twice", r.ID)
					}
				}
			}
		})
	}
	wg.Wait()
	count := 0
	seen.Range(func(any, any) bool { count++; return true })
	if count != 100 {
		t.Errorf("%d of 100 rows were claimed", count)
	}
}

func TestLeases(t *testing.T) {
	fixture := newFixture(t)
	ctx := t.Context()
	id := fixture.enqueue(t, acme, 1)[0]
	claim := func(owner string, lease time.Duration) int {
		got, err := fixture.upload.Claim(ctx, owner, 5, lease)
		if err != nil {
			t.Fatal(err)
		}
		return len(got)
	}
	if claim("a", time.Millisecond) != 1 {
		t.Fatal("the first claim found nothing")
	}
	eventually.Holds(t, "the expired lease is taken over", func() bool { return claim("b", time.Minute) == 1 })
	res := store.Result{Bucket: "b", Key: "k", SHA256: strings.Repeat("a", 64)}
	if err := fixture.upload.Complete(ctx, "a", id, res); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("Complete by the one who lost it: %v", err)
	}
	if held, err := fixture.upload.Heartbeat(ctx, "a", []string{id}, time.Minute); err != nil || len(held) != 0 {
		t.Errorf("Heartbeat by the one who lost it holds %v, %v", held, err)
	}
	if err := fixture.upload.Release(ctx, "b", []string{id}); err != nil {
		t.Fatal(err)
	}
	if claim("c", time.Minute) != 1 {
		t.Fatal("a released lease cannot be claimed at once")
	}
	if err := fixture.upload.Complete(ctx, "c", id, res); err != nil {
		t.Fatal(err)
	}
	if err := fixture.upload.Complete(ctx, "c", id, res); err != nil {
		t.Errorf("Complete again, since the answer was lost: %v", err)
	}
	other := res
	other.SHA256 = strings.Repeat("b", 64)
	if err := fixture.upload.Complete(ctx, "c", id, other); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("Complete again with another result: %v", err)
	}
}

func TestFailAndRetry(t *testing.T) {
	fixture := newFixture(t)
	ctx := t.Context()
	id := fixture.enqueue(t, acme, 1)[0]
	key := store.RecordingKey{Tenant: acme, ID: id}
	if err := fixture.Operator.Retry(ctx, acme, "0000000000000000"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("retry of an unknown one: %v", err)
	}
	if _, err := fixture.upload.Claim(ctx, "w", 1, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := fixture.upload.Fail(ctx, "w", id, "gone", "the source says 410"); err != nil {
		t.Fatal(err)
	}
	got, err := fixture.Operator.Recordings(ctx, []store.RecordingKey{key})
	if err != nil || got[key].State != store.StateFailed || got[key].LastErrorCode != "gone" || got[key].Attempts != 1 {
		t.Fatalf("after Fail: %+v, %v", got[key], err)
	}
	for range 2 { // the second finds it queued already
		if err := fixture.Operator.Retry(ctx, acme, id); err != nil {
			t.Fatal(err)
		}
	}
	got, err = fixture.Operator.Recordings(ctx, []store.RecordingKey{key})
	if err != nil || got[key].State != store.StatePending || got[key].Attempts != 0 {
		t.Fatalf("after Retry: %+v, %v", got[key], err)
	}
}

func TestBacklogsAndReaping(t *testing.T) {
	fixture := newFixture(t)
	ctx := t.Context()
	fixture.enqueue(t, acme, 5)
	fixture.enqueue(t, globex, 1)
	if _, err := fixture.upload.Claim(ctx, "w", 2, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "both leases have expired", func() bool {
		return fixture.Number(t, `SELECT count(*)::int FROM recordings WHERE lease_until < now()`) == 2
	})
	if n, err := fixture.Operator.ReapLeases(ctx); err != nil || n != 2 {
		t.Errorf("reaped %d, %v; want 2", n, err)
	}
	if _, err := fixture.upload.Claim(ctx, "w", 1, time.Minute); err != nil {
		t.Fatal(err)
	}
	list, err := fixture.Operator.Backlogs(ctx, 3)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][2]int{}
	for _, b := range list {
		got[b.Tenant] = [2]int{b.Ready, b.Leased}
	}
	if diff := cmp.Diff(map[string][2]int{acme: {3, 1}, globex: {1, 0}}, got); diff != "" {
		t.Errorf("backlogs (-want +got):\n%s", diff)
	}
	if err := fixture.Operator.SuspendTenant(ctx, acme, true); err != nil {
		t.Fatal(err)
	}
	if got, err := fixture.upload.Claim(ctx, "w", 5, time.Minute); err != nil || len(got) != 0 {
		t.Errorf("a suspended tenant's claim returned %d, %v", len(got), err)
	}
}

// TestReapingEnds verifies that a recording that kills its pods is retried ever more slowly, and fails in the end.
func TestReapingEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		attempts  int
		age       string
		wantState store.RecordingState
		wantDue   bool
	}{
		"once":                 {0, "1 minute", store.StatePending, true},
		"again":                {1, "1 minute", store.StatePending, false},
		"often, but not long":  {40, "1 minute", store.StatePending, false},
		"long, but not often":  {3, "1 day", store.StatePending, false},
		"often and for long":   {11, "121 minutes", store.StateFailed, false},
		"one more than allows": {12, "1 day", store.StateFailed, false},
	} {
		t.Run(name, func(t *testing.T) {
			fixture := newFixture(t)
			id := fixture.enqueue(t, acme, 1)[0]
			fixture.Exec(
				t,
				`UPDATE recordings SET attempts = $1, created_at = now() - $2::interval, lease_owner = 'gone', `+
					`lease_until = now() - interval '1 s'`,
				tc.attempts, tc.age,
			)
			if n, err := fixture.Operator.ReapLeases(t.Context()); n != 1 || err != nil {
				t.Fatalf("reaped %d, %v; want 1", n, err)
			}
			key := store.RecordingKey{Tenant: acme, ID: id}
			rows, err := fixture.Operator.Recordings(t.Context(), []store.RecordingKey{key})
			got := rows[key]
			if err != nil || got.State != tc.wantState || got.LastErrorCode != reason.LeaseExpired ||
				got.Attempts != tc.attempts+1 {
				t.Errorf("%+v, %v; want %s", got, err, tc.wantState)
			}
			if claimed, err := fixture.upload.Claim(t.Context(), "next", 1, time.Minute); err != nil ||
				(len(claimed) == 1) != tc.wantDue {
				t.Errorf("claimed %d at once (%v), want due %v", len(claimed), err, tc.wantDue)
			}
		})
	}
}

// TestClaimLeavesTheLastLease verifies that a claim does not take over an expired lease without attempts left. The
// operator decides whether the recording fails.
func TestClaimLeavesTheLastLease(t *testing.T) {
	fixture := newFixture(t)
	fixture.enqueue(t, acme, 1)
	fixture.Exec(t, `UPDATE recordings SET attempts = 11, lease_owner = 'gone', lease_until = now() - interval '1 s'`)
	if got, err := fixture.upload.Claim(t.Context(), "w", 1, time.Minute); err != nil || len(got) != 0 {
		t.Errorf("claimed %d, %v", len(got), err)
	}
}

func TestHistoryPartitions(t *testing.T) {
	fixture := newFixture(t)
	partitions := func() int {
		return fixture.Number(
			t, `SELECT count(*)::int FROM pg_inherits WHERE inhparent = 'recording_history'::regclass`,
		)
	}
	for range 2 {
		if err := fixture.Operator.EnsureHistoryPartitions(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
	}
	if got := partitions(); got != 5 { // the default one, this month's and three more
		t.Errorf("%d partitions, want 5", got)
	}
	// A month whose rows are in the default partition stays there: moving them would lock the history.
	fixture.Exec(
		t,
		`INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts, finished_by, created_at, finished_at)
		VALUES ('acme/support', 'x', 'c', 'u', 'failed', 1, 'w', now(),
			date_trunc('month', now()) + interval '4 months')`,
	)
	if err := fixture.Operator.EnsureHistoryPartitions(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	if got := partitions(); got != 6 {
		t.Errorf("%d partitions, want 6: all but the month that has rows already", got)
	}
}

func TestViews(t *testing.T) {
	fixture := newFixture(t)
	ctx := t.Context()
	ids := fixture.enqueue(t, acme, 6)
	if err := fixture.Operator.MarkViewed(ctx, []store.RecordingKey{{Tenant: acme, ID: ids[0]}}); err != nil {
		t.Fatal(err)
	}
	if _, err := fixture.upload.Claim(ctx, "w", 6, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := fixture.upload.Fail(ctx, "w", ids[1], "x", "y"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{ids[0], ids[2], ids[3], ids[4]} {
		if err := fixture.upload.Complete(ctx, "w", id, store.Result{
			Bucket: "b",
			Key:    "k",
			SHA256: strings.Repeat("a", 64),
		}); err != nil {
			t.Fatal(err)
		}
	}
	for id, ago := range map[string]string{ids[2]: "11 minutes", ids[3]: "1 minute"} {
		fixture.Exec(t, `UPDATE recording_history SET finished_at = now() - $2::interval WHERE id = $1`, id, ago)
	}
	const since = 10 * time.Minute
	for name, tc := range map[string]struct {
		wanted store.Wanted
		want   []string
	}{
		"all": {store.Wanted{
			Queued:   true,
			Failed:   true,
			Uploaded: 10,
			Since:    since,
			Limit:    10,
		}, []string{ids[5], ids[1], ids[3], ids[4]}},
		"queued first": {store.Wanted{
			Queued:   true,
			Failed:   true,
			Uploaded: 10,
			Since:    since,
			Limit:    3,
		}, []string{ids[5], ids[1], ids[3]}},
		"queued":   {store.Wanted{Queued: true, Limit: 10}, []string{ids[5]}},
		"failed":   {store.Wanted{Failed: true, Limit: 10}, []string{ids[1]}},
		"uploaded": {store.Wanted{Uploaded: 10, Since: since, Limit: 10}, []string{ids[3], ids[4]}},
		"uploaded long ago": {store.Wanted{
			Uploaded: 10,
			Since:    time.Hour,
			Limit:    10,
		}, []string{ids[2], ids[3], ids[4]}},
		"many uploaded": {store.Wanted{
			Queued:   true,
			Uploaded: 1,
			Since:    since,
			Limit:    10,
		}, []string{ids[5], ids[3]}},
		"no room for uploaded": {store.Wanted{Queued: true, Uploaded: -3, Since: since, Limit: 10}, []string{ids[5]}},
		"none":                 {store.Wanted{Limit: 10}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := fixture.Operator.Unviewed(ctx, acme, tc.wanted)
			var got []string
			for _, r := range list {
				got = append(got, r.ID)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
				t.Errorf("unviewed (-want +got), %v:\n%s", err, diff)
			}
		})
	}
}

func TestRowLevelSecurity(t *testing.T) {
	fixture := newFixture(t)
	ctx := t.Context()
	fixture.enqueue(t, acme, 2)
	fixture.enqueue(t, globex, 3)
	if got, err := fixture.upload.Claim(ctx, "w", 10, time.Minute); err != nil || len(got) != 2 {
		t.Fatalf("acme claimed %d, %v; want its own 2", len(got), err)
	}
	for name, tc := range map[string]struct {
		dsn  string
		sqls []string
	}{
		"upload role":           {fixture.uploadDSN, nil},
		"upload role, set":      {fixture.uploadDSN, []string{"SET caly.tenant = 'globex/sales'"}},
		"upload role, as group": {fixture.uploadDSN, []string{"SET ROLE caly_upload"}},
		"data plane, other set": {fixture.DataplaneDSN, []string{"SET caly.tenant = 'acme/support'"}},
		"data plane, unset":     {fixture.DataplaneDSN, nil},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := pgx.Connect(ctx, tc.dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close(context.Background()) }()
			for _, s := range tc.sqls {
				if _, err := conn.Exec(ctx, s); err != nil {
					t.Fatal(err)
				}
			}
			var n int
			if err := conn.QueryRow(
				ctx, `SELECT count(*) FROM recordings WHERE tenant = 'globex/sales'`,
			).Scan(&n); err != nil ||
				n != 0 {
				t.Errorf("%d rows of globex are visible, %v", n, err)
			}
			if _, err := conn.Exec(ctx, `INSERT INTO recordings (tenant, id, call_sid, source_url)
					VALUES ('globex/sales','00000000000000aa','c','u')`); err == nil {
				t.Error("a row of globex could be written")
			}
		})
	}
	conn, err := pgx.Connect(ctx, fixture.uploadDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, s := range []string{"SET ROLE caly_operator", "SET ROLE caly_owner",
		"SELECT caly_ensure_upload_role('globex/sales', 'x')",
		"INSERT INTO upload_roles VALUES (session_user, 'globex/sales')",
		"UPDATE recordings SET tenant = 'globex/sales'"} {
		if _, err := conn.Exec(ctx, s); err == nil {
			t.Errorf("an upload role may %s", s)
		}
	}
}

func TestRolesAreRotatedAndDropped(t *testing.T) {
	fixture := newFixture(t)
	ctx := t.Context()
	old := storetest.UploadDSN(t, fixture.Operator, "acme/rot", "first")
	storetest.UploadDSN(t, fixture.Operator, "acme/rot", "second")
	if conn, err := pgx.Connect(ctx, old); err == nil {
		_ = conn.Close(ctx)
		t.Error("the old password still opens the database")
	}
	if err := fixture.Operator.DropUploadRole(ctx, "acme/rot"); err != nil {
		t.Fatal(err)
	}
	if err := fixture.Operator.DropUploadRole(ctx, "acme/rot"); err != nil {
		t.Errorf("dropping it twice: %v", err)
	}
}

func TestDeleteTenant(t *testing.T) {
	fixture := newFixture(t)
	fixture.enqueue(t, acme, 3)
	fixture.enqueue(t, globex, 1)
	if err := fixture.Operator.DeleteTenant(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	if n := fixture.Number(t, `SELECT (SELECT count(*) FROM calls) + (SELECT count(*) FROM recordings)`); n != 2 {
		t.Errorf("%d rows are left, want globex's 2", n)
	}
}

func TestOutage(t *testing.T) {
	fixture := newFixture(t)
	ctx := t.Context()
	event := newEvent(acme, "c1", "terminal", store.CallCompleted, "")
	fixture.Stop(t)
	_, err := fixture.Dataplane.Ingest(ctx, event)
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("while PostgreSQL is away: %v, want ErrUnavailable", err)
	}
	if err != nil && strings.Contains(err.Error(), "caly-test") {
		t.Errorf("the error carries the password: %v", err)
	}
	fixture.Start(t)
	eventually.Succeeds(t, func(ctx context.Context) error {
		if _, err := fixture.Dataplane.Ingest(ctx, event); err != nil {
			return fmt.Errorf("PostgreSQL is back and ingest still fails: %w", err)
		}
		return nil
	})
}

func TestOpenRefuses(t *testing.T) {
	empty := pgtest.NewEmpty(t)
	newer := pgtest.New(t)
	newer.Exec(t, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)`)
	good := pgtest.New(t)
	for name, tc := range map[string]struct{ dsn, component, want string }{
		"no schema":        {empty.OperatorDSN, "operator", `run "caly migrate up"`},
		"newer schema":     {newer.OperatorDSN, "operator", "run a newer caly"},
		"owner":            {good.OwnerDSN, "dataplane", "row-level security would not bind it"},
		"superuser":        {good.AdminDSN, "upload", "row-level security would not bind it"},
		"operator as root": {good.AdminDSN, "operator", "row-level security would not bind it"},
		"another's role":   {good.DataplaneDSN, "operator", "not a member of caly_operator"},
		"wrong password": {
			strings.Replace(good.OperatorDSN, "caly-test", "wrong-secret", 1),
			"operator",
			"password authentication failed",
		},
		"nobody listening": {"postgres://u:topsecret@127.0.0.1:1/x", "operator", "database unavailable"},
		"not a URL":        {"host=/nonsense port=x topsecret", "operator", "postgres://user:password@host"},
	} {
		t.Run(name, func(t *testing.T) {
			err := openAs(t, tc.component, tc.dsn)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want it to say %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is not one line without secrets: %q", err)
			}
		})
	}
}

func TestMigrateConcurrently(t *testing.T) {
	pg := pgtest.NewEmpty(t)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if err := migrations.Up(t.Context(), pg.OwnerDSN, slog.New(slog.DiscardHandler)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	rows, err := migrations.Status(t.Context(), pg.OwnerDSN)
	if err != nil || len(rows) == 0 || rows[len(rows)-1].AppliedAt.IsZero() ||
		rows[len(rows)-1].Version != migrations.Latest() {
		t.Errorf("status %v, %v", rows, err)
	}
	storetest.Open(t, pg.OperatorDSN, store.OpenOperator)
}
