package stream

import (
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// eitherSide runs a case with each peer in the role of the one that misbehaves, and looks at what is left behind.
func eitherSide(t *testing.T, r *rig, want bridge.Reason, test func(t *testing.T, from, to *wstest.Peer)) {
	t.Helper()
	for name, fromAgent := range map[string]bool{"from Exotel": false, "from the agent": true} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			callSID := strings.NewReplacer(" ", "-", "/", "-").Replace(t.Name())
			before := r.ends(want)
			from, to := r.begin(callSID)
			if fromAgent {
				from, to = to, from
			}
			test(t, from, to)
			r.nothingLeft()
			if diff := cmp.Diff([]row{{Reason: string(want), Ended: true}}, r.rows(callSID)); diff != "" {
				t.Errorf("the session's row (-want +got):\n%s", diff)
			}
			if n := r.ends(want) - before; n != 1 {
				t.Errorf("%v ends of %s are counted", n, want)
			}
		})
	}
}

// TestViolations verifies that a peer that breaks RFC 6455 is closed with its code. The other side gets the reason, the
// session ends, and nothing is left.
func TestViolations(t *testing.T) {
	rig := newWiredRig(t, nil)
	for name, tc := range wstest.Violations() {
		if tc.Ended {
			continue // it is a close
		}
		t.Run(name, func(t *testing.T) {
			eitherSide(t, rig, bridge.ProtocolError, func(t *testing.T, from, to *wstest.Peer) {
				told := make(chan closed, 1)
				go func() { told <- closedWith(to) }()
				_, _ = from.Write(tc.Frames(from.Client)) // it may be closed before it took all
				if got := closedWith(from); tc.Code != 0 && got.Code != tc.Code {
					t.Errorf("closed with %+v, want %d", got, tc.Code)
				}
				want := closed{1001, "protocol_error"}
				if to.Client {
					want.Code = 1000 // Exotel's flow goes on
				}
				if diff := cmp.Diff(want, <-told); diff != "" {
					t.Errorf("the other side was told (-want +got):\n%s", diff)
				}
			})
		})
	}
}

type closed struct {
	Code int
	Text string
}

func closedWith(p *wstest.Peer) closed {
	code, text := p.Closed()
	return closed{code, text}
}

// TestCloseCodes verifies for each close code whether it ends a call in order or breaks the protocol.
func TestCloseCodes(t *testing.T) {
	rig := newWiredRig(t, nil)
	for code, valid := range wstest.CloseCodes() {
		for name, payload := range map[string]string{"bare": "", "with a text": "so long, ünd fare well"} {
			t.Run(name, func(t *testing.T) {
				rig.t = t
				callSID := "close"
				exotel, agent := rig.begin(callSID)
				exotel.Send(
					0x88, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+payload,
				) //nolint:gosec // all fit
				want := closed{1000, "call_ended"}
				wantSelf := code
				switch {
				case !valid:
					want = closed{1001, "protocol_error"}
					wantSelf = 1002
				case code >= 1011 && code <= 1013: // it fell over
					want = closed{1001, "exotel_lost"}
				}
				if diff := cmp.Diff(want, closedWith(agent)); diff != "" {
					t.Errorf("%d: the agent was told (-want +got):\n%s", code, diff)
				}
				if got := closedWith(exotel); got.Code != wantSelf {
					t.Errorf("%d was answered %+v, want %d", code, got, wantSelf)
				}
				rig.nothingLeft()
			})
		}
	}
}

// TestAgentsCloseCodes verifies that only an agent that failed or restarts counts as lost. Other codes end the call on
// purpose. Exotel's flow goes on.
func TestAgentsCloseCodes(t *testing.T) {
	rig := newWiredRig(t, nil)
	for code, valid := range wstest.CloseCodes() {
		exotel, agent := rig.begin("call")
		agent.Send(0x88, string(binary.BigEndian.AppendUint16(nil, uint16(code)))) //nolint:gosec // all fit
		want := closed{1000, "agent_closed"}
		switch {
		case !valid:
			want.Text = "protocol_error"
		case code == 1001 || code >= 1011 && code <= 1013:
			want.Text = "agent_lost"
		}
		if diff := cmp.Diff(want, closedWith(exotel)); diff != "" {
			t.Errorf("%d: Exotel was told (-want +got):\n%s", code, diff)
		}
	}
	rig.nothingLeft()
}

// TestTolerated verifies that rare forms that RFC 6455 allows arrive whole and in order.
func TestTolerated(t *testing.T) {
	rig := newWiredRig(t, nil)
	long := `{"event":"media","stream_sid":"s1","media":{"payload":"` + strings.Repeat("AAAA", 100_000/3) + `"}}`
	for name, tc := range map[string]struct {
		send func(p *wstest.Peer)
		want []string
	}{
		"in parts, with control frames between": {func(p *wstest.Peer) {
			p.Send(0x01, dtmf[:5])
			p.Send(0x89, "still there?")
			p.Send(0x00, "", dtmf[5:9])
			p.Send(0x8a, "unasked")
			p.Send(0x80, dtmf[9:])
		}, []string{dtmf}},
		"in parts of a byte": {func(p *wstest.Peer) {
			p.Send(0x01, "")
			p.Send(0x00, strings.Split(dtmf, "")...)
			p.Send(0x80, "")
		}, []string{dtmf}},
		"bytewise": {func(p *wstest.Peer) {
			for _, b := range append(wstest.FrameBytes(0x81, p.Client,
				dtmf), wstest.FrameBytes(0x81, p.Client, media(1))...) {
				p.Bytes([]byte{b})
			}
		}, []string{dtmf, media(1)}},
		"many in one packet": {
			func(p *wstest.Peer) { p.Text(media(1), dtmf, media(2), media(3)) },
			[]string{media(1), dtmf, media(2), media(3)},
		},
		"Exotel's largest": {func(p *wstest.Peer) { p.Text(long, dtmf) }, []string{long, dtmf}},
		"as many pings as a peer may send": {func(p *wstest.Peer) {
			p.Send(0x89, make([]string, 99)...)
			p.Text(dtmf)
		}, []string{dtmf}},
	} {
		t.Run(name, func(t *testing.T) {
			eitherSide(t, rig, bridge.CallEnded, func(_ *testing.T, from, to *wstest.Peer) {
				tc.send(from)
				to.Expect(tc.want...)
				if from.Client {
					from.Text(stop)
				} else {
					to.Text(stop)
				}
				closedWith(from)
				closedWith(to)
			})
		})
	}
}

// TestPings verifies that each ping is answered with its own data and never relayed.
func TestPings(t *testing.T) {
	rig := newWiredRig(t, nil)
	exotel, agent := rig.begin("call")
	for _, p := range []*wstest.Peer{exotel, agent} {
		for _, data := range []string{"", "a", strings.Repeat("x", 125)} {
			p.Send(0x89, data)
			if frame, err := p.Read(); err != nil || frame != (wstest.Frame{First: 0x8a, Payload: data}) {
				t.Errorf("a ping with %q was answered %+v, %v", data, frame, err)
			}
		}
	}
	exotel.Text(dtmf)
	agent.Expect(dtmf)
}

// TestGone verifies the end of a call whose peer disappears without a close.
func TestGone(t *testing.T) {
	rig := newWiredRig(t, nil)
	for name, tc := range map[string]struct {
		exotel, agent func(*wstest.Peer)
		want          bridge.Reason
		wantTold      int
	}{
		"Exotel resets": {exotel: (*wstest.Peer).Reset, want: bridge.ExotelLost, wantTold: 1001},
		"Exotel ends": {
			exotel:   func(p *wstest.Peer) { _ = p.Close() },
			want:     bridge.ExotelLost,
			wantTold: 1001,
		},
		"Exotel half-closes":       {exotel: halfClose, want: bridge.ExotelLost, wantTold: 1001},
		"Exotel, within a frame":   {exotel: cutFrame, want: bridge.ExotelLost, wantTold: 1001},
		"Exotel, within a message": {exotel: cutMessage, want: bridge.ExotelLost, wantTold: 1001},
		"agent resets":             {agent: (*wstest.Peer).Reset, want: bridge.AgentLost, wantTold: 1000},
		"agent ends": {
			agent:    func(p *wstest.Peer) { _ = p.Close() },
			want:     bridge.AgentLost,
			wantTold: 1000,
		},
		"agent half-closes":       {agent: halfClose, want: bridge.AgentLost, wantTold: 1000},
		"agent, within a frame":   {agent: cutFrame, want: bridge.AgentLost, wantTold: 1000},
		"agent, within a message": {agent: cutMessage, want: bridge.AgentLost, wantTold: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			rig.t = t
			exotel, agent := rig.begin("call " + name)
			other := exotel
			if tc.exotel != nil {
				tc.exotel(exotel)
				other = agent
			} else {
				tc.agent(agent)
			}
			if diff := cmp.Diff(closed{tc.wantTold, string(tc.want)}, closedWith(other)); diff != "" {
				t.Errorf("the other side was told (-want +got):\n%s", diff)
			}
			rig.nothingLeft()
			if diff := cmp.Diff([]row{{Reason: string(tc.want), Ended: true}}, rig.rows("call "+name)); diff != "" {
				t.Errorf("the session's row (-want +got):\n%s", diff)
			}
		})
	}
}

func halfClose(p *wstest.Peer) { _ = p.Conn.(*net.TCPConn).CloseWrite() }

func cutFrame(p *wstest.Peer) {
	p.Bytes(wstest.FrameBytes(0x81, p.Client, media(1))[:100])
	_ = p.Close()
}

func cutMessage(p *wstest.Peer) {
	p.Send(0x01, media(1)[:100])
	_ = p.Close()
}

// TestDead verifies that a connected peer that answers no pings is found and its call ended.
func TestDead(t *testing.T) {
	for name, exotelDies := range map[string]bool{"Exotel": true, "agent": false} {
		t.Run(name, func(t *testing.T) {
			rig := newWiredRig(t, func(o *Options, _ *registry.Options) {
				o.Bridge.PingEvery = 300 * time.Millisecond
				o.Bridge.PongWithin = 200 * time.Millisecond
			})
			exotel, agent := rig.begin("call")
			alive := exotel
			want := closed{1000, string(bridge.AgentLost)}
			if exotelDies {
				alive, want = agent, closed{1001, string(bridge.ExotelLost)}
			}
			if diff := cmp.Diff(want, answering(alive)); diff != "" {
				t.Errorf("the other side was told (-want +got):\n%s", diff)
			}
			rig.nothingLeft()
		})
	}
}

// answering answers pings until it is closed.
func answering(p *wstest.Peer) closed {
	for {
		frame, err := p.Read()
		switch {
		case err != nil:
			return closed{}
		case frame.First == 0x89:
			p.Send(0x8a, frame.Payload)
		case frame.First == 0x88:
			p.Send(0x88, frame.Payload)
			return closed{int(binary.BigEndian.Uint16([]byte(frame.Payload))), frame.Payload[2:]}
		}
	}
}
