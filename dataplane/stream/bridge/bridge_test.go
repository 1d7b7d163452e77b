package bridge

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// TestRelay verifies that every byte arrives in order, in both directions, for messages of each size.
func TestRelay(t *testing.T) {
	rig := newRig(t, quick(), ConnOptions{}, nil)
	exotel, agent := rig.call()
	exotel.Text(connected, start)
	agent.Expect(connected, start)
	sizes := []int{0, 2, 60, 64, 66, 320, 640, 1600, 3200, 12_000, 12_300, 12_400, 49_000, 49_200, 100_000, 150_000}
	for i, n := range sizes {
		want := speech(i, n)
		exotel.Text(want, dtmf)
		agent.Expect(want, dtmf)
		agent.Text(want, mark(fmt.Sprint(i)), clear)
		exotel.Expect(want, mark(fmt.Sprint(i)), clear)
	}
	exotel.Text(stop)
	agent.Expect(stop)
	if got := expectClose(agent); got != websocket.CloseNormalClosure {
		t.Errorf("the agent was closed with %d", got)
	}
	if got := expectClose(exotel); got != websocket.CloseNormalClosure {
		t.Errorf("Exotel was closed with %d", got)
	}
	end := rig.end()
	if end.Reason != CallEnded || end.Side != exotelSide || end.Err != nil {
		t.Errorf("ended with %+v", end)
	}
	if diff := cmp.Diff([]uint64{uint64(2*len(sizes)) + 3, uint64(3 * len(sizes)), 0, 0},
		[]uint64{end.ToAgent.Frames, end.ToExotel.Frames, end.ToAgent.Dropped, end.ToExotel.Dropped}); diff != "" {
		t.Errorf("frames -want +got:\n%s", diff)
	}
	if end.Start.CallSID != "c1" || end.Start.SampleRate != 8000 {
		t.Errorf("the start was read as %+v", end.Start)
	}
}

// TestCounts shows that a bridge reports its counts at any time while it runs, and the same ones at its end.
func TestCounts(t *testing.T) {
	bridge := make(chan *Bridge, 1)
	rig := newRig(t, quick(), ConnOptions{}, nil)
	rig.made = func(b *Bridge) { bridge <- b }
	exotel, agent := rig.call()
	b := <-bridge
	done := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() { // all the time; the race detector looks on
		var last [2]Counts
		for {
			toAgent, toExotel := b.Counts()
			if toAgent.Frames < last[0].Frames || toAgent.Bytes < last[0].Bytes || toExotel.Frames < last[1].Frames ||
				toAgent.Refused < last[0].Refused {
				t.Errorf("the counts fell from %+v to %+v, %+v", last, toAgent, toExotel)
			}
			last = [2]Counts{toAgent, toExotel}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	exotel.Text(connected, start, "{", speech(1, 320), dtmf) // one of these is malformed
	agent.Expect(connected, start, speech(1, 320), dtmf)
	agent.Text(speech(2, 640), "[")
	exotel.Expect(speech(2, 640))
	size := func(frames ...string) (n uint64) {
		for _, f := range frames {
			n += uint64(len(wstest.FrameBytes(0x81, false, f)))
		}
		return n
	}
	const masked = 4 // a client masks: the key is in every frame to the agent
	want := [2]Counts{{
		Frames:  4,
		Bytes:   size(connected, start, speech(1, 320), dtmf) + 4*masked,
		Refused: 1,
	}, {
		Frames:  1,
		Bytes:   size(speech(2, 640)),
		Refused: 1,
	}}
	var got [2]Counts
	eventually.Within(patience).Holds(t, "all is counted", func() bool {
		got[0], got[1] = b.Counts()
		return got == want
	})
	exotel.Text(stop)
	agent.Expect(stop)
	go expectClose(agent)
	expectClose(exotel)
	end := rig.end()
	close(done)
	asking.Wait()
	got[0], got[1] = b.Counts()
	if diff := cmp.Diff([2]Counts{end.ToAgent, end.ToExotel}, got); diff != "" ||
		end.ToAgent.Frames != want[0].Frames+1 {
		t.Errorf("after its end, %+v (-end +got):\n%s", want, diff)
	}
}

// TestEnds verifies the reason, the side and the close codes of each way to end a call.
func TestEnds(t *testing.T) {
	normal := websocket.CloseNormalClosure
	away := websocket.CloseGoingAway
	for name, tc := range map[string]struct {
		do                    func(r *rig, exotel, agent *wstest.Peer)
		wantReason            Reason
		wantSide              Side
		wantCode              int
		wantExotel, wantAgent int // close codes; 0: not looked at, because that side ended it
	}{
		"stop": {
			do:         func(_ *rig, e, _ *wstest.Peer) { e.Text(stop) },
			wantReason: CallEnded,
			wantSide:   exotelSide,
			wantExotel: normal,
			wantAgent:  normal,
		},
		"Exotel closes": {
			do:         func(_ *rig, e, _ *wstest.Peer) { e.CloseWith(normal, "") },
			wantReason: CallEnded,
			wantSide:   exotelSide,
			wantCode:   normal,
			wantAgent:  normal,
		},
		"Exotel goes away": {
			do:         func(_ *rig, e, _ *wstest.Peer) { e.CloseWith(away, "") },
			wantReason: CallEnded,
			wantSide:   exotelSide,
			wantCode:   away,
			wantAgent:  normal,
		},
		"Exotel closes without a code": {
			do:         func(_ *rig, e, _ *wstest.Peer) { e.Send(0x88, "") },
			wantReason: CallEnded,
			wantSide:   exotelSide,
			wantCode:   websocket.CloseNoStatusReceived,
			wantAgent:  normal,
		},
		"Exotel is gone": {
			do:         func(_ *rig, e, _ *wstest.Peer) { _ = e.Close() },
			wantReason: ExotelLost,
			wantSide:   exotelSide,
			wantAgent:  away,
		},
		"Exotel resets": {
			do:         func(_ *rig, e, _ *wstest.Peer) { e.Reset() },
			wantReason: ExotelLost,
			wantSide:   exotelSide,
			wantAgent:  away,
		},
		"the agent closes": {
			do:         func(_ *rig, _, a *wstest.Peer) { a.CloseWith(normal, "goodbye") },
			wantReason: AgentClosed,
			wantSide:   agentSide,
			wantCode:   normal,
			wantExotel: normal,
		},
		"the agent closes with its own code": {
			do:         func(_ *rig, _, a *wstest.Peer) { a.CloseWith(4001, "goodbye") },
			wantReason: AgentClosed,
			wantSide:   agentSide,
			wantCode:   4001,
			wantExotel: normal,
		},
		"the agent fails": {
			do:         func(_ *rig, _, a *wstest.Peer) { a.CloseWith(websocket.CloseInternalServerErr, "") },
			wantReason: AgentLost,
			wantSide:   agentSide,
			wantCode:   websocket.CloseInternalServerErr,
			wantExotel: normal,
		},
		"the agent is gone": {
			do:         func(_ *rig, _, a *wstest.Peer) { _ = a.Close() },
			wantReason: AgentLost,
			wantSide:   agentSide,
			wantExotel: normal,
		},
		"the agent resets": {
			do:         func(_ *rig, _, a *wstest.Peer) { a.Reset() },
			wantReason: AgentLost,
			wantSide:   agentSide,
			wantExotel: normal,
		},
		"the pod drains": {
			do:         func(r *rig, _, _ *wstest.Peer) { r.cut(errors.New("shutting down")) },
			wantReason: Drained,
			wantExotel: away,
			wantAgent:  away,
		},
		"a person closes": {
			do:         func(r *rig, _, _ *wstest.Peer) { r.cut(&Cut{Reason: Closed, Code: normal}) },
			wantReason: Closed,
			wantExotel: normal,
			wantAgent:  normal,
		},
		"its row has ended": {
			do:         func(r *rig, _, _ *wstest.Peer) { r.cut(&Cut{Reason: Orphaned}) },
			wantReason: Orphaned,
			wantExotel: away,
			wantAgent:  away,
		},
		"the tenant is suspended": {
			do: func(r *rig, _, _ *wstest.Peer) {
				r.cut(&Cut{
					Reason: Suspended,
					Code:   websocket.ClosePolicyViolation,
				})
			},
			wantReason: Suspended,
			wantExotel: websocket.ClosePolicyViolation,
			wantAgent:  websocket.ClosePolicyViolation,
		},
		"the call is too long": {
			do: func(r *rig, _, _ *wstest.Peer) {
				r.cut(fmt.Errorf("an hour is over: %w", &Cut{
					Reason: Limit,
					Code:   normal,
				}))
			},
			wantReason: Limit,
			wantExotel: normal,
			wantAgent:  normal,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, quick(), ConnOptions{}, nil)
			exotel, agent := r.call()
			exotel.Text(connected, start)
			agent.Expect(connected, start)
			tc.do(r, exotel, agent)
			codes := make(chan int, 1)
			go func() { codes <- expectClose(agent) }()
			if got := expectClose(exotel); tc.wantExotel != 0 && got != tc.wantExotel {
				t.Errorf("Exotel was closed with %d, want %d", got, tc.wantExotel)
			}
			if got := <-codes; tc.wantAgent != 0 && got != tc.wantAgent {
				t.Errorf("the agent was closed with %d, want %d", got, tc.wantAgent)
			}
			end := r.end()
			if end.Reason != tc.wantReason || end.Side != tc.wantSide {
				t.Errorf(
					"ended with %s of %q (%v), want %s of %q",
					end.Reason,
					end.Side,
					end.Err,
					tc.wantReason,
					tc.wantSide,
				)
			}
			if tc.wantCode != 0 && end.Code != tc.wantCode {
				t.Errorf("the code is %d, want %d", end.Code, tc.wantCode)
			}
		})
	}
}
