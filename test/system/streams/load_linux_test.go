package streams

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/fleet"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// sums over the sessions of a run.
type sums struct{ Rows, Calls, Ended, ToAgent, ToExotel, Dropped int64 }

// TestStreamsUnderLoad verifies that each frame returns to its call, in order and unchanged, with many calls at once.
// The data plane and the agent are separate processes. Each session is stored and ends once. With 1,000 calls for a
// minute: make test-load.
func TestStreamsUnderLoad(t *testing.T) {
	calls := sized(t, "CALY_LOAD_CALLS", 50, strconv.Atoi)
	lasts := sized(t, "CALY_LOAD_FOR", 3*time.Second, time.ParseDuration)
	pace := sized(t, "CALY_LOAD_PACE", 20*time.Millisecond, time.ParseDuration)
	echo, address := echoAgent(t)
	straight, err := fleet.Dial(t.Context(), fleet.Options{Address: address, Path: "/stream", Calls: calls, Pace: pace})
	if err != nil {
		t.Fatal(err)
	}
	alone := straight.Talk(t.Context(), min(lasts, 10*time.Second), patience)
	straight.Close()
	if err := alone.Err(); err != nil {
		t.Errorf("without a data plane: %v", err)
	}
	pod := newStreamPod(t, pgtest.New(t), "loaded", "ws://"+address+"/stream", calls).run()
	empty := pod.residentKiB()
	f, err := pod.calls(calls, "load", pace)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	if n := pod.sessions(t, "ended_at IS NULL"); n != calls ||
		pod.Metric("caly_stream_sessions_live") != float64(calls) {
		t.Errorf("%d sessions are kept, %g streams live, want %d", n, pod.Metric("caly_stream_sessions_live"), calls)
	}
	if code := pod.refusal(); code != websocket.CloseTryAgainLater {
		t.Errorf("one more than the tenant may have was refused with %d", code)
	}
	begin := time.Now()
	before := pod.CPU()
	agentBefore := echo.CPU()
	report := f.Talk(t.Context(), lasts, patience)
	spent := pod.CPU() - before
	took := time.Since(begin)
	t.Logf(
		"%d calls with frames of %s for %s on %s: %d frames there and back, %d equal, %d wrong, %d missing; round "+
			"trip p50 %s p99 %s, straight to the agent p50 %s p99 %s; "+
			"sent at most %s late",
		calls,
		pace,
		lasts,
		machine(),
		report.Sent,
		report.Equal,
		report.Wrong,
		report.Missing,
		report.Quantile(.5),
		report.Quantile(.99),
		alone.Quantile(.5),
		alone.Quantile(.99),
		report.Late,
	)
	t.Logf(
		"the data plane took %.2f of a core, %.0f us of CPU in a second of a call, %.1f KiB of memory for a call "+
			"with %d KiB more; the agent %.2f of a core",
		spent.Seconds()/took.Seconds(),
		spent.Seconds()*1e6/took.Seconds()/float64(calls),
		float64(pod.residentKiB()-empty)/float64(calls),
		empty,
		(echo.CPU()-agentBefore).Seconds()/took.Seconds(),
	)
	if err := report.Err(); err != nil {
		t.Error(err)
	}
	if end := f.HangUp(t.Context(), patience); !cmp.Equal(map[int]int{1000: calls}, end.Codes) {
		t.Errorf("closed with %v", end.Codes)
	}
	eventually.Holds(t, "every session has ended", func() bool { return pod.sessions(t, "ended_at IS NULL") == 0 })
	var got sums
	pod.query(
		t, []any{&got.Rows, &got.Calls, &got.Ended, &got.ToAgent, &got.ToExotel, &got.Dropped},
		`SELECT count(*), count(DISTINCT call_sid),
		count(*) FILTER (WHERE end_reason = 'call_ended' AND pod = 'loaded' AND stream_sid = call_sid),
			sum(frames_to_agent)::bigint,
		sum(frames_to_exotel)::bigint, sum(dropped_to_agent + dropped_to_exotel)::bigint FROM stream_sessions`,
	)
	n := int64(calls) // of each, also connected, start and stop
	if diff := cmp.Diff(sums{
		Rows:     n,
		Calls:    n,
		Ended:    n,
		ToAgent:  report.Sent + 3*n,
		ToExotel: report.Sent,
	}, got); diff != "" {
		t.Errorf("the sessions (-want +got):\n%s", diff)
	}
	eventually.Holds(t, "no stream is live", func() bool { return pod.Metric("caly_stream_sessions_live") == 0 })
}
