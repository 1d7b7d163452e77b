package stream

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// newWiredRig returns a rig whose two peers are the test's, byte by byte.
func newWiredRig(t *testing.T, change func(*Options, *registry.Options)) *rig {
	t.Helper()
	r := newRig(t, agentsim.Options{}, func(o *Options, l *registry.Options) {
		o.Bridge.CloseWithin = 500 * time.Millisecond
		if change != nil {
			change(o, l)
		}
	})
	r.agents = listen(t)
	r.audio(func(a *tenantconfig.Audio) { a.AgentURL = "ws://" + r.agents.Addr().String() + "/stream?key=hush" })
	return r
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// accept is the connection of the next dial to the agent.
func (r *rig) accept() (net.Conn, error) {
	_ = r.agents.(*net.TCPListener).SetDeadline(time.Now().Add(wstest.Patience))
	conn, err := r.agents.Accept()
	if err == nil {
		r.t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

// answer is the agent of the next dial.
func (r *rig) answer() *wstest.Peer {
	conn, err := r.accept()
	if err != nil {
		r.t.Errorf("nobody dialled the agent: %v", err)
		return nil
	}
	return wstest.Accept(r.t, conn, "")
}

// begin opens a stream, up to its start.
func (r *rig) begin(callSID string) (exotel, agent *wstest.Peer) {
	r.t.Helper()
	answered := make(chan *wstest.Peer, 1)
	go func() { answered <- r.answer() }()
	exotel = wstest.Dial(r.t, r.address, r.path)
	if agent = <-answered; agent == nil {
		r.t.FailNow()
	}
	exotel.Text(connected, startOf(callSID))
	agent.Expect(connected, startOf(callSID))
	return exotel, agent
}

// row of a call's session.
type row struct {
	Reason      string
	Ended       bool
	Reconnected bool
}

// rows of a call's sessions; of all, if it has no name.
func (r *rig) rows(callSID string) []row {
	r.t.Helper()
	return pgtest.Rows[row](
		r.t,
		r.db.Server,
		`SELECT end_reason, ended_at IS NOT NULL, reconnected FROM stream_sessions WHERE $1 IN ('', call_sid)`,
		callSID,
	)
}

// nothingLeft waits until there is no bridge, no taken place and no row without an end.
func (r *rig) nothingLeft() {
	r.t.Helper()
	soon.Holds(r.t, "nothing is left", func() bool {
		places := r.h.places.InUse() + r.h.bodies.InUse() + r.h.redials.InUse()
		if r.live.Live() != 0 || places != 0 {
			return false
		}
		for _, row := range r.rows("") {
			if !row.Ended {
				return false
			}
		}
		return true
	})
}

// ends counts those of a reason.
func (r *rig) ends(reason bridge.Reason) float64 {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "caly_audio_ends_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == string(reason) {
				return m.GetCounter().GetValue()
			}
		}
	}
	r.t.Fatalf("no end %q is counted", reason)
	return 0
}

// Messages of a call.
const (
	connected = `{"event":"connected"}`
	stop      = `{"event":"stop","stream_sid":"s1","stop":{"call_sid":"c1","account_sid":"a1","reason":"callended"}}`
	dtmf      = `{"event":"dtmf","stream_sid":"s1","dtmf":{"duration":"200","digit":"5"}}`
)

func startOf(callSID string) string {
	return fmt.Sprintf(
		`{"event":"start","sequence_number":1,"stream_sid":"s1","start":{"stream_sid":"s1","call_sid":%q,"account_sid":"a1",`+
			`"from":"+919876543210","to":"+911234567890","media_format":{"encoding":"raw","sample_rate":"8000","bit_rate":"128"}}}`,
		callSID,
	)
}

// media of 20 ms at 8 kHz, which differ.
func media(n int) string {
	return fmt.Sprintf(
		`{"event":"media","stream_sid":"s1","media":{"payload":%q}}`,
		strings.Repeat(fmt.Sprintf("%04d", n), 106)+"AAA=",
	)
}

// isProblem tells whether an answer is a problem document of a status.
func isProblem(resp *http.Response, status int) error {
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != status || got != "application/problem+json" {
		return fmt.Errorf("answered %d %s, want %d as a problem", resp.StatusCode, got, status)
	}
	return nil
}
