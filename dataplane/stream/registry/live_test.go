package registry_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/exotel/agentstream"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// TestAdmit verifies which streams are admitted, the reason of each refusal, and that each is counted.
func TestAdmit(t *testing.T) {
	pods := newCluster(t)
	p := pods.pod("a", registry.Options{MaxStreams: 3})
	other := pods.pod("b", registry.Options{})
	try := func(p *pod, limit int, token string) error {
		_, err := p.Admit(t.Context(), acme, limit, registry.Stream{TokenID: token})
		return err
	}
	for i, tc := range []struct {
		pod   *pod
		limit int
		token string
		want  error
	}{
		{p, 0, "", registry.ErrTenantLimit},
		{p, 2, "one", nil},
		{p, 2, "one", registry.ErrTokenUsed},
		{other, 2, "one", registry.ErrTokenUsed},
		{other, 2, "", nil},
		{p, 2, "", registry.ErrTenantLimit}, // over both pods
		{p, 9, "", nil},
		{p, 9, "", nil},
		{p, 9, "", registry.ErrPodLimit},
		{other, 9, "", nil},
	} {
		if err := try(tc.pod, tc.limit, tc.token); !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("step %d: %v, want %v", i, err, tc.want)
		}
	}
	p.Drain(0)
	if err := try(p, 9, ""); !errors.Is(err, registry.ErrDraining) {
		t.Errorf("while it drains: %v", err)
	}
	got := map[string]float64{}
	for _, outcome := range []string{"admitted", "tenant_limit", "pod_limit", "token_used", "draining", "error"} {
		got[outcome] = p.value(t, "caly_stream_sessions_admissions_total", outcome)
	}
	if diff := cmp.Diff(map[string]float64{
		"admitted":     3,
		"tenant_limit": 2,
		"pod_limit":    1,
		"token_used":   1,
		"draining":     1,
		"error":        0,
	}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPodLimitIsExact verifies that 200 concurrent admissions get exactly as many places as the pod has.
func TestPodLimitIsExact(t *testing.T) {
	pods := newCluster(t)
	pod := pods.pod("a", registry.Options{MaxStreams: 20, MaxPerNamespace: 20, HeartbeatEvery: time.Millisecond})
	var admitted atomic.Int32
	var group sync.WaitGroup
	for range 200 {
		group.Go(func() {
			live, err := pod.Admit(t.Context(), acme, 1000, registry.Stream{})
			if err == nil {
				admitted.Add(1)
				if live.Context().Err() != nil { // a heartbeat between its place and its row found none
					t.Error("it is cut off at once")
				}
			} else if !errors.Is(err, registry.ErrPodLimit) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := pods.db.Number(
		t, `SELECT count(*)::int FROM stream_sessions WHERE ended_at IS NULL`,
	); n != 20 || admitted.Load() != 20 ||
		pod.Live() != 20 {
		t.Errorf("%d were let in, %d rows, %d live, want 20", admitted.Load(), n, pod.Live())
	}
}

// TestNamespaceLeavesPlacesToOthers admits three quarters of a pod's streams for one namespace, and the others for
// other namespaces.
func TestNamespaceLeavesPlacesToOthers(t *testing.T) {
	pods := newCluster(t)
	pod := pods.pod("a", registry.Options{MaxStreams: 8})
	sibling := &tenantconfig.Tenant{ID: "acme/sales", UID: "3"}
	pods.tenants.Store(tenantconfig.NewSnapshot(acme, globex, sibling))
	var streams []*registry.Live
	for _, tenant := range []*tenantconfig.Tenant{acme, acme, acme, sibling, sibling, sibling} {
		streams = append(streams, pods.admit(pod, tenant))
	}
	for _, tenant := range []*tenantconfig.Tenant{acme, sibling} {
		if _, err := pod.Admit(t.Context(), tenant, 100, registry.Stream{}); !errors.Is(err, registry.ErrPodLimit) {
			t.Errorf("the seventh stream of a namespace, of %s: %v", tenant.ID, err)
		}
	}
	for range 2 {
		pods.admit(pod, globex)
	}
	if _, err := pod.Admit(t.Context(), globex, 100, registry.Stream{}); !errors.Is(err, registry.ErrPodLimit) {
		t.Errorf("the ninth stream of the pod: %v", err)
	}
	busiest := pod.value(t, "caly_stream_sessions_busiest_namespace", "")
	if most := pod.value(t, "caly_stream_sessions_namespace_max", ""); busiest != 6 || most != 6 {
		t.Errorf("the metrics say %v of %v streams of one namespace, want 6 of 6", busiest, most)
	}
	streams[0].End(t.Context(), nil)
	pods.admit(pod, sibling)
}

// TestCuts verifies what ends a live stream, and what the bridge and the row then say.
func TestCuts(t *testing.T) {
	suspended := *acme
	again := *acme
	suspended.Suspended = true
	again.UID = "3"
	for name, tc := range map[string]struct {
		do         func(r *cluster, l *registry.Live)
		wantCut    bridge.Cut
		wantReason string
	}{
		"suspended": {func(r *cluster, _ *registry.Live) {
			r.tenants.Store(tenantconfig.NewSnapshot(&suspended, globex))
		},
			bridge.Cut{Reason: bridge.Suspended, Code: websocket.ClosePolicyViolation}, "suspended"},
		"deleted": {func(r *cluster, _ *registry.Live) { r.tenants.Store(tenantconfig.NewSnapshot(globex)) },
			bridge.Cut{Reason: bridge.Suspended, Code: websocket.ClosePolicyViolation}, "suspended"},
		"deleted and created again": {func(r *cluster, _ *registry.Live) {
			r.tenants.Store(tenantconfig.NewSnapshot(&again, globex))
		},
			bridge.Cut{Reason: bridge.Suspended, Code: websocket.ClosePolicyViolation}, "suspended"},
		"closed by a person": {func(r *cluster, l *registry.Live) {
			r.db.Exec(r.t, `UPDATE stream_sessions SET close_requested_at = now() WHERE id = $1`, l.ID())
		}, bridge.Cut{Reason: bridge.Closed, Code: websocket.CloseNormalClosure}, "closed"},
		"ended by a janitor": {func(r *cluster, l *registry.Live) {
			r.db.Exec(r.t, `UPDATE stream_sessions SET ended_at = now(), end_reason = 'orphaned' WHERE id = $1`, l.ID())
		}, bridge.Cut{Reason: bridge.Orphaned}, "orphaned"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newCluster(t)
			pod := r.pod("a", registry.Options{})
			live := r.admit(pod, acme)
			theirs := r.admit(pod, globex)
			tc.do(r, live)
			if diff := cmp.Diff(tc.wantCut, cutOff(t, live)); diff != "" {
				t.Errorf("the cut (-want +got):\n%s", diff)
			}
			if got := r.reason(live); got != tc.wantReason {
				t.Errorf("the row says %q, want %q", got, tc.wantReason)
			}
			if n := pod.value(t, "caly_stream_sessions_cuts_total", tc.wantReason); n != 1 {
				t.Errorf("%v are counted", n)
			}
			if theirs.Context().Err() != nil || r.reason(theirs) != "" || pod.Live() != 1 {
				t.Errorf("another's stream was ended too: %q", r.reason(theirs))
			}
		})
	}
}

// TestMaxAge verifies that a stream over the maximum age is ended in order, and that a younger one is not.
func TestMaxAge(t *testing.T) {
	pods := newCluster(t)
	const age = 2 * time.Second
	pod := pods.pod("a", registry.Options{MaxAge: age})
	begin := time.Now()
	old := pods.admit(pod, acme)
	time.Sleep(age / 2) // the difference between the ages of the two streams
	young := pods.admit(pod, acme)
	if diff := cmp.Diff(bridge.Cut{
		Reason: bridge.Limit,
		Code:   websocket.CloseNormalClosure,
	}, cutOff(t, old)); diff != "" || time.Since(begin) < age {
		t.Errorf("after %s, the cut (-want +got):\n%s", time.Since(begin), diff)
	}
	if young.Context().Err() != nil && time.Since(begin) < age*3/2 {
		t.Error("the younger one was ended too")
	}
	if got := pods.reason(old); got != "limit" || pod.value(t, "caly_stream_sessions_cuts_total", "limit") < 1 {
		t.Errorf("the row says %q, or nothing is counted", got)
	}
	young.End(t.Context(), nil)
}

// TestCloseIsFoundBetweenHeartbeats verifies that a close request and a suspended tenant end streams before the next
// heartbeat.
func TestCloseIsFoundBetweenHeartbeats(t *testing.T) {
	pods := newCluster(t)
	pod := pods.pod("a", registry.Options{HeartbeatEvery: time.Hour})
	live := pods.admit(pod, acme)
	pods.db.Exec(t, `UPDATE stream_sessions SET close_requested_at = now() WHERE id = $1`, live.ID())
	cutOff(t, live)
	live = pods.admit(pod, acme)
	pods.tenants.Store(tenantconfig.NewSnapshot())
	cutOff(t, live)
}

// TestStartIsToldBetweenHeartbeats verifies that the call of a stream is in its row soon after its start, and is
// written once.
func TestStartIsToldBetweenHeartbeats(t *testing.T) {
	pods := newCluster(t)
	pod := pods.pod("a", registry.Options{HeartbeatEvery: time.Hour})
	live := pods.admit(pod, acme)
	silent := pods.admit(pod, acme)
	live.Started(agentstream.StartInfo{CallSID: "c1", StreamSID: "s1"})
	soon.Holds(t, "its row knows the call", func() bool {
		return pods.db.Number(
			t,
			`SELECT count(*)::int FROM stream_sessions WHERE id = $1 AND call_sid = 'c1' AND stream_sid = 's1'`,
			live.ID(),
		) == 1
	})
	pods.db.Exec(t, `UPDATE stream_sessions SET last_seen_at = 'epoch'`)
	pods.db.Exec(t, `UPDATE stream_sessions SET close_requested_at = now() WHERE id = $1`, silent.ID())
	cutOff(t, silent) // a look later
	if n := pods.db.Number(t, `SELECT count(*)::int FROM stream_sessions WHERE last_seen_at = 'epoch'`); n != 2 {
		t.Errorf("of two rows %d were not written again", n)
	}
	// A stream whose row is deleted ends as early.
	gone := pods.admit(pod, acme)
	pods.db.Exec(t, `DELETE FROM stream_sessions WHERE id = $1`, gone.ID())
	gone.Started(agentstream.StartInfo{CallSID: "c2", StreamSID: "s2"})
	if cut := cutOff(t, gone); cut.Reason != bridge.Orphaned {
		t.Errorf("without a row it ends as %s", cut.Reason)
	}
}

// TestEnd verifies what the row says of an ended stream, and that the first end counts.
func TestEnd(t *testing.T) {
	pods := newCluster(t)
	pod := pods.pod("a", registry.Options{})
	live := pods.admit(pod, acme)
	live.Started(agentstream.StartInfo{CallSID: "c\x00" + strings.Repeat("ü", 200), StreamSID: "s\xff"})
	soon.Holds(t, "the heartbeat tells what Exotel told", func() bool {
		return pods.db.Number(t, `SELECT count(*)::int FROM stream_sessions WHERE call_sid = 'c' || repeat('ü', 127)
				AND stream_sid = E's\uFFFD' AND ended_at IS NULL`) == 1
	})
	live.End(t.Context(), &bridge.End{
		Reason:      bridge.AgentLost,
		Reconnected: true,
		Start:       agentstream.StartInfo{CallSID: "c1", StreamSID: "s1"},
		ToAgent:     bridge.Counts{Frames: 1, Bytes: 2, Dropped: 3},
		ToExotel:    bridge.Counts{Frames: 4, Bytes: 5, Dropped: 6},
	})
	live.End(t.Context(), &bridge.End{Reason: bridge.CallEnded})
	live.End(t.Context(), nil)
	if n := pods.db.Number(
		t,
		`SELECT count(*)::int FROM stream_sessions WHERE end_reason = 'agent_lost' AND reconnected AND call_sid = 'c1'
			AND stream_sid = 's1' AND pod = 'a'
		AND agent = 'bot.example' AND (frames_to_agent, bytes_to_agent, dropped_to_agent, frames_to_exotel,
			bytes_to_exotel, dropped_to_exotel) = (1, 2, 3, 4, 5, 6)`,
	); n != 1 {
		t.Errorf("the row says %q, or less", pods.reason(live))
	}
	if live.Context().Err() == nil || pod.Live() != 0 {
		t.Errorf("it goes on: %d", pod.Live())
	}
	live = pods.admit(pod, acme)
	if live.End(t.Context(), nil); pods.reason(live) != reason.StreamFailed {
		t.Errorf("without a bridge the row says %q", pods.reason(live))
	}
}

// TestCountsInHeartbeats checks that the row of a live stream shows its counts of each direction, and that an end
// without counts keeps them. Other streams have counts of their own.
func TestCountsInHeartbeats(t *testing.T) {
	pods := newCluster(t)
	pod := pods.pod("a", registry.Options{})
	live := pods.admit(pod, acme)
	theirs := pods.admit(pod, globex)
	silent := pods.admit(pod, acme)
	var frames atomic.Uint64
	frames.Store(1)
	live.Measured(func() (toAgent, toExotel bridge.Counts) {
		n := frames.Load()
		live.Started(agentstream.StartInfo{StreamSID: "s"}) // any pod may ask for the session
		return bridge.Counts{
				Frames:     n,
				Bytes:      2 * n,
				Dropped:    3 * n,
				StaleMarks: 9,
				Refused:    9,
			}, bridge.Counts{
				Frames:  4 * n,
				Bytes:   5 * n,
				Dropped: 6 * n,
			}
	})
	theirs.Measured(
		func() (toAgent, toExotel bridge.Counts) { return bridge.Counts{Frames: 70}, bridge.Counts{Bytes: 80} },
	)
	has := func(l *registry.Live, counts ...int64) bool {
		return pods.db.Number(t, `SELECT count(*)::int FROM stream_sessions WHERE id = $1
				AND ARRAY[frames_to_agent, bytes_to_agent, dropped_to_agent,
			frames_to_exotel, bytes_to_exotel, dropped_to_exotel] = $2::bigint[]`, l.ID(), counts) == 1
	}
	soon.Holds(t, "the first counts are written", func() bool {
		return has(live, 1, 2, 3, 4, 5, 6) && has(theirs, 70, 0, 0, 0, 80, 0)
	})
	frames.Store(10)
	soon.Holds(t, "the counts grow", func() bool { return has(live, 10, 20, 30, 40, 50, 60) })
	if !has(silent, 0, 0, 0, 0, 0, 0) {
		t.Error("a stream that nobody measures counts something")
	}
	live.End(t.Context(), nil)
	theirs.End(t.Context(), &bridge.End{
		Reason:   bridge.CallEnded,
		ToAgent:  bridge.Counts{Frames: 71, Dropped: 1},
		ToExotel: bridge.Counts{Frames: 1, Bytes: 81},
	})
	if !has(live, 10, 20, 30, 40, 50, 60) || !has(theirs, 71, 0, 1, 1, 81, 0) {
		t.Error("the ends have other counts")
	}
}

// TestCloseAcrossPods verifies that a close request through a third pod reaches the pod of the stream. No other stream
// is ended.
func TestCloseAcrossPods(t *testing.T) {
	pods := newCluster(t)
	pod, b := pods.pod("a", registry.Options{HeartbeatEvery: time.Hour}), pods.pod(
		"b", registry.Options{LookEvery: time.Hour},
	)
	onA := pods.admit(pod, acme)
	stays := pods.admit(pod, acme)
	onB := pods.admit(b, acme)
	theirs := pods.admit(b, globex)
	for _, l := range []*registry.Live{onA, onB} { // found by the look of the one, and by the heartbeat of the other
		if _, err := pods.db.Dataplane.CloseStream(t.Context(), acme.ID, l.ID(), store.Origin{}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(bridge.Cut{
			Reason: bridge.Closed,
			Code:   websocket.CloseNormalClosure,
		}, cutOff(t, l)); diff != "" || pods.reason(l) != "closed" {
			t.Errorf("the row says %q, the cut (-want +got):\n%s", pods.reason(l), diff)
		}
	}
	if stays.Context().Err() != nil || theirs.Context().Err() != nil {
		t.Error("others were cut off too")
	}
	if n, err := pods.db.Dataplane.CloseStreams(t.Context(), acme.ID, store.Origin{}); n != 1 || err != nil {
		t.Errorf("%d are being closed, %v", n, err)
	}
	if cutOff(t, stays); theirs.Context().Err() != nil || pod.Live() != 0 || b.Live() != 1 {
		t.Errorf("%d and %d live", pod.Live(), b.Live())
	}
	if _, err := pods.db.Dataplane.CloseStream(t.Context(), acme.ID, onA.ID(), store.Origin{}); !errors.Is(
		err, store.ErrStreamEnded,
	) {
		t.Errorf("one that has ended: %v", err)
	}
}

// TestDatabaseAway verifies that streams go on during a database outage and that their ends are stored after it. An
// admission whose answer was lost is ended too.
func TestDatabaseAway(t *testing.T) {
	pods := newCluster(t)
	db := &faulty{Dataplane: pods.db.Dataplane}
	pod := pods.pod("a", registry.Options{Store: db, MaxKept: 3})
	going := pods.admit(pod, acme)
	ending := []*registry.Live{pods.admit(pod, acme), pods.admit(pod, acme), pods.admit(pod, acme)}
	db.forgetful.Store(true)
	if _, err := pod.Admit(t.Context(), acme, 100, registry.Stream{}); err == nil || pod.Live() != 4 {
		t.Fatalf("without an answer it is let in: %v, %d live", err, pod.Live())
	}
	soon.Holds(t, "the one without an answer has ended", func() bool {
		return pods.db.Number(t, `SELECT count(*)::int FROM stream_sessions WHERE end_reason = 'failed'`) == 1 &&
			pod.value(t, "caly_stream_sessions_ends_kept", "") == 0
	})
	db.away.Store(true)
	if _, err := pod.Admit(t.Context(), acme, 100, registry.Stream{}); err == nil ||
		pod.value(t, "caly_stream_sessions_admissions_total", "error") != 2 {
		t.Errorf("it is let in: %v", err)
	}
	for _, l := range ending {
		l.End(t.Context(), &bridge.End{Reason: bridge.CallEnded})
	}
	// Three are kept, of four: the refused admission was the first.
	if kept, lost := pod.value(t, "caly_stream_sessions_ends_kept", ""), pod.value(
		t, "caly_stream_sessions_ends_lost_total", "",
	); kept != 3 || lost != 1 ||
		pod.Live() != 1 {
		t.Errorf("%v ends are kept, %v are lost, %d live", kept, lost, pod.Live())
	}
	failures := pod.value(t, "caly_stream_sessions_heartbeat_failures_total", "")
	soon.Holds(t, "heartbeats fail", func() bool {
		return pod.value(t, "caly_stream_sessions_heartbeat_failures_total", "") > failures+2
	})
	if going.Context().Err() != nil ||
		pods.db.Number(t, `SELECT count(*)::int FROM stream_sessions WHERE ended_at IS NULL`) != 4 {
		t.Error("a stream was cut off, or a row ended")
	}
	db.away.Store(false)
	soon.Holds(t, "the ends that were kept are written", func() bool {
		return pods.reason(ending[0]) == "call_ended" && pods.reason(ending[1]) == "call_ended"
	})
	if going.Context().Err() != nil || pods.reason(going) != "" ||
		pod.value(t, "caly_stream_sessions_ends_kept", "") != 0 {
		t.Error("the stream that goes on was ended, or ends are still kept")
	}
}

// TestDatabaseRestarts verifies that a restart of PostgreSQL loses no end and ends no stream.
func TestDatabaseRestarts(t *testing.T) {
	pods := newCluster(t)
	pod := pods.pod("a", registry.Options{EndWithin: 300 * time.Millisecond})
	going := pods.admit(pod, acme)
	ending := pods.admit(pod, acme)
	pods.db.Stop(t)
	ending.End(t.Context(), &bridge.End{Reason: bridge.CallEnded})
	pods.db.Start(t)
	soon.Holds(t, "its end is written", func() bool { return pods.reason(ending) == "call_ended" })
	if going.Context().Err() != nil || pods.reason(going) != "" {
		t.Error("the other was ended")
	}
}

// TestDrain verifies that a draining pod admits no stream, gives calls their grace, and then ends the rest.
func TestDrain(t *testing.T) {
	pods := newCluster(t)
	pod := pods.pod("a", registry.Options{})
	ends := pods.admit(pod, acme)
	stays := pods.admit(pod, globex)
	drained := make(chan struct{})
	go func() { defer close(drained); pod.Drain(time.Second) }()
	soon.Holds(t, "nobody is let in", func() bool {
		live, err := pod.Admit(t.Context(), acme, 100, registry.Stream{})
		if err == nil {
			live.End(t.Context(), nil)
		}
		return errors.Is(err, registry.ErrDraining)
	})
	if ends.Context().Err() != nil || stays.Context().Err() != nil {
		t.Error("calls were cut off before the grace")
	}
	ends.End(t.Context(), &bridge.End{Reason: bridge.CallEnded})
	cutOff(t, stays)
	<-drained
	if a, b := pods.reason(ends), pods.reason(stays); a != "call_ended" || b != "drained" || pod.Live() != 0 {
		t.Errorf("the rows say %q and %q", a, b)
	}
	pod.Drain(time.Hour) // there is nothing to wait for
}

// TestRunEnds verifies that the streams that are left when Run stops are ended, with or without an answer of their
// bridges.
func TestRunEnds(t *testing.T) {
	pods := newCluster(t)
	pod := pods.pod("a", registry.Options{HeartbeatEvery: time.Hour, EndWithin: time.Second})
	good := pods.admit(pod, acme)
	deaf := pods.admit(pod, acme)
	var group sync.WaitGroup
	group.Go(func() { cutOff(t, good) })
	pod.stop()
	group.Wait()
	if a, b := pods.reason(good), pods.reason(deaf); a != "drained" || b != "drained" || pod.Live() != 0 {
		t.Errorf("the rows say %q and %q, %d live", a, b, pod.Live())
	}
	deaf.End(t.Context(), &bridge.End{Reason: bridge.CallEnded}) // too late to matter
	if got := pods.reason(deaf); got != "drained" {
		t.Errorf("the row says %q", got)
	}
	if _, err := pod.Admit(t.Context(), acme, 100, registry.Stream{}); !errors.Is(err, registry.ErrDraining) {
		t.Errorf("afterwards: %v", err)
	}
}

// TestReconcile verifies that rows of this pod without a stream and streams without a row are ended. Rows of other pods
// are not touched.
func TestReconcile(t *testing.T) {
	pods := newCluster(t)
	before := pods.pod("a", registry.Options{HeartbeatEvery: time.Hour, LookEvery: time.Hour})
	left := pods.admit(before, acme)
	ofOther := pods.admit(pods.pod("b", registry.Options{}), acme)
	pod := pods.pod("a", registry.Options{
		HeartbeatEvery: time.Hour,
		LookEvery:      time.Hour,
	}) // the next container of the same pod
	going := pods.admit(pod, acme)
	without := pods.admit(pod, globex)
	pods.db.Exec(t, `DELETE FROM stream_sessions WHERE id = $1`, without.ID())
	for i, want := range [][2]int{{1, 1}, {0, 0}} {
		rows, streams, err := pod.Reconcile(t.Context())
		if err != nil || rows != want[0] || streams != want[1] {
			t.Errorf("time %d: %d rows and %d streams, %v, want %v", i, rows, streams, err, want)
		}
	}
	if got := []string{
		pods.reason(left),
		pods.reason(going),
		pods.reason(ofOther),
	}; !cmp.Equal(got, []string{"orphaned", "", ""}) ||
		going.Context().Err() != nil {
		t.Errorf("the rows say %q", got)
	}
	cutOff(t, without)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := pod.Reconcile(ctx); err == nil {
		t.Error("without a database it succeeds")
	}
}

// TestNextContainerEndsSessions restarts a container that was killed. The sessions that it leaves end at once, also
// those of a tenant that the next container learns of later, and none of another pod.
func TestNextContainerEndsSessions(t *testing.T) {
	pods := newCluster(t)
	hung := registry.Options{HeartbeatEvery: time.Hour, LookEvery: time.Hour}
	killed := pods.pod("a", hung)
	other := pods.pod("b", registry.Options{})
	left := pods.admit(killed, acme)
	later := pods.admit(killed, globex)
	ofOther := pods.admit(other, acme)
	pods.tenants.Store(tenantconfig.NewIncompleteSnapshot(acme))
	pod := pods.pod("a", registry.Options{})
	start := time.Now()
	soon.Holds(
		t, "the session of the container before has ended", func() bool { return pods.reason(left) == "orphaned" },
	)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if _, err := pod.Admit(t.Context(), acme, 2, registry.Stream{}); err != nil { // the other pod has one
		t.Errorf("a stream within the limit: %v", err)
	}
	if got := pods.reason(later); got != "" {
		t.Errorf("the session of a tenant that is not known: %q", got)
	}
	pods.tenants.Store(tenantconfig.NewSnapshot(acme, globex))
	soon.Holds(t, "the session of the other tenant has ended", func() bool { return pods.reason(later) == "orphaned" })
	if pods.reason(ofOther) != "" || ofOther.Context().Err() != nil {
		t.Errorf("the session of another pod: %q", pods.reason(ofOther))
	}
}

// TestChurn verifies that streams that begin and end in every way leave no row and no place.
func TestChurn(t *testing.T) {
	pods := newCluster(t)
	pod := pods.pod("a", registry.Options{
		HeartbeatEvery: 100 * time.Millisecond,
		LookEvery:      50 * time.Millisecond,
	}) // each bounds its own statement too
	var group sync.WaitGroup
	slots := make(chan struct{}, 20)
	for i := range 200 {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			live, err := pod.Admit(t.Context(), acme, 1000, registry.Stream{})
			if err != nil {
				t.Error(err)
				return
			}
			switch i % 4 {
			case 0:
				live.End(t.Context(), nil)
			case 1:
				pods.db.Exec(t, `UPDATE stream_sessions SET close_requested_at = now() WHERE id = $1`, live.ID())
				cutOff(t, live)
			default:
				live.Started(agentstream.StartInfo{StreamSID: "s"})
				live.End(t.Context(), &bridge.End{Reason: bridge.CallEnded})
			}
		})
	}
	group.Wait()
	if n := pods.db.Number(t, `SELECT count(*)::int FROM stream_sessions
			WHERE ended_at IS NULL OR end_reason NOT IN ('failed', 'closed', 'call_ended')`); n != 0 ||
		pod.Live() != 0 {
		t.Errorf("%d rows are wrong, %d live", n, pod.Live())
	}
	if n := pod.value(t, "caly_stream_sessions_cuts_total", "orphaned"); n != 0 {
		t.Errorf("%v were taken for orphans", n)
	}
}
