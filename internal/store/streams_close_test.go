package store_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
)

// who is an admin who closes streams.
func who() store.Origin {
	return store.Origin{
		ActorID:   bothUser,
		SessionID: bothSession,
		Address:   netip.MustParseAddr("203.0.113.7"),
		Device:    "curl",
		RequestID: "r1",
	}
}

// trail is a tenant's audit log, newest first, without ids and times.
func (f *fixture) trail(t *testing.T, tenant string) (trail []store.Audit) {
	t.Helper()
	rows, _, err := f.Dataplane.ListAudit(t.Context(), tenant, store.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		trail = append(trail, r.Audit)
	}
	return trail
}

func (f *fixture) asked(t *testing.T) int {
	t.Helper()
	return f.Number(t, `SELECT count(*)::int FROM stream_sessions WHERE close_requested_at IS NOT NULL`)
}

var byAddress = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// TestCloseStream checks that a live stream is asked to end, once, with a row of who did it. An unknown stream is
// refused and changes nothing.
func TestCloseStream(t *testing.T) {
	fixture := newFixture(t)
	ref := fixture.admit(t, acme, "a")
	other := fixture.admit(t, acme, "b")
	ended := fixture.admit(t, acme, "a")
	theirs := fixture.admit(t, globex, "a")
	fixture.Exec(t, `UPDATE stream_sessions SET ended_at = now(), end_reason = 'call_ended' WHERE id = $1`, ended.ID)
	for name, tc := range map[string]struct {
		tenant, id string
		want       error
	}{
		"another tenant's": {acme, theirs.ID, store.ErrNotFound},
		"by another":       {globex, ref.ID, store.ErrNotFound},
		"unknown":          {acme, store.NewID(), store.ErrNotFound},
		"no id":            {acme, "1' OR true--", store.ErrNotFound},
		"ended":            {acme, ended.ID, store.ErrStreamEnded},
	} {
		if _, err := fixture.Dataplane.CloseStream(t.Context(), tc.tenant, tc.id, who()); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if n := fixture.asked(t); n != 0 || len(fixture.trail(t, acme))+len(fixture.trail(t, globex)) != 0 {
		t.Fatalf("%d were asked to end all the same", n)
	}
	for range 2 { // a repeat is the same
		streamSession, err := fixture.Dataplane.CloseStream(t.Context(), acme, ref.ID, who())
		if err != nil || streamSession.StreamRef != ref || !streamSession.Closing || streamSession.Pod != "a" {
			t.Errorf("%+v, %v", streamSession, err)
		}
	}
	if streamSession, err := fixture.Operator.CloseStream(
		t.Context(), acme, other.ID, store.Origin{},
	); err != nil || streamSession.StreamRef != other ||
		!streamSession.Closing {
		t.Errorf("by the platform: %+v, %v", streamSession, err)
	}
	want := []store.Audit{
		{Action: store.ActionStreamClosed, Outcome: store.OutcomeSuccess, Reason: "stream " + other.ID},
		{Origin: who(), Action: store.ActionStreamClosed, Outcome: store.OutcomeSuccess, Reason: "stream " + ref.ID},
	}
	if diff := cmp.Diff(want, fixture.trail(t, acme), byAddress); diff != "" || fixture.asked(t) != 2 ||
		len(fixture.trail(t, globex)) != 0 {
		t.Errorf("%d were asked to end; audit log (-want +got):\n%s", fixture.asked(t), diff)
	}
}

// TestCloseStreams verifies that CloseStreams closes all live streams of one tenant. The audit log gets one row for
// those that had no request before.
func TestCloseStreams(t *testing.T) {
	fixture := newFixture(t)
	refs := []store.StreamRef{
		fixture.admit(t, acme, "a"),
		fixture.admit(t, acme, "b"),
		fixture.admit(t, acme, "b"),
		fixture.admit(t, acme, "a"),
	}
	theirs := fixture.admit(t, globex, "a")
	fixture.Exec(t, `UPDATE stream_sessions SET ended_at = now(), end_reason = 'call_ended' WHERE id = $1`, refs[3].ID)
	if _, err := fixture.Dataplane.CloseStream(t.Context(), acme, refs[0].ID, who()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if n, err := fixture.Dataplane.CloseStreams(t.Context(), acme, who()); n != 3 || err != nil {
			t.Errorf("%d are being closed, %v, want 3", n, err)
		}
	}
	if n, err := fixture.Dataplane.CloseStreams(t.Context(), "no/body", who()); n != 0 || err != nil {
		t.Errorf("of nobody: %d, %v", n, err)
	}
	if n, err := fixture.Dataplane.CloseStreams(t.Context(), acme+","+globex, who()); n != 0 || err == nil {
		t.Errorf("of two at once: %d, %v", n, err)
	}
	want := []store.Audit{
		{Origin: who(), Action: store.ActionStreamsClosed, Outcome: store.OutcomeSuccess, Reason: "live streams: 2"},
		{
			Origin:  who(),
			Action:  store.ActionStreamClosed,
			Outcome: store.OutcomeSuccess,
			Reason:  "stream " + refs[0].ID,
		},
	}
	if diff := cmp.Diff(want, fixture.trail(t, acme), byAddress); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
	list, err := fixture.Dataplane.StreamsToClose(t.Context(), []string{acme, globex}, "b")
	if diff := cmp.Diff(map[store.StreamRef]bool{refs[1]: true, refs[2]: true}, set(list)); diff != "" || err != nil {
		t.Errorf("a pod has to close, %v (-want +got):\n%s", err, diff)
	}
	if streamSession, err := fixture.Dataplane.StreamByID(t.Context(), globex, theirs.ID); err != nil ||
		streamSession.Closing {
		t.Errorf("another's: %+v, %v", streamSession, err)
	}
}

func set(list []store.StreamRef) map[store.StreamRef]bool {
	m := map[store.StreamRef]bool{}
	for _, ref := range list {
		m[ref] = true
	}
	return m
}

// TestCloseIsWithItsAuditRow verifies that no stream is closed when the row of the audit log cannot be written.
func TestCloseIsWithItsAuditRow(t *testing.T) {
	fixture := newFixture(t)
	ref := fixture.admit(t, acme, "a")
	fixture.Exec(t, `REVOKE INSERT ON audit_log FROM caly_dataplane`)
	if _, err := fixture.Dataplane.CloseStream(t.Context(), acme, ref.ID, who()); err == nil {
		t.Error("one is closed without a row")
	}
	if _, err := fixture.Dataplane.CloseStreams(t.Context(), acme, who()); err == nil {
		t.Error("all are closed without a row")
	}
	if n := fixture.asked(t); n != 0 {
		t.Errorf("%d were asked to end", n)
	}
}

// streams are all that have a row.
func (f *fixture) streams(t *testing.T) (refs []store.StreamRef) {
	t.Helper()
	for _, name := range query[string](t, f.AdminDSN, `SELECT tenant || ' ' || id FROM stream_sessions`) {
		tenant, id, _ := strings.Cut(name, " ")
		refs = append(refs, store.StreamRef{Tenant: tenant, ID: id})
	}
	return refs
}

// TestCloseAmidHeartbeats verifies that heartbeats in any order and closes of the same streams do not deadlock.
func TestCloseAmidHeartbeats(t *testing.T) {
	fixture := newFixture(t)
	fixture.Exec(t, `INSERT INTO stream_sessions (tenant, id, pod) SELECT unnest(ARRAY[$1, $2]), gen_random_uuid(), 'a'
			FROM generate_series(1, 400)`, acme, globex)
	var beats []store.StreamBeat
	for _, ref := range fixture.streams(t) {
		beats = append(beats, store.StreamBeat{StreamRef: ref})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var group sync.WaitGroup
	group.Go(func() {
		for ctx.Err() == nil {
			rand.Shuffle(len(beats), func(i, j int) { beats[i], beats[j] = beats[j], beats[i] })
			if alive, err := fixture.Dataplane.HeartbeatStreams(t.Context(), beats); len(alive) != 800 || err != nil {
				t.Errorf("a heartbeat finds %d, %v", len(alive), err)
				return
			}
		}
	})
	for _, tenant := range []string{acme, globex} {
		group.Go(func() {
			for ctx.Err() == nil {
				if n, err := fixture.Dataplane.CloseStreams(t.Context(), tenant, who()); n != 400 || err != nil {
					t.Errorf("%d of %s are being closed, %v", n, tenant, err)
					return
				}
				fixture.Exec(
					t,
					`UPDATE stream_sessions SET close_requested_at = NULL WHERE tenant = $1 AND id IN (SELECT id
						FROM stream_sessions WHERE tenant = $1 ORDER BY id FOR UPDATE)`,
					tenant,
				)
			}
		})
	}
	group.Wait()
}

// TestEndsAtOnce verifies that concurrent ends of the same streams in different orders do not deadlock. A returning pod
// and the pod that closes after it end the same streams.
func TestEndsAtOnce(t *testing.T) {
	fixture := newFixture(t)
	fixture.Exec(t, `INSERT INTO stream_sessions (tenant, id, pod) SELECT unnest(ARRAY[$1, $2]), gen_random_uuid(), 'a'
			FROM generate_series(1, 200)`, acme, globex)
	var ends []store.StreamEnd
	for _, ref := range fixture.streams(t) {
		ends = append(ends, store.StreamEnd{StreamRef: ref, Reason: reason.StreamOrphaned}) // which may be ended again
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for mine := slices.Clone(ends); ctx.Err() == nil; {
				rand.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
				if n, err := fixture.Dataplane.EndStreams(t.Context(), mine); n != 400 || err != nil {
					t.Errorf("%d are ended, %v", n, err)
					return
				}
			}
		})
	}
	group.Wait()
}
