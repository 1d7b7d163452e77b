package stream

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// TestAgentsAnswers verifies that each answer of an agent other than a WebSocket refuses the call in time. No session
// begins, and no redirect is followed.
func TestAgentsAnswers(t *testing.T) {
	elsewhere := listen(t)
	rig := newWiredRig(t, func(o *Options, _ *registry.Options) { o.DialWithin = 700 * time.Millisecond })
	for name, tc := range map[string]struct {
		answer string
		stay   bool // the connection is held open
		want   string
	}{
		"unauthorized": {
			answer: "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
			want:   dialRejected,
		},
		"unavailable": {
			answer: "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nbusy",
			want:   dialRejected,
		},
		"body, no end": {
			answer: "HTTP/1.1 500 Oops\r\n\r\n" + strings.Repeat("x", 8<<10),
			stay:   true,
			want:   dialRejected,
		},
		"redirect": {
			answer: "HTTP/1.1 302 Found\r\nLocation: ws://" + elsewhere.Addr().String() + "/\r\nContent-Length: 0\r\n\r\n",
			want:   dialRejected,
		},
		"not upgraded": {answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", want: dialRejected},
		"another key": {
			answer: "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
			want:   dialRejected,
		},
		"garbage":        {answer: "SSH-2.0-OpenSSH_9.6\r\n\r\n", want: dialUnreachable},
		"half an answer": {answer: "HTTP/1.1 101 Switching", want: dialUnreachable},
		"no end of it": {
			answer: "HTTP/1.1 101 x\r\n" + strings.Repeat("X-Long: "+strings.Repeat("x", 1000)+"\r\n", 100),
			stay:   true,
			want:   dialUnreachable,
		},
		"nothing": {want: dialUnreachable},
		"silence": {stay: true, want: dialTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			rig.t = t
			before := value(t, rig.h.m.dials[tc.want])
			refused := rig.refused(reasonAgent)
			done := make(chan struct{})
			go func() { defer close(done); rig.answerWith(tc.answer, tc.stay) }()
			resp, err := wstest.Connect(t, rig.address).Ask(wstest.Request(rig.path) + "\r\n")
			if err == nil {
				err = isProblem(resp, http.StatusBadGateway)
			}
			if err != nil {
				t.Error(err)
			}
			<-done
			if n, m := value(t, rig.h.m.dials[tc.want])-before, rig.refused(reasonAgent)-refused; n != 1 ||
				m != 1 {
				t.Errorf("%v dials are counted as %s, %v refusals", n, tc.want, m)
			}
			if line := `tenant=acme/support call="" agent=127.0.0.1 reason=` + tc.want; !strings.Contains(
				rig.log.String(), line,
			) {
				t.Errorf("the log lacks %s", line)
			}
			rig.nothingLeft()
			if len(rig.rows("")) != 0 {
				t.Error("there was a session")
			}
		})
	}
	_ = elsewhere.(*net.TCPListener).SetDeadline(time.Now().Add(time.Millisecond))
	if conn, err := elsewhere.Accept(); err == nil {
		_ = conn.Close()
		t.Error("the redirect was followed")
	}
	if log := rig.log.String(); strings.Contains(log, "hush") || strings.Contains(log, "opens the agent") {
		t.Error("a secret of the agent is in the log")
	}
}

// answerWith is an agent that says no more than this.
func (r *rig) answerWith(answer string, stay bool) {
	conn, err := r.accept()
	if err != nil {
		r.t.Error(err)
		return
	}
	defer func() { _ = conn.Close() }()
	if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
		r.t.Error(err)
		return
	}
	_, _ = conn.Write([]byte(answer)) // the reader may have had enough
	if stay {
		_ = conn.SetReadDeadline(time.Now().Add(wstest.Patience))
		_, _ = conn.Read(make([]byte, 1)) // until it is closed
	}
}

// TestReconnect checks that an agent that breaks off is dialled a second time, gets the start of the stream again, and
// goes on. The second time is the last.
func TestReconnect(t *testing.T) {
	for name, tc := range map[string]struct {
		breaks    func(*wstest.Peer)
		reconnect bool
		want      row
		wantCode  int
	}{
		"reset": {(*wstest.Peer).Reset, true, row{string(bridge.AgentLost), true, true}, 1000},
		"restart": {
			func(p *wstest.Peer) { p.CloseWith(1012, "restart") },
			true,
			row{string(bridge.AgentLost), true, true},
			1000,
		},
		"not wanted": {(*wstest.Peer).Reset, false, row{string(bridge.AgentLost), true, false}, 1000},
		"on purpose": {
			func(p *wstest.Peer) { p.CloseWith(1000, "") },
			true,
			row{string(bridge.AgentClosed), true, false},
			1000,
		},
		"a wrong frame": {
			func(p *wstest.Peer) { p.Send(0xc1, "x") },
			true,
			row{string(bridge.ProtocolError), true, false},
			1000,
		},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newWiredRig(t, nil)
			rig.audio(func(a *tenantconfig.Audio) { a.Reconnect = tc.reconnect })
			exotel, agent := rig.begin("call")
			exotel.Text(media(1))
			agent.Expect(media(1))
			if tc.want.Reconnected {
				again := make(chan *wstest.Peer, 1)
				go func() { again <- rig.answer() }()
				tc.breaks(agent)
				if agent = <-again; agent == nil {
					t.FailNow()
				}
				exotel.Text(dtmf)
				agent.Expect(connected, startOf("call"), dtmf)
				agent.Text(media(2))
				exotel.Expect(media(2))
			}
			tc.breaks(agent)
			if got := closedWith(exotel); got.Code != tc.wantCode || got.Text != tc.want.Reason {
				t.Errorf("Exotel was told %+v", got)
			}
			rig.nothingLeft()
			if diff := cmp.Diff([]row{tc.want}, rig.rows("call")); diff != "" {
				t.Errorf("the session's row (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReconnectInVain verifies that a call waits for a lost agent no longer than its bound.
func TestReconnectInVain(t *testing.T) {
	rig := newWiredRig(t, func(o *Options, _ *registry.Options) { o.Bridge.RedialWithin = 200 * time.Millisecond })
	rig.audio(func(a *tenantconfig.Audio) { a.Reconnect = true })
	exotel, agent := rig.begin("call")
	agent.Reset() // and new connections are not answered
	if got := closedWith(exotel); got != (closed{1000, string(bridge.AgentLost)}) {
		t.Errorf("Exotel was told %+v", got)
	}
	rig.nothingLeft()
	if n := value(t, rig.h.m.dials[dialTimeout]); n != 1 {
		t.Errorf("%v dials are counted as given up", n)
	}
}
