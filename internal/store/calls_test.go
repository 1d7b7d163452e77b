package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// calls are the ids of calls.
func calls(list []store.KeptCall) (sids []string) {
	for _, c := range list {
		sids = append(sids, c.SID)
	}
	return sids
}

func recordings(list []store.Recording) (ids []string) {
	for _, r := range list {
		ids = append(ids, r.ID)
	}
	return ids
}

// listed is a time of the calls and recordings that insertCall and insertRecording make: the nth is a second older than the one before.
func listed(n int) time.Time { return time.Date(2026, 3, 1, 12, 0, -n, 0, time.UTC) }

func (f *fixture) insertCall(
	t *testing.T, tenant, sid string, at time.Time, state store.CallState, direction, from, to string,
) {
	t.Helper()
	f.Exec(t, `INSERT INTO calls (tenant, call_sid, state, direction, from_number, to_number, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7)`, tenant, sid, state, direction, from, to, at)
}

// insertRecording puts a recording where one of that state lies. It ended, if it did, a minute after it was queued.
func (f *fixture) insertRecording(t *testing.T, tenant, id, sid string, at time.Time, state store.RecordingState) {
	t.Helper()
	switch state {
	case store.StatePending:
		f.Exec(t, `INSERT INTO recordings (tenant, id, call_sid, source_url, created_at)
				VALUES ($1, $2, $3, 'https://x/a.mp3', $4)`, tenant, id, sid, at)
	case store.StateLeased:
		f.Exec(t, `INSERT INTO recordings (tenant, id, call_sid, source_url, created_at, lease_owner, lease_until)
			VALUES ($1, $2, $3, 'https://x/a.mp3', $4, 'pod', now() + interval '1 hour')`, tenant, id, sid, at)
	default:
		f.Exec(t, `INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts, bucket, object_key,
				size, sha256, finished_by, created_at, finished_at)
			VALUES ($1, $2, $3, 'https://x/a.mp3', $5, 1, 'b', $1 || '/' || $2, 7, repeat('0', 64), 'pod', $4,
				$4::timestamptz + interval '1 minute')`, tenant, id, sid, at, state)
	}
}

func recordingID(n int) string { return fmt.Sprintf("%016x", n) }

func TestCalls(t *testing.T) {
	fixture := newFixture(t)
	fixture.insertCall(t, acme, "c0", listed(0), store.CallCompleted, "inbound", "+911", "+912")
	fixture.insertCall(t, acme, "c1", listed(1), store.CallUnknown, "outbound-api", "+911", "+913")
	fixture.insertCall(t, acme, "c2", listed(2), store.CallFailed, "inbound", "+914", "+912")
	fixture.insertCall(t, acme, "c3", listed(2), store.CallCompleted, "", "", "") // as old as c2, and listed before it
	fixture.insertCall(t, globex, "c1", listed(1), store.CallCompleted, "inbound", "+911", "+912")
	state := func(s store.CallState) *store.CallState { return &s }
	one := func(number string) []string { return []string{number} }
	page := func(p store.Page) store.CallFilter { return store.CallFilter{Page: p} }
	for name, tc := range map[string]struct {
		filter   store.CallFilter
		want     []string
		wantMore bool
	}{
		"all":           {page(store.Page{}), []string{"c0", "c1", "c3", "c2"}, false},
		"first page":    {page(store.Page{Limit: 1}), []string{"c0"}, true},
		"a page of all": {page(store.Page{Limit: 4}), []string{"c0", "c1", "c3", "c2"}, false},
		"between equals": {page(store.Page{After: store.Position{
			At: listed(2),
			ID: "c3",
		}}), []string{"c2"}, false},
		"behind the last": {page(store.Page{After: store.Position{At: listed(2), ID: "c2"}}), nil, false},
		"behind one that is gone": {page(store.Page{
			After: store.Position{At: listed(1), ID: "c0"},
			Limit: 1,
		}), []string{"c3"}, true},
		"since":                  {page(store.Page{Since: listed(1)}), []string{"c0", "c1"}, false},
		"until":                  {page(store.Page{Until: listed(1)}), []string{"c3", "c2"}, false},
		"an empty span":          {page(store.Page{Since: listed(1), Until: listed(1)}), nil, false},
		"completed":              {store.CallFilter{State: state(store.CallCompleted)}, []string{"c0", "c3"}, false},
		"of unknown state":       {store.CallFilter{State: state(store.CallUnknown)}, []string{"c1"}, false},
		"inbound":                {store.CallFilter{Direction: "inbound"}, []string{"c0", "c2"}, false},
		"from":                   {store.CallFilter{From: []string{"911", "+911"}}, []string{"c0", "c1"}, false},
		"from and to":            {store.CallFilter{From: one("+911"), To: one("+912")}, []string{"c0"}, false},
		"from, part of a number": {store.CallFilter{From: []string{"+91"}}, nil, false},
		"everything at once": {store.CallFilter{
			Page: store.Page{
				Since: listed(9),
				Until: listed(-9),
				After: store.Position{At: listed(1), ID: "c1"},
				Limit: 2,
			},
			State:     state(store.CallFailed),
			Direction: "inbound",
			From:      one("+914"),
			To:        one("+912"),
		},
			[]string{"c2"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			list, more, err := fixture.Dataplane.Calls(t.Context(), acme, tc.filter)
			if diff := cmp.Diff(tc.want, calls(list)); err != nil || diff != "" || more != tc.wantMore {
				t.Errorf("more %v, want %v; %v; calls (-want +got):\n%s", more, tc.wantMore, err, diff)
			}
		})
	}
}

func TestPagesAreBounded(t *testing.T) {
	fixture := newFixture(t)
	fixture.Exec(t, `INSERT INTO calls (tenant, call_sid) SELECT $1, 'c' || n FROM generate_series(1, 205) n`, acme)
	for name, limit := range map[string]int{"no limit": 0, "less than none": -1, "more than may be": 100000} {
		if list, more, err := fixture.Dataplane.Calls(
			t.Context(), acme, store.CallFilter{Page: store.Page{Limit: limit}},
		); err != nil || len(list) != store.MaxPage ||
			!more {
			t.Errorf("%s: %d calls, more %v, %v", name, len(list), more, err)
		}
	}
}

func TestListRecordings(t *testing.T) {
	fixture := newFixture(t)
	states := []store.RecordingState{
		store.StatePending,
		store.StateUploaded,
		store.StateLeased,
		store.StateFailed,
		store.StateUploaded,
		store.StatePending,
	}
	for n, state := range states {
		fixture.insertRecording(t, acme, recordingID(n), fmt.Sprintf("c%d", n/2), listed(n), state)
	}
	fixture.insertRecording(t, globex, recordingID(1), "c0", listed(1), store.StateUploaded)
	ids := func(n ...int) (list []string) {
		for _, n := range n {
			list = append(list, recordingID(n))
		}
		return list
	}
	for name, tc := range map[string]struct {
		filter   store.RecordingFilter
		want     []string
		wantMore bool
	}{
		"queue and history as one": {store.RecordingFilter{}, ids(0, 1, 2, 3, 4, 5), false},
		"a page":                   {store.RecordingFilter{Page: store.Page{Limit: 2}}, ids(0, 1), true},
		"the next page": {store.RecordingFilter{Page: store.Page{
			Limit: 2,
			After: store.Position{At: listed(1), ID: recordingID(1)},
		}},
			ids(2, 3), true},
		"pending":  {store.RecordingFilter{State: store.StatePending}, ids(0, 5), false},
		"leased":   {store.RecordingFilter{State: store.StateLeased}, ids(2), false},
		"uploaded": {store.RecordingFilter{State: store.StateUploaded}, ids(1, 4), false},
		"uploaded, one": {store.RecordingFilter{
			State: store.StateUploaded,
			Page:  store.Page{Limit: 1},
		}, ids(1), true},
		"failed":    {store.RecordingFilter{State: store.StateFailed}, ids(3), false},
		"of a call": {store.RecordingFilter{CallSID: "c1"}, ids(2, 3), false},
		"since":     {store.RecordingFilter{Page: store.Page{Since: listed(2)}}, ids(0, 1, 2), false},
		"since, pending": {store.RecordingFilter{
			State: store.StatePending,
			Page:  store.Page{Since: listed(2)},
		}, ids(0), false},
		"until": {store.RecordingFilter{Page: store.Page{Until: listed(3)}}, ids(4, 5), false},
		"of a call, and more": {store.RecordingFilter{
			CallSID: "c1",
			State:   store.StateFailed,
			Page:    store.Page{Since: listed(9), Until: listed(0)},
		}, ids(3), false},
	} {
		t.Run(name, func(t *testing.T) {
			list, more, err := fixture.Dataplane.ListRecordings(t.Context(), acme, tc.filter)
			if diff := cmp.Diff(tc.want, recordings(list)); err != nil || diff != "" || more != tc.wantMore {
				t.Errorf("more %v, want %v; %v; recordings (-want +got):\n%s", more, tc.wantMore, err, diff)
			}
		})
	}
	// Nobody writes it, but a repaired database may have it: two rows of one recording are shown as one.
	fixture.insertRecording(t, acme, recordingID(3), "c1", listed(3), store.StatePending)
	if list, _, err := fixture.Dataplane.ListRecordings(
		t.Context(), acme, store.RecordingFilter{CallSID: "c1"},
	); err != nil ||
		len(list) != 2 {
		t.Errorf("%v, %v; want each recording once", recordings(list), err)
	}
}

// TestWalkSeesAllOnce verifies that a walk over pages of any size shows each row of its beginning exactly once.
// Meanwhile rows come, and move between the queue and the history. No row of another tenant is shown.
func TestWalkSeesAllOnce(t *testing.T) {
	fixture := newFixture(t)
	conn, err := pgx.Connect(t.Context(), fixture.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	run := func(t *rapid.T, sql string) {
		if _, err := conn.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		sql := `DELETE FROM calls; DELETE FROM recordings; DELETE FROM recording_history;`
		n := rapid.IntRange(0, 25).Draw(rt, "rows")
		for i := range n { // few times, so that many rows are equally old
			at := listed(rapid.IntRange(0, 4).Draw(rt, "age")).Format(time.RFC3339)
			sql += fmt.Sprintf(
				`INSERT INTO calls (tenant, call_sid, created_at) VALUES ('%s', 'c%d', '%s'), ('%s', 'c%d', '%s');
				INSERT INTO recordings (tenant, id, call_sid, source_url, created_at)
					VALUES ('%s', '%s', 'c%d', 'https://x', '%s');`,
				acme, i, at, globex, i, at, acme, recordingID(i), i, at,
			)
		}
		run(rt, sql)
		seenCalls := map[string]int{}
		seenRecordings := map[string]int{}
		var callPage, recordingPage store.Page
		callPage.Limit, recordingPage.Limit = rapid.IntRange(1, 7).Draw(rt, "page"), rapid.IntRange(
			1, 7,
		).Draw(rt, "page")
		for moreCalls, moreRecordings, step := true, true, 0; moreCalls || moreRecordings; step++ {
			var err error
			if moreCalls {
				moreCalls, err = fixture.walkCalls(&callPage, seenCalls)
			}
			if err == nil && moreRecordings {
				moreRecordings, err = fixture.walkRecordings(&recordingPage, seenRecordings)
			}
			if err != nil || step > 100 {
				rt.Fatalf("step %d: %v", step, err)
			}
			run(rt, rapid.SampledFrom([]string{
				fmt.Sprintf(`INSERT INTO calls (tenant, call_sid) VALUES ('%s', 'new%d')`, acme, step),
				fmt.Sprintf(
					`INSERT INTO recordings (tenant, id, call_sid, source_url) VALUES ('%s', '%s', 'x', 'https://x')`,
					acme,
					recordingID(1000+step),
				),
				`WITH gone AS (DELETE FROM recordings RETURNING *) INSERT INTO recording_history
					(tenant, id, call_sid, source_url, state, attempts, finished_by,
					created_at) SELECT tenant, id, call_sid, source_url, 'failed', 1, 'pod', created_at FROM gone`,
				`WITH gone AS (DELETE FROM recording_history RETURNING *) INSERT INTO recordings
					(tenant, id, call_sid, source_url, created_at)
					SELECT tenant, id, call_sid, source_url, created_at FROM gone`,
			}).Draw(rt, "meanwhile"))
		}
		for i := range n {
			if c, r := seenCalls[fmt.Sprintf("c%d", i)], seenRecordings[recordingID(i)]; c != 1 || r != 1 {
				rt.Fatalf("call %d was seen %d times, its recording %d times", i, c, r)
			}
		}
	})
}

func (f *fixture) walkCalls(p *store.Page, seen map[string]int) (bool, error) {
	list, more, err := f.Dataplane.Calls(context.Background(), acme, store.CallFilter{Page: *p})
	for _, c := range list {
		seen[c.SID]++
		p.After = store.Position{At: c.CreatedAt, ID: c.SID}
	}
	return more, err
}

func (f *fixture) walkRecordings(p *store.Page, seen map[string]int) (bool, error) {
	list, more, err := f.Dataplane.ListRecordings(context.Background(), acme, store.RecordingFilter{Page: *p})
	for _, r := range list {
		seen[r.ID]++
		p.After = store.Position{At: r.CreatedAt, ID: r.ID}
	}
	return more, err
}

func TestCallBySID(t *testing.T) {
	fixture := newFixture(t)
	event := newEvent(acme, "c1", "terminal", store.CallCompleted, "https://x/a.mp3")
	event.Recordings = append(event.Recordings, store.NewRecording{ID: recordingID(7), SourceURL: "https://x/b.mp3"})
	event.Stream = &store.Stream{
		SID:          "s1",
		Status:       "completed",
		Seconds:      9,
		RecordingURL: "https://x/secret?signature=1",
	}
	if _, err := fixture.Dataplane.Ingest(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	other := newEvent(globex, "c1", "terminal", store.CallCompleted, "https://x/a.mp3")
	other.Stream = &store.Stream{SID: "s2"}
	if _, err := fixture.Dataplane.Ingest(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	claimed, err := fixture.upload.Claim(t.Context(), "pod", 2, time.Minute)
	if err != nil || len(claimed) != 2 {
		t.Fatal(claimed, err)
	}
	if err := fixture.upload.Complete(t.Context(), "pod", recordingID(7), store.Result{
		Bucket: "b",
		Key:    "k",
		SHA256: strings.Repeat("0", 64),
	}); err != nil {
		t.Fatal(err)
	}
	got, err := fixture.Dataplane.CallBySID(t.Context(), acme, "c1")
	if err != nil || got.SID != "c1" || got.State != store.CallCompleted {
		t.Fatalf("%+v, %v", got, err)
	}
	states := map[string]store.RecordingState{}
	for _, r := range got.Recordings {
		states[r.ID] = r.State
	}
	if diff := cmp.Diff(map[string]store.RecordingState{
		recordingID(7):         store.StateUploaded,
		event.Recordings[0].ID: store.StateLeased,
	}, states); diff != "" {
		t.Errorf("recordings (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]store.Stream{{SID: "s1", Status: "completed", Seconds: 9}}, got.Streams); diff != "" {
		t.Errorf("streams (-want +got):\n%s", diff)
	}
	if recording, err := fixture.Dataplane.RecordingByID(
		t.Context(), acme, recordingID(7),
	); err != nil || recording.State != store.StateUploaded ||
		recording.Key != "k" {
		t.Errorf("%+v, %v", recording, err)
	}
	if _, err := fixture.Dataplane.CallBySID(t.Context(), acme, "c2"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a call that is not there: %v", err)
	}
	if _, err := fixture.Dataplane.RecordingByID(t.Context(), globex, recordingID(7)); !errors.Is(
		err, store.ErrNotFound,
	) {
		t.Errorf("another's recording: %v", err)
	}
}

func TestListAudit(t *testing.T) {
	fixture := newFixture(t)
	ana := store.NewID()
	bo := store.NewID()
	rows := []store.Audit{
		{Action: store.ActionLogin, Outcome: store.OutcomeFailure, Subject: "ana@acme.example", Reason: "password"},
		{
			Origin: store.Origin{
				ActorID:   ana,
				SessionID: store.NewID(),
				Address:   netip.MustParseAddr("203.0.113.7"),
				Device:    "curl",
				RequestID: "r1",
			},
			Action:  store.ActionLogin,
			Outcome: store.OutcomeSuccess,
			Subject: "ana@acme.example",
		},
		{
			Origin:  store.Origin{ActorID: bo},
			Action:  store.ActionLogout,
			Outcome: store.OutcomeSuccess,
			Subject: "bo@acme.example",
		},
	}
	for _, a := range rows {
		if err := fixture.Dataplane.WriteAudit(t.Context(), acme, a); err != nil {
			t.Fatal(err)
		}
	}
	if err := fixture.Dataplane.WriteAudit(t.Context(), globex, rows[1]); err != nil {
		t.Fatal(err)
	}
	fixture.Exec(t, `UPDATE audit_log SET at = '2026-03-01T12:00:00Z'::timestamptz + id * interval '1 second'`)
	list := func(filter store.AuditFilter) (got []store.Audit, last store.Position, more bool) {
		t.Helper()
		found, more, err := fixture.Dataplane.ListAudit(t.Context(), acme, filter)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range found {
			got, last = append(got, r.Audit), r.Position()
		}
		return got, last, more
	}
	newest := slices.Clone(rows)
	slices.Reverse(newest)
	first := time.Date(2026, 3, 1, 12, 0, 1, 0, time.UTC)
	for name, tc := range map[string]struct {
		filter store.AuditFilter
		want   []store.Audit
	}{
		"all":     {store.AuditFilter{}, newest},
		"action":  {store.AuditFilter{Action: store.ActionLogin}, newest[1:]},
		"outcome": {store.AuditFilter{Outcome: store.OutcomeFailure}, newest[2:]},
		"actor":   {store.AuditFilter{ActorID: ana}, newest[1:2]},
		"since":   {store.AuditFilter{Page: store.Page{Since: first.Add(time.Second)}}, newest[:2]},
		"until":   {store.AuditFilter{Page: store.Page{Until: first.Add(time.Second)}}, newest[2:]},
		"of none": {store.AuditFilter{ActorID: store.NewID()}, nil},
		"together": {store.AuditFilter{
			Action:  store.ActionLogin,
			Outcome: store.OutcomeSuccess,
			ActorID: ana,
		}, newest[1:2]},
	} {
		got, _, more := list(tc.filter)
		if diff := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" ||
			more {
			t.Errorf("%s: more %v, rows (-want +got):\n%s", name, more, diff)
		}
	}
	page, last, more := list(store.AuditFilter{Page: store.Page{Limit: 2}})
	rest, _, none := list(store.AuditFilter{Page: store.Page{Limit: 2, After: last}})
	if len(page) != 2 || !more || len(rest) != 1 || none || rest[0].Action != store.ActionLogin {
		t.Errorf("pages %v and %v, more %v and %v", page, rest, more, none)
	}
}

func TestUsage(t *testing.T) {
	fixture := newFixture(t)
	month := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	day := time.Date(2026, 3, 9, 0, 0, 0, 0, time.UTC)
	for i, at := range []time.Time{month.Add(-time.Second), month, day.Add(-time.Second), day, day.Add(time.Hour)} {
		fixture.insertCall(t, acme, fmt.Sprintf("c%d", i), at, store.CallCompleted, "", "", "")
		fixture.insertRecording(
			t, acme, recordingID(i), "c", at,
			[]store.RecordingState{store.StateUploaded, store.StateUploaded, store.StatePending,
				store.StateLeased, store.StateFailed}[i],
		)
		fixture.insertCall(t, globex, fmt.Sprintf("c%d", i), at, store.CallCompleted, "", "", "")
		fixture.insertRecording(t, globex, recordingID(i), "c", at, store.StateUploaded)
	}
	got, err := fixture.Dataplane.Usage(t.Context(), acme, day, month)
	want := store.Usage{
		CallsToday:          2,
		CallsThisMonth:      4,
		RecordingsToday:     2,
		RecordingsThisMonth: 4,
		UploadedThisMonth:   2,
		UploadedBytes:       14,
		Waiting:             1,
		Uploading:           1,
	}
	if diff := cmp.Diff(want, got); err != nil ||
		diff != "" { // the first was queued the month before, and uploaded in this one
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	fixture.Exec(t, `INSERT INTO recordings (tenant, id, call_sid, source_url)
			SELECT $1, lpad(to_hex(n), 16, '0'), 'c', 'https://x' FROM generate_series(5000, 7000) n`, acme)
	if got, err := fixture.Dataplane.Usage(t.Context(), acme, day, month); err != nil ||
		got.Waiting != store.MaxWaiting {
		t.Errorf("%d waiting, %v; want them counted up to %d", got.Waiting, err, store.MaxWaiting)
	}
	if got, err := fixture.Dataplane.Usage(t.Context(), "nobody/here", day, month); err != nil ||
		got != (store.Usage{}) {
		t.Errorf("of nobody: %+v, %v", got, err)
	}
}

// TestAPageReadsAPage verifies that a page of a large tenant costs a page. Row-level security must not keep the planner
// from the indexes.
func TestAPageReadsAPage(t *testing.T) {
	fixture := newFixture(t)
	for _, sql := range []string{
		`INSERT INTO calls (tenant, call_sid, created_at) SELECT $1, 'c' || n, now() - n * interval '1 second'
			FROM generate_series(1, 20000) n`,
		`INSERT INTO recordings (tenant, id, call_sid, source_url, created_at)
			SELECT $1, lpad(to_hex(n), 16, '0'), 'c' || n, 'https://x', now() - n * interval '1 second'
			FROM generate_series(1, 20000) n`,
		`INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts, finished_by, created_at)
			SELECT $1, lpad(to_hex(n), 16, '0'), 'c' || n,
			'https://x', 'failed', 1, 'pod', now() - n * interval '1 second' FROM generate_series(20001, 40000) n`,
		`INSERT INTO audit_log (tenant, action, outcome, at)
			SELECT $1, 'login', 'success', now() - n * interval '1 second' FROM generate_series(1, 20000) n`,
		`INSERT INTO stream_sessions (tenant, id, call_sid, pod, started_at, ended_at, end_reason)
			SELECT $1, gen_random_uuid(), 'c' || n % 100, 'pod',
			now() - n * interval '1 second', now(), 'call_ended' FROM generate_series(1, 20000) n`,
	} {
		fixture.Exec(t, sql, acme)
	}
	fixture.Exec(t, `ANALYZE`)
	const read = `SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::int FROM pg_stat_user_tables
		WHERE relname ~ '^(calls|recordings|recording_history.*|audit_log|stream_sessions)$'`
	db, err := store.OpenDataplane(t.Context(), fixture.DataplaneDSN, store.Options{MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	before := fixture.Number(t, read)
	page := store.Page{Limit: 50}
	audit := store.Page{Limit: 50}
	streams := store.Page{Limit: 50}
	for range 8 { // from the sixth on a prepared statement may have a plan for any argument
		c, _, err1 := db.Calls(t.Context(), acme, store.CallFilter{Page: page})
		r, _, err2 := db.ListRecordings(t.Context(), acme, store.RecordingFilter{Page: page})
		a, _, err3 := db.ListAudit(t.Context(), acme, store.AuditFilter{Page: audit})
		s, _, err4 := db.StreamSessions(t.Context(), acme, store.StreamFilter{Page: streams})
		ofCall, _, err5 := db.StreamSessions(t.Context(), acme, store.StreamFilter{
			CallSID: "c7",
			Page:    store.Page{Limit: 50},
		})
		if err := errors.Join(err1, err2, err3, err4, err5); err != nil ||
			len(c)+len(r)+len(a)+len(s)+len(ofCall) != 250 {
			t.Fatalf(
				"%d calls, %d recordings, %d audit rows, %d and %d streams, %v",
				len(c),
				len(r),
				len(a),
				len(s),
				len(ofCall),
				err,
			)
		}
		streams.After = store.Position{At: s[49].StartedAt, ID: s[49].ID}
		page.After, audit.After = store.Position{At: c[49].CreatedAt, ID: c[49].SID}, a[49].Position()
	}
	db.Close() // tells the server's statistics
	eventually.Within(10*time.Second).Succeeds(t, func(context.Context) error {
		if n := fixture.Number(t, read) - before; n == 0 {
			return errors.New("not told yet")
		} else if n > 8*6*55 {
			t.Errorf("40 pages of 50 rows read %d rows", n)
		}
		return nil
	})
}
