//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"

	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// speech is what every call says, and is to hear again.
var speech = exotelsim.Noise(8000 * 2)

// line is a Tenant that takes live calls, and its agent, an echo in the process of the test.
type line struct {
	*tenant
	agent *agentsim.Server
	token string
}

// newLine makes a Tenant that may have limit live calls, and waits until every data-plane pod accepts them.
func newLine(t *testing.T, limit int) *line {
	t.Helper()
	agent, err := agentsim.NewServer(agentsim.Options{Listen: shared.hostIP + ":0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(agent.Close)
	x := &line{tenant: newTenant(t, tenantOptions{source: newSource(t).url}), agent: agent, token: randomHex(16)}
	x.secretOf(t, "audio", map[string]string{"current": x.token})
	x.change(
		t,
		fmt.Sprintf(
			`{"audio":{"agentURL":%q,"maxStreams":%d,"verification":{"tokenSecretRef":{"name":"audio"}}}}`,
			agent.URL(),
			limit,
		),
	)
	taken := 0 // in a row: connections are spread over the pods by chance
	minute.Reaches(t, "every pod takes the Tenant's calls", func(ctx context.Context) (bool, string) {
		for ; taken < 10; taken++ {
			if _, err := (exotelsim.Stream{URL: x.url(), Audio: speech[:320]}).Run(ctx); err != nil {
				taken = 0
				return false, err.Error()
			}
		}
		return true, ""
	})
	x.waitLive(t, 0)
	return x
}

func (x *line) url() string {
	return "ws" + strings.TrimPrefix(x.webhooks, "http") + "/audio/exotel/" + x.id() + "/" + x.token
}

// call is one as long as given, that waits for its whole echo.
func (x *line) call(d time.Duration) exotelsim.Stream {
	return exotelsim.Stream{
		URL:      x.url(),
		Audio:    speech,
		Expect:   speech,
		Duration: d,
		Pace:     100 * time.Millisecond,
		Linger:   20 * time.Second,
	}
}

// placed are calls under way.
type placed struct {
	reports []exotelsim.Report
	errs    []error
	group   sync.WaitGroup
}

// place has n calls at once, begun within a second.
func (x *line) place(ctx context.Context, n int, s exotelsim.Stream) *placed {
	p := &placed{reports: make([]exotelsim.Report, n), errs: make([]error, n)}
	for i := range n {
		p.group.Go(func() {
			time.Sleep(
				time.Second * time.Duration(i) / time.Duration(n),
			) // Exotel does not begin hundreds in one millisecond
			p.reports[i], p.errs[i] = s.Run(ctx)
		})
	}
	return p
}

// whole waits for the calls, and checks that each said all it had to say and heard it again, sample by sample, with an orderly end.
func (p *placed) whole(t *testing.T) {
	t.Helper()
	p.group.Wait()
	for i, r := range p.reports {
		if err := p.errs[i]; err != nil || !r.HungUp || r.Code != websocket.CloseNormalClosure || !r.Echo.Whole() ||
			r.Sent.Bytes == 0 ||
			r.Invalid > 0 {
			t.Errorf(
				"call %d: %v, ended by itself: %t after %s with %d, %d bytes sent, echo %+v, %d messages invalid",
				i,
				err,
				r.HungUp,
				r.Lasted,
				r.Code,
				r.Sent.Bytes,
				r.Echo,
				r.Invalid,
			)
		}
	}
}

// sessions are the Tenant's rows by the reason of their end, which is empty for those that live.
func (x *line) sessions(ctx context.Context, pod string) (map[string]int, error) {
	rows, err := x.db.Query(
		ctx,
		`SELECT end_reason, count(*) FROM stream_sessions WHERE tenant = $1 AND ($2 = '' OR pod = $2) GROUP BY 1`,
		x.id(),
		pod,
	)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	counts := map[string]int{}
	for rows.Next() {
		var reason string
		var n int
		if err := rows.Scan(&reason, &n); err != nil {
			return nil, err
		}
		counts[reason] = n
	}
	return counts, rows.Err()
}

// waitLive waits until the database and the agent know of n live calls.
func (x *line) waitLive(t *testing.T, n int) {
	t.Helper()
	halfMinute.Reaches(t, fmt.Sprintf("%d calls are live", n), func(ctx context.Context) (bool, string) {
		counts, err := x.sessions(ctx, "")
		return err == nil && counts[""] == n &&
			x.agent.Live() == n, fmt.Sprintf("%d rows, %d at the agent, %v", counts[""], x.agent.Live(), err)
	})
}

// TestStreams has 20 calls through the Service, in each way that Exotel writes: every sample comes back, and every call has its row.
func TestStreams(t *testing.T) {
	line := newLine(t, 100)
	before := line.agent.Started()
	var all []*placed
	for _, quoting := range []exotelsim.Quoting{exotelsim.Numbers, exotelsim.Strings} {
		for _, pace := range []time.Duration{20 * time.Millisecond, 100 * time.Millisecond} {
			stream := line.call(4 * time.Second)
			stream.Quoting = quoting
			stream.Pace = pace
			all = append(all, line.place(t.Context(), 5, stream))
		}
	}
	for _, p := range all {
		p.whole(t)
	}
	line.waitLive(t, 0)
	var calls, sent, back, dropped int
	if err := line.db.QueryRow(
		t.Context(),
		`SELECT count(*), sum(frames_to_agent), sum(frames_to_exotel), sum(dropped_to_agent + dropped_to_exotel)
			FROM stream_sessions
		WHERE tenant = $1 AND end_reason = 'call_ended' AND frames_to_agent > 10`,
		line.id(),
	).Scan(&calls, &sent, &back, &dropped); err != nil {
		t.Fatal(err)
	}
	// The agent receives connected, start and stop in addition, and sends audio alone.
	if want := 10*200 + 10*40; calls != 20 || sent != want+3*20 || back != want || dropped != 0 ||
		line.agent.Started()-before != 20 {
		t.Errorf(
			"%d calls, %d frames there, %d back, %d dropped; the agent had %d",
			calls,
			sent,
			back,
			dropped,
			line.agent.Started()-before,
		)
	}
}

// TestRollingUpdate replaces all data-plane pods during 200 live calls: those that last less than the grace end by themselves, a longer one
// has the grace at least, and new ones find a pod at any time.
func TestRollingUpdate(t *testing.T) {
	grace := streamGrace(t)
	line := newLine(t, 1000)
	const short = 20 * time.Second
	if grace <= short {
		t.Fatalf("the pods' grace is %s, and must be longer than a call of %s", grace, short)
	}
	calls := line.place(t.Context(), 200, line.call(short))
	long := line.place(t.Context(), 10, line.call(10*time.Minute))
	line.waitLive(t, 210)
	ctx, stop := context.WithCancel(t.Context())
	meanwhile := make(chan int)
	go func() { meanwhile <- line.callUntil(ctx, t) }()
	began := time.Now()
	line.restart(t, "caly-dataplane")
	t.Logf(
		"the new pods had taken over after %s, with %d of the first calls at the agent",
		time.Since(began).Round(time.Millisecond),
		line.agent.Live(),
	)
	calls.whole(t)
	long.group.Wait()
	ended := time.Since(began)
	stop()
	if n := <-meanwhile; n < 20 {
		t.Errorf("only %d calls were placed meanwhile: too few to show anything", n)
	}
	for i, r := range long.reports {
		if long.errs[i] != nil || r.Code != websocket.CloseGoingAway || r.Lasted < grace {
			t.Errorf("long call %d: %v, ended with %d after %s", i, long.errs[i], r.Code, r.Lasted)
		}
	}
	if ended < grace {
		t.Errorf("the last long call ended %s after the update began, want %s at least", ended, grace)
	}
	line.waitLive(t, 0)
	counts, err := line.sessions(t.Context(), "")
	if err != nil || counts["drained"] != 10 || counts["orphaned"] != 0 {
		t.Errorf("the rows say %v, %v", counts, err)
	}
}

// callUntil has one short call after the other, and returns how many. Each must succeed.
func (x *line) callUntil(ctx context.Context, t *testing.T) (n int) {
	for ctx.Err() == nil {
		report, err := x.call(300 * time.Millisecond).Run(ctx)
		if ctx.Err() != nil {
			return n
		}
		if err != nil || !report.HungUp || !report.Echo.Whole() {
			t.Errorf("a call during the update: %v, ended with %d, echo %+v", err, report.Code, report.Echo)
		}
		n++
	}
	return n
}

// TestDataPlanePodCrashes kills a pod in the midst of 300 calls: the other pods end its sessions within a minute, its
// calls' sockets are gone on both sides, and the Tenant may have exactly as many new calls as it lost. The calls of
// other pods notice nothing. What the pod captured has failed with a reason in the end, since its disk is gone and the
// calls were short; what the others captured is whole.
func TestDataPlanePodCrashes(t *testing.T) {
	const limit = 300
	line := newLine(t, limit)
	line.capture(t)
	before := line.settled(t, time.Minute)["uploaded"]
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	calls := line.place(ctx, limit, line.call(10*time.Minute))
	line.waitLive(t, limit)
	victim, lost := line.busiest(t)
	died := time.Now()
	kill(t, line.client, victim) // for good, so that no container after it tidies up
	crash(t, victim)
	eventually.Within(10*time.Second).Reaches(t, "the dead pod holds no socket", func(context.Context) (bool, string) {
		return line.agent.Live() == limit-lost, fmt.Sprintf("%d of %d live", line.agent.Live(), limit-lost)
	})
	if code := line.refusedWith(t.Context()); code != websocket.CloseTryAgainLater {
		t.Errorf("before the sessions are ended, a call more is answered %d, want 1013", code)
	}
	minute.Reaches(t, "other pods have ended the sessions", func(ctx context.Context) (bool, string) {
		counts, err := line.sessions(ctx, victim.Name)
		return err == nil && counts["orphaned"] == lost && counts[""] == 0, fmt.Sprint(counts, err)
	})
	t.Logf("%d sessions of %d were ended after %s", lost, limit, time.Since(died).Round(time.Millisecond))
	more := line.place(ctx, lost, line.call(10*time.Minute))
	line.waitLive(t, limit)
	if code := line.refusedWith(t.Context()); code != websocket.CloseTryAgainLater {
		t.Errorf("a call over the limit is answered %d, want 1013", code)
	}
	hangUp()
	calls.group.Wait()
	more.group.Wait()
	got := map[string]int{}
	for i, r := range append(calls.reports, more.reports...) {
		if err := append(calls.errs, more.errs...)[i]; err != nil || r.Echo.Wrong+r.Echo.Lost+r.Echo.Extra > 0 {
			t.Errorf("call %d: %v, echo %+v", i, err, r.Echo)
		}
		end := fmt.Sprintf("hung up: %t, code %d", r.HungUp, r.Code)
		if !r.HungUp && (r.Code == websocket.CloseAbnormalClosure || r.Code == websocket.CloseTryAgainLater) {
			end = "lost" // one whose handshake was not answered yet has tried again, as Exotel does, and its place was not free
		}
		got[end]++
	}
	if d := cmp.Diff(map[string]int{"hung up: true, code 1000": limit, "lost": lost}, got); d != "" {
		t.Errorf("how calls ended (-want +got):\n%s", d)
	}
	line.waitLive(t, 0)
	counts := line.settled(t, 5*time.Minute)
	if refused := counts["failed NoRoom"]; counts["failed PodLost"]+counts["uploaded"]+refused != before+limit+lost ||
		counts["failed PodLost"] > lost ||
		counts["failed PodLost"] == 0 ||
		len(counts) > 3 {
		t.Errorf(
			"the captures of %d calls, %d of them of the dead pod, are %v, %d were there before",
			limit+lost,
			lost,
			counts,
			before,
		)
	}
	if keys := line.objects(t); len(keys) != counts["uploaded"] {
		t.Errorf("%d objects are in the bucket, want %d", len(keys), counts["uploaded"])
	}
}

// busiest is the data-plane pod with the most live calls of the Tenant, and how many.
func (x *line) busiest(t *testing.T) (*corev1.Pod, int) {
	t.Helper()
	var name string
	var n int
	if err := x.db.QueryRow(
		t.Context(),
		`SELECT pod, count(*) FROM stream_sessions WHERE tenant = $1 AND ended_at IS NULL GROUP BY 1
			ORDER BY 2 DESC LIMIT 1`,
		x.id(),
	).Scan(&name, &n); err != nil {
		t.Fatal(err)
	}
	return x.pod(t, releaseNamespace, name), n
}

// refusedWith is the status that a call is answered, or the code that it is closed with at once; 0 if it is let in.
func (x *line) refusedWith(ctx context.Context) int {
	report, err := exotelsim.Stream{URL: x.url(), Audio: speech[:320], Duration: time.Minute}.Run(ctx)
	var refused *exotelsim.HandshakeError
	switch {
	case errors.As(err, &refused):
		return refused.Status
	case err == nil && !report.HungUp:
		return report.Code
	}
	return 0
}

// TestSuspendedTenantHangsUp verifies that the live calls of a suspended Tenant end within seconds, and that new calls
// are refused.
func TestSuspendedTenantHangsUp(t *testing.T) {
	line := newLine(t, 100)
	calls := line.place(t.Context(), 10, line.call(10*time.Minute))
	line.waitLive(t, 10)
	line.change(t, `{"suspend":true}`)
	line.waitLive(t, 0)
	calls.group.Wait()
	for i, r := range calls.reports {
		if calls.errs[i] != nil || r.Code != websocket.ClosePolicyViolation || r.Echo.Wrong+r.Echo.Lost > 0 {
			t.Errorf("call %d: %v, ended with %d, echo %+v", i, calls.errs[i], r.Code, r.Echo)
		}
	}
	if counts, err := line.sessions(t.Context(), ""); err != nil || counts["suspended"] != 10 {
		t.Errorf("the rows say %v, %v", counts, err)
	}
	if code := line.refusedWith(t.Context()); code != http.StatusForbidden {
		t.Errorf("a new call is answered %d, want 403", code)
	}
}
