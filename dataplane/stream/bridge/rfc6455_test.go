package bridge

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// either runs a case with each side in the role of the one that misbehaves.
func either(t *testing.T, test func(t *testing.T, r *rig, from, to *wstest.Peer)) {
	t.Helper()
	for _, name := range []string{"from Exotel", "from the agent"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, quick(), ConnOptions{}, nil)
			exotel, agent := r.call()
			exotel.Text(connected, start)
			agent.Expect(connected, start)
			if name == "from Exotel" {
				test(t, r, exotel, agent)
			} else {
				test(t, r, agent, exotel)
			}
		})
	}
}

// TestFragments verifies that a fragmented message arrives whole with control frames in between. The next message is
// relayed as usual.
func TestFragments(t *testing.T) {
	either(t, func(t *testing.T, _ *rig, from, to *wstest.Peer) {
		m := speech(7, 3200)
		for range 3 {
			from.Send(0x01, m[:10])
			from.Send(0x89, "are you there")
			from.Send(0x00, m[10:10], m[10:2000])
			from.Send(0x8a, "nobody asked")
			from.Send(0x80, m[2000:])
			from.Text(dtmf)
			to.Expect(m, dtmf)
			if f, err := from.Read(); err != nil || f.First != 0x8a || f.Payload != "are you there" {
				t.Fatalf("the ping was answered with %#x %q, %v", f.First, f.Payload, err)
			}
		}
	})
}

// TestBytewise verifies that frames are found when each byte arrives alone.
func TestBytewise(t *testing.T) {
	either(t, func(_ *testing.T, _ *rig, from, to *wstest.Peer) {
		m := speech(7, 320)
		var all []byte
		all = append(all, frameBytes(0x81, from.Client, dtmf)...)
		all = append(all, frameBytes(0x89, from.Client, "")...)
		all = append(all, frameBytes(0x81, from.Client, m)...)
		for i := range all {
			from.Bytes(all[i : i+1])
		}
		to.Expect(dtmf, m)
	})
}

// TestManyInOnePacket verifies that many frames in one packet, control frames among them, leave in order.
func TestManyInOnePacket(t *testing.T) {
	either(t, func(_ *testing.T, _ *rig, from, to *wstest.Peer) {
		var all []byte
		var want []string
		for i := range 300 {
			m := speech(i, 320)
			all = append(all, frameBytes(0x81, from.Client, m)...)
			if i%50 == 0 {
				all = append(all, frameBytes(0x89, from.Client, "x")...)
			}
			want = append(want, m)
		}
		from.Bytes(all)
		to.Expect(want...)
	})
}

// TestViolations verifies that a side that breaks the protocol is closed with the code of RFC 6455. The other side gets
// an orderly close.
func TestViolations(t *testing.T) {
	for name, tc := range wstest.Violations() {
		t.Run(name, func(t *testing.T) {
			either(t, func(t *testing.T, r *rig, from, to *wstest.Peer) {
				_, _ = from.Write(tc.Frames(from.Client)) // it may be closed before it took all
				codes := make(chan int, 1)
				go func() { codes <- expectClose(to) }()
				if got := expectClose(from); tc.Code != 0 && got != tc.Code {
					t.Errorf("closed with %d, want %d", got, tc.Code)
				}
				want := websocket.CloseGoingAway
				if to.Client || tc.Ended {
					want = websocket.CloseNormalClosure
				}
				if got := <-codes; got != want {
					t.Errorf("the other side was closed with %d, want %d", got, want)
				}
				end := r.end()
				if !tc.Ended && end.Reason != ProtocolError {
					t.Errorf("ended with %s: %v", end.Reason, end.Err)
				}
				wantSide := exotelSide
				if !from.Client {
					wantSide = agentSide
				}
				if end.Side != wantSide {
					t.Errorf("it was %q, want %q", end.Side, wantSide)
				}
			})
		})
	}
}

// TestMistakesAreForgiven verifies that a few frames outside the protocol are skipped and counted. JSON in a binary
// frame is relayed as text.
func TestMistakesAreForgiven(t *testing.T) {
	either(t, func(t *testing.T, r *rig, from, to *wstest.Peer) {
		for range 3 {
			from.Send(0x82, "\xff\xfe\xfd")
			for range maxRefused - 2 {
				from.Text(`not JSON`)
			}
			from.Send(0x82, dtmf)
			to.Expect(dtmf)
		}
		r.cut(nil)
		end := r.end()
		if got := end.ToAgent.Refused + end.ToExotel.Refused; got != 3*(maxRefused-1) {
			t.Errorf("%d were counted, want %d", got, 3*(maxRefused-1))
		}
		if end.Oddities[3] != 3 {
			t.Errorf("%d binary frames were counted", end.Oddities[3])
		}
	})
}

// TestPingsAreAnswered verifies that the bridge answers pings with their data.
func TestPingsAreAnswered(t *testing.T) {
	either(t, func(t *testing.T, _ *rig, from, _ *wstest.Peer) {
		for _, data := range []string{"", "a", strings.Repeat("x", 125)} {
			from.Send(0x89, data)
			if f, err := from.Read(); err != nil || f.First != 0x8a || f.Payload != data {
				t.Errorf("answered %#x %q, %v", f.First, f.Payload, err)
			}
		}
	})
}

// TestAgentSpeaksWithItsHandshake verifies that frames in the same packet as the agent's handshake answer are relayed.
func TestAgentSpeaksWithItsHandshake(t *testing.T) {
	rig := newRig(t, quick(), ConnOptions{}, nil)
	first := speech(1, 320)
	answered := make(chan *wstest.Peer)
	go func() {
		said := string(frameBytes(0x81, false, first)) + string(frameBytes(0x81, false, clear))
		answered <- wstest.Accept(t, <-rig.agents, said)
	}()
	exotel := dialRaw(t, rig.server.Listener.Addr().String())
	exotel.Expect(first, clear)
	<-answered
}

// TestEagerClient checks that data before the handshake's answer is refused.
func TestEagerClient(t *testing.T) {
	refused := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := Upgrade(w, r, ConnOptions{})
		refused <- err
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(
		conn,
		"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: "+testKey+"\r\n\r\n"+string(frameBytes(0x81, true, connected)),
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-refused; err == nil {
		t.Error("the connection was taken")
	}
}

// TestFlooderIsCutInTime verifies that a flood of pings ends the call, even without other messages.
func TestFlooderIsCutInTime(t *testing.T) {
	rig := newRig(t, quick(), ConnOptions{}, nil)
	_, agent := rig.call()
	go func() {
		for {
			if _, err := agent.Write(frameBytes(0x89, false, strings.Repeat("x", 125))); err != nil {
				return
			}
		}
	}()
	began := time.Now()
	if end := rig.end(); end.Reason != ProtocolError || end.Side != agentSide {
		t.Errorf("ended with %+v", end)
	}
	if time.Since(began) > patience/2 {
		t.Error("it took too long")
	}
}
