package streams

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// TestStreamsOfAKilledPod verifies that another pod ends the sessions of a killed pod as orphans within a minute. The
// tenant's limit is exact before the kill, and all of it is available again afterwards. With 300 calls: make test-load.
func TestStreamsOfAKilledPod(t *testing.T) {
	t.Parallel() // it waits for most of its minute
	calls := sized(t, "CALY_LOAD_KILLED_CALLS", 60, strconv.Atoi)
	agent, err := agentsim.NewServer(agentsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(agent.Close)
	killed := newStreamPod(t, pgtest.New(t), "killed", agent.URL(), calls).run()
	other := killed.another("other").run()
	fleet, err := killed.calls(calls, "killed", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fleet.Close)
	if err := fleet.Talk(t.Context(), 3*time.Second, patience).Err(); err != nil {
		t.Error(err)
	}
	if code := other.refusal(); code != websocket.CloseTryAgainLater {
		t.Errorf("one more than the tenant may have was refused with %d by another pod", code)
	}
	eventually.Holds(t, "the rejected call has left the agent", func() bool { return agent.Live() == calls })
	killed.Kill()
	at := time.Now()
	killed.End()
	if end := fleet.Listen(t.Context(), patience); !cmp.Equal(map[int]int{1006: calls}, end.Codes) {
		t.Errorf("Exotel's side was closed with %v", end.Codes)
	}
	eventually.Holds(t, "the agent has no socket of the dead pod", func() bool { return agent.Live() == 0 })
	if code := other.refusal(); code != websocket.CloseTryAgainLater {
		t.Errorf("before the orphans were found one more stream was refused with %d", code)
	}
	orphaned := other.awaitOrphans(t, calls, at)
	t.Logf(
		"%d sessions of a pod that was killed were ended %s later, on %s",
		calls,
		orphaned.Round(100*time.Millisecond),
		machine(),
	)
	again, err := other.calls(calls, "again", 0)
	if err != nil {
		t.Fatalf("the tenant's places are not free: %v", err)
	}
	t.Cleanup(again.Close)
	if code := other.refusal(); code != websocket.CloseTryAgainLater {
		t.Errorf("one more than the tenant may have was refused with %d afterwards", code)
	}
	if err := again.Talk(t.Context(), time.Second, patience).Err(); err != nil {
		t.Error(err)
	}
	if end := again.HangUp(t.Context(), patience); !cmp.Equal(map[int]int{1000: calls}, end.Codes) {
		t.Errorf("closed with %v", end.Codes)
	}
	eventually.Holds(t, "every session has ended", func() bool { return other.sessions(t, "ended_at IS NULL") == 0 })
	if n := other.sessions(t, "pod = 'other' AND end_reason = 'call_ended'"); n != calls {
		t.Errorf("%d sessions of the other pod ended in order, want %d", n, calls)
	}
}

// awaitOrphans waits until the dead pod's sessions are ended as such, all of them and no other, and tells how long that took.
func (s *streamPod) awaitOrphans(t *testing.T, calls int, since time.Time) time.Duration {
	t.Helper()
	const within = 75 * time.Second // a minute, on a machine that may be busy
	eventually.Within(within-time.Since(since)).Succeeds(t, func(context.Context) error {
		if n := s.sessions(t, "ended_at IS NULL"); n > 0 {
			return fmt.Errorf("%d sessions of the dead pod live", n)
		}
		return nil
	})
	took := time.Since(since)
	if n := s.sessions(t, "pod = 'killed' AND end_reason = 'orphaned'"); n != calls {
		t.Errorf("%d sessions were ended as orphans, want %d", n, calls)
	}
	return took
}
