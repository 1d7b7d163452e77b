package store_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// admit lets a stream in, and returns its name.
func (f *fixture) admit(t *testing.T, tenant, pod string) store.StreamRef {
	t.Helper()
	ref := store.StreamRef{Tenant: tenant, ID: store.NewID()}
	if err := f.Dataplane.AdmitStream(t.Context(), tenant, store.NewStream{
		ID:      ref.ID,
		CallSID: "c",
		Pod:     pod,
		Agent:   "bot.example",
	}, 1000); err != nil {
		t.Fatal(err)
	}
	return ref
}

// TestStreamLimitIsExact opens 300 at once over three pools, and as many of another tenant at the same time. Each
// tenant gets exactly its limit.
func TestStreamLimitIsExact(t *testing.T) {
	fixture := newFixture(t)
	pools := []*store.Dataplane{
		fixture.Dataplane,
		storetest.Open(t, fixture.DataplaneDSN, store.OpenDataplane),
		storetest.Open(t, fixture.DataplaneDSN, store.OpenDataplane),
	}
	const limit = 50
	var admitted [2]atomic.Int32
	var group sync.WaitGroup
	for i := range 300 {
		for j, tenant := range []string{acme, globex} {
			group.Go(func() {
				err := pools[i%3].AdmitStream(t.Context(), tenant, store.NewStream{
					ID:  store.NewID(),
					Pod: "pod",
				}, limit)
				if err == nil {
					admitted[j].Add(1)
				} else if !errors.Is(err, store.ErrStreamLimit) {
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
	for j, tenant := range []string{acme, globex} {
		rows := fixture.Number(
			t, `SELECT count(*)::int FROM stream_sessions WHERE tenant = $1 AND ended_at IS NULL`, tenant,
		)
		if n := admitted[j].Load(); n != limit || rows != limit {
			t.Errorf("%s: %d were let in and have %d rows, want %d", tenant, n, rows, limit)
		}
	}
	// An end makes room for one, and for one alone.
	fixture.Exec(t, `UPDATE stream_sessions SET ended_at = now(), end_reason = 'call_ended'
			WHERE (tenant, id) IN (SELECT tenant, id FROM stream_sessions WHERE tenant = $1 LIMIT 1)`, acme)
	for i, want := range []error{nil, store.ErrStreamLimit} {
		if err := fixture.Dataplane.AdmitStream(t.Context(), acme, store.NewStream{
			ID:  store.NewID(),
			Pod: "pod",
		}, limit); !errors.Is(err, want) {
			t.Errorf("try %d after an end: %v, want %v", i, err, want)
		}
	}
}

// TestStreamTokenOnce verifies that one of 60 concurrent streams with one token is accepted. A used token stays used,
// and a rejected stream uses none.
func TestStreamTokenOnce(t *testing.T) {
	fixture := newFixture(t)
	try := func(tenant, token string, limit int) error {
		return fixture.Dataplane.AdmitStream(t.Context(), tenant, store.NewStream{
			ID:      store.NewID(),
			Pod:     "pod",
			TokenID: token,
		}, limit)
	}
	if err := try(acme, "one", 0); !errors.Is(err, store.ErrStreamLimit) {
		t.Fatalf("with no room: %v", err)
	}
	var admitted atomic.Int32
	var group sync.WaitGroup
	for range 60 {
		group.Go(func() {
			err := try(acme, "one", 1000)
			if err == nil {
				admitted.Add(1)
			} else if !errors.Is(err, store.ErrStreamTokenUsed) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := admitted.Load(); n != 1 {
		t.Errorf("%d were let in by one token", n)
	}
	fixture.Exec(t, `UPDATE stream_sessions SET ended_at = now(), end_reason = 'call_ended'`)
	if err := try(acme, "one", 1000); !errors.Is(err, store.ErrStreamTokenUsed) {
		t.Errorf("after its stream has ended: %v", err)
	}
	if err := errors.Join(
		try(globex, "one", 1000), try(acme, "", 1000), try(acme, "", 1000), try(acme, "two", 1000),
	); err != nil {
		t.Errorf("another tenant's, another token, and none: %v", err)
	}
}

// TestStreamAdmissionFaults checks that a refused admission returns its error and leaves no row.
func TestStreamAdmissionFaults(t *testing.T) {
	fixture := newFixture(t)
	good := store.NewStream{ID: store.NewID(), Pod: "pod"}
	for name, tc := range map[string]struct {
		tenant string
		change func(*store.NewStream)
	}{
		"two tenants":  {acme + "," + globex, func(*store.NewStream) {}},
		"no id":        {acme, func(n *store.NewStream) { n.ID = "x" }},
		"no pod":       {acme, func(n *store.NewStream) { n.Pod = "" }},
		"a long call":  {acme, func(n *store.NewStream) { n.CallSID = strings.Repeat("x", 129) }},
		"a long agent": {acme, func(n *store.NewStream) { n.Agent = strings.Repeat("x", 301) }},
		"a long token": {acme, func(n *store.NewStream) { n.TokenID = strings.Repeat("x", 65) }},
	} {
		t.Run(name, func(t *testing.T) {
			newStream := good
			tc.change(&newStream)
			if err := fixture.Dataplane.AdmitStream(t.Context(), tc.tenant, newStream, 10); err == nil ||
				errors.Is(err, store.ErrStreamTokenUsed) {
				t.Errorf("it is let in: %v", err)
			}
		})
	}
	if n := fixture.Number(t, `SELECT count(*)::int FROM stream_sessions`); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	good.Address = netip.MustParseAddr("fe80::1%eth0") // PostgreSQL knows no zones
	if err := fixture.Dataplane.AdmitStream(t.Context(), acme, good, 10); err != nil {
		t.Error(err)
	}
}

// TestStreamHeartbeat verifies that the answer names the live streams and those to close. Details that Exotel sent are
// stored.
func TestStreamHeartbeat(t *testing.T) {
	fixture := newFixture(t)
	streamRef := fixture.admit(t, acme, "pod")
	b := fixture.admit(t, globex, "pod")
	ended := fixture.admit(t, acme, "pod")
	closing := fixture.admit(t, acme, "pod")
	gone := store.StreamRef{Tenant: globex, ID: streamRef.ID} // the id of another tenant names no row of this one
	fixture.Exec(t, `UPDATE stream_sessions SET last_seen_at = now() - interval '1 minute'`)
	fixture.Exec(t, `UPDATE stream_sessions SET ended_at = now(), end_reason = 'orphaned' WHERE id = $1`, ended.ID)
	if streamSession, err := fixture.Operator.CloseStream(t.Context(), acme, closing.ID, store.Origin{}); err != nil ||
		streamSession.StreamRef != closing {
		t.Fatal(streamSession, err)
	}
	counts := store.StreamCounts{Frames: 1, Bytes: 2, Dropped: 3}
	beats := []store.StreamBeat{{
		StreamRef: streamRef,
		CallSID:   "told",
		StreamSID: "s1",
		ToAgent:   counts,
		ToExotel:  store.StreamCounts{Frames: 4, Bytes: 5, Dropped: 6},
	},
		{StreamRef: b}, {StreamRef: ended}, {StreamRef: closing}, {StreamRef: gone}}
	for range 2 { // a heartbeat that has nothing to tell takes nothing back
		alive, err := fixture.Dataplane.HeartbeatStreams(t.Context(), beats)
		if diff := cmp.Diff(map[store.StreamRef]bool{
			streamRef: false,
			b:         false,
			closing:   true,
		}, alive); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		beats[0].CallSID = ""
		beats[0].StreamSID = ""
	}
	if n := fixture.Number(
		t,
		`SELECT count(*)::int FROM stream_sessions WHERE last_seen_at > now() - interval '10 s' AND ended_at IS NULL`,
	); n != 3 {
		t.Errorf("%d were seen", n)
	}
	if n := fixture.Number(
		t, `SELECT count(*)::int FROM stream_sessions WHERE call_sid = 'told' AND stream_sid = 's1'`,
	); n != 1 {
		t.Errorf("what Exotel told is in %d rows", n)
	}
	if n := fixture.Number(t, `SELECT count(*)::int FROM stream_sessions WHERE id = $1 AND
		(frames_to_agent, bytes_to_agent, dropped_to_agent, frames_to_exotel, bytes_to_exotel, dropped_to_exotel) =
			(1, 2, 3, 4, 5, 6)`, streamRef.ID); n != 1 {
		t.Error("what the stream has counted is not in its row")
	}
	list, err := fixture.Dataplane.StreamsToClose(t.Context(), []string{acme, globex}, "pod")
	if diff := cmp.Diff([]store.StreamRef{closing}, list); diff != "" || err != nil {
		t.Errorf("%v to close (-want +got):\n%s", err, diff)
	}
	for tenant, pod := range map[string]string{acme: "another", globex: "pod"} {
		if list, err := fixture.Dataplane.StreamsToClose(t.Context(), []string{tenant}, pod); len(list) > 0 ||
			err != nil {
			t.Errorf("%s of %s has to close %v, %v", pod, tenant, list, err)
		}
	}
}

// TestStreamEnd checks that the first end counts, unless it is an orphan's: the pod knows more.
func TestStreamEnd(t *testing.T) {
	fixture := newFixture(t)
	end := func(ref store.StreamRef, reason string) store.StreamEnd {
		return store.StreamEnd{
			StreamRef:   ref,
			Reason:      reason,
			StreamSID:   "s",
			Reconnected: true,
			At:          time.Now().Add(time.Hour), // a clock that is wrong
			ToAgent:     store.StreamCounts{Frames: 1, Bytes: 2, Dropped: 3},
			ToExotel:    store.StreamCounts{Frames: 4, Bytes: 5, Dropped: 6},
		}
	}
	for name, tc := range map[string]struct {
		before, reason, want string
		wantN                int64
	}{
		"a live one":                  {"", "call_ended", "call_ended", 1},
		"an orphan":                   {reason.StreamOrphaned, "slow", "slow", 1},
		"an orphan as one again":      {reason.StreamOrphaned, reason.StreamOrphaned, reason.StreamOrphaned, 1},
		"one that ended before":       {"drained", "call_ended", "drained", 0},
		"one that is not an orphan's": {"drained", reason.StreamOrphaned, "drained", 0},
	} {
		t.Run(name, func(t *testing.T) {
			ref := fixture.admit(t, acme, "pod")
			other := fixture.admit(t, globex, "pod")
			if tc.before != "" {
				fixture.Exec(
					t, `UPDATE stream_sessions SET ended_at = now(), end_reason = $2 WHERE id = $1`, ref.ID, tc.before,
				)
			}
			n, err := fixture.Dataplane.EndStreams(
				t.Context(),
				[]store.StreamEnd{end(ref, tc.reason), end(other, "call_ended"), end(store.StreamRef{
					Tenant: acme,
					ID:     other.ID,
				}, "x")},
			)
			if n != tc.wantN+1 || err != nil {
				t.Errorf("%d ended, %v, want %d", n, err, tc.wantN+1)
			}
			if n := fixture.Number(t, `SELECT count(*)::int FROM stream_sessions WHERE id = $1 AND end_reason = $2
					AND ended_at BETWEEN started_at AND now()`, ref.ID, tc.want); n != 1 {
				t.Error("the row has another end")
			}
			if n := fixture.Number(
				t,
				`SELECT count(*)::int FROM stream_sessions WHERE id = $1 AND stream_sid = 's' AND call_sid = 'c'
					AND reconnected AND
				(frames_to_agent, bytes_to_agent, dropped_to_agent, frames_to_exotel, bytes_to_exotel,
					dropped_to_exotel) = (1, 2, 3, 4, 5, 6)`,
				other.ID,
			); n != 1 {
				t.Error("what it counted is not in the row")
			}
		})
	}
	if n, err := fixture.Dataplane.EndStreams(t.Context(), nil); n != 0 || err != nil {
		t.Errorf("none: %d, %v", n, err)
	}
}

// TestReapStreams reaps streams without heartbeats, of the given tenants only, a bounded number at a time, and one pod
// at a time.
func TestReapStreams(t *testing.T) {
	fixture := newFixture(t)
	for range 3 {
		fixture.admit(t, acme, "gone")
	}
	fixture.admit(t, globex, "gone")
	fixture.Exec(t, `UPDATE stream_sessions SET last_seen_at = now() - interval '46 s'`)
	fixture.admit(t, acme, "here")
	both := []string{acme, globex}
	for i, tc := range []struct {
		tenants []string
		limit   int
		want    int
	}{
		{nil, 10, 0},
		{[]string{acme}, 0, 0},
		{[]string{acme}, 2, 2},
		{[]string{acme}, 2, 1},
		{both, 10, 1},
		{both, 10, 0},
	} {
		n, ran, err := fixture.Dataplane.ReapStreams(t.Context(), tc.tenants, 45*time.Second, tc.limit)
		if n != tc.want || !ran || err != nil {
			t.Errorf("step %d: %d, %v, %v, want %d", i, n, ran, err, tc.want)
		}
	}
	if n := fixture.Number(
		t, `SELECT count(*)::int FROM stream_sessions WHERE end_reason = 'orphaned' AND pod = 'gone'`,
	); n != 4 {
		t.Errorf("%d were ended", n)
	}
	release := fixture.holdReapLock(t)
	if n, ran, err := fixture.Dataplane.ReapStreams(t.Context(), both, 0, 10); n != 0 || ran || err != nil {
		t.Errorf("while another pod is at it: %d, %v, %v", n, ran, err)
	}
	release()
}

// holdReapLock is another pod at work.
func (f *fixture) holdReapLock(t *testing.T) (release func()) {
	t.Helper()
	conn := connect(t, f.AdminDSN)
	if _, err := conn.Exec(
		t.Context(), `SELECT pg_advisory_lock(hashtextextended('caly.streams.reap', 0))`,
	); err != nil {
		t.Fatal(err)
	}
	return func() { _ = conn.Close(context.Background()) }
}

// TestSweepStreams verifies that a sweep deletes old ended streams and ends streams without a heartbeat.
func TestSweepStreams(t *testing.T) {
	fixture := newFixture(t)
	for _, age := range []string{"31 days", "29 days"} {
		ref := fixture.admit(t, acme, "pod")
		fixture.Exec(
			t,
			`UPDATE stream_sessions
				SET started_at = now() - $2::interval, ended_at = now() - $2::interval, end_reason = 'x' WHERE id = $1`,
			ref.ID, age,
		)
	}
	forgotten := fixture.admit(t, acme, "pod")
	fixture.Exec(
		t, `UPDATE stream_sessions SET last_seen_at = now() - interval '61 minutes' WHERE id = $1`, forgotten.ID,
	)
	fixture.admit(t, acme, "pod")
	if n, err := fixture.Operator.SweepStreams(t.Context(), 30*24*time.Hour, 100); n != 1 || err != nil {
		t.Errorf("%d were deleted, %v", n, err)
	}
	if live, all := fixture.Number(
		t, `SELECT count(*)::int FROM stream_sessions WHERE ended_at IS NULL`,
	), fixture.Number(t, `SELECT count(*)::int FROM stream_sessions`); live != 1 ||
		all != 3 {
		t.Errorf("%d live of %d", live, all)
	}
	if _, err := store.AsOperator(fixture.Dataplane).SweepStreams(t.Context(), 0, 100); err == nil {
		t.Error("a data-plane pod may delete")
	}
}

// TestLiveStreams is what people see and ask for.
func TestLiveStreams(t *testing.T) {
	fixture := newFixture(t)
	first := fixture.admit(t, acme, "a")
	second := fixture.admit(t, acme, "b")
	theirs := fixture.admit(t, globex, "a")
	refs := func(tenant string, limit int) (out []store.StreamRef) {
		list, err := fixture.Operator.LiveStreams(t.Context(), tenant, limit)
		if err != nil {
			t.Error(err)
		}
		for _, s := range list {
			out = append(out, s.StreamRef)
		}
		return out
	}
	for name, tc := range map[string]struct {
		tenant string
		limit  int
		want   []store.StreamRef
	}{
		"of all":        {"", 10, []store.StreamRef{first, second, theirs}},
		"of a tenant":   {acme, 10, []store.StreamRef{first, second}},
		"the first":     {acme, 1, []store.StreamRef{first}},
		"of a stranger": {"no/body", 10, nil},
	} {
		if diff := cmp.Diff(tc.want, refs(tc.tenant, tc.limit)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	fixture.Exec(t, `UPDATE stream_sessions SET ended_at = now(), end_reason = 'closed' WHERE id = $1`, first.ID)
	if diff := cmp.Diff([]store.StreamRef{second}, refs(acme, 10)); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
	for ref, want := range map[store.StreamRef]string{
		first:               "",
		second:              acme,
		theirs:              globex,
		{ID: store.NewID()}: "",
	} {
		tenant, err := fixture.Operator.TenantOfStream(t.Context(), ref.ID)
		if tenant != want || (want == "") != errors.Is(err, store.ErrNotFound) {
			t.Errorf("%v is of %q, %v, want %q", ref, tenant, err, want)
		}
	}
	tenant, err := store.AsOperator(fixture.Dataplane).TenantOfStream(t.Context(), second.ID)
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a data-plane pod is told %q, %v", tenant, err)
	}
}
