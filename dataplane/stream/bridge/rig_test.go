package bridge

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// patience bounds every wait of a test.
const patience = wstest.Patience

// quick are options with which a test need not wait long.
func quick() Options {
	return Options{CloseWithin: 500 * time.Millisecond}
}

// rig is a bridge between peers of the test: an HTTP server that upgrades and bridges, and agents that it dials.
type rig struct {
	t      *testing.T
	server *httptest.Server
	agents chan net.Conn // accepted by the agent's listener
	ends   chan *End
	cut    context.CancelCauseFunc
	listen net.Listener
	made   func(*Bridge) // is told of each bridge; nil: nobody is
}

// newRig starts one; configure may change the options of each bridge.
func newRig(t *testing.T, o Options, co ConnOptions, configure func(r *rig, o *Options)) *rig {
	t.Helper()
	return newRigBehind(t, o, co, configure, func(l net.Listener) net.Listener { return l })
}

// newRigBehind starts one whose server's listener is wrapped.
func newRigBehind(
	t *testing.T,
	o Options,
	co ConnOptions,
	configure func(r *rig, o *Options),
	wrap func(net.Listener) net.Listener,
) *rig {
	t.Helper()
	ctx, cut := context.WithCancelCause(t.Context())
	r := &rig{t: t, agents: make(chan net.Conn, 1000), ends: make(chan *End, 1000), cut: cut}
	var err error
	if r.listen, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := r.listen.Accept()
			if err != nil {
				return
			}
			r.agents <- conn
		}
	})
	var running sync.WaitGroup
	r.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		agent, err := r.dial(req.Context(), co)
		if err != nil {
			t.Errorf("dial the agent: %v", err)
			http.Error(w, "no agent", http.StatusBadGateway)
			return
		}
		exotel, err := Upgrade(w, req, co)
		if err != nil {
			_ = agent.Close()
			return
		}
		own := o
		if configure != nil {
			configure(r, &own)
		}
		b := New(own)
		if r.made != nil {
			r.made(b)
		}
		running.Go(func() { r.ends <- b.Run(ctx, exotel, agent) })
	}))
	r.server.Listener = wrap(r.server.Listener)
	r.server.Start()
	t.Cleanup(func() {
		cut(nil)
		running.Wait()
		r.server.Close()
		_ = r.listen.Close()
		wg.Wait()
		close(r.agents)
		for c := range r.agents {
			_ = c.Close()
		}
	})
	return r
}

func (r *rig) dial(ctx context.Context, co ConnOptions) (*Conn, error) {
	conn, resp, err := Dialer{ConnOptions: co}.Dial(ctx, "ws://"+r.listen.Addr().String()+"/", nil)
	if resp != nil {
		_ = resp.Body.Close()
	}
	return conn, err
}

// call opens one call; agent answers the bridge's handshake.
func (r *rig) call() (exotel, agent *wstest.Peer) {
	r.t.Helper()
	answered := make(chan *wstest.Peer, 1)
	go func() { answered <- r.answer() }()
	exotel = dialRaw(r.t, r.server.Listener.Addr().String())
	agent = <-answered
	if agent == nil {
		r.t.Fatal("no agent")
	}
	return exotel, agent
}

// answer accepts the next connection of a bridge.
func (r *rig) answer() *wstest.Peer {
	select {
	case conn := <-r.agents:
		return wstest.Accept(r.t, conn, "")
	case <-time.After(patience):
		r.t.Error("the bridge did not dial")
		return nil
	}
}

func (r *rig) end() *End {
	r.t.Helper()
	select {
	case e := <-r.ends:
		return e
	case <-time.After(patience):
		r.t.Fatal("the bridge did not end")
		return nil
	}
}

const testKey = wstest.Key

var frameBytes = wstest.FrameBytes

// dialRaw is Exotel: a client of the bridge.
func dialRaw(t testing.TB, address string) *wstest.Peer {
	t.Helper()
	return wstest.Dial(t, address, "/audio")
}

// expectClose reads until the other end's close frame and answers it; the code is 0 if the connection ended without.
func expectClose(peer *wstest.Peer) int {
	code, _ := peer.Closed()
	return code
}

// Messages of a call.
const (
	connected = `{"event":"connected"}`
	start     = `{"event":"start","sequence_number":1,"stream_sid":"s1","start":{"stream_sid":"s1","call_sid":"c1","account_sid":"a1",` +
		`"from":"+919876543210","to":"+911234567890","media_format":{"encoding":"raw","sample_rate":"8000","bit_rate":"128"}}}`
	stop  = `{"event":"stop","stream_sid":"s1","stop":{"call_sid":"c1","account_sid":"a1","reason":"callended"}}`
	clear = `{"event":"clear","stream_sid":"s1"}`
	dtmf  = `{"event":"dtmf","stream_sid":"s1","dtmf":{"duration":"200","digit":"5"}}`
)

// speech is a media message with a number in its audio.
func speech(n, bytesOfAudio int) string {
	audio := bytes.Repeat([]byte{byte(n), byte(n >> 8)}, bytesOfAudio/2)
	return `{"event":"media","stream_sid":"s1","media":{"payload":"` + base64.StdEncoding.EncodeToString(audio) + `"}}`
}

// numberOf is the number in a media message's audio; -1 for other messages.
func numberOf(message string) int {
	_, rest, ok := strings.Cut(message, `"payload":"`)
	if !ok {
		return -1
	}
	audio, _, _ := strings.Cut(rest, `"`)
	b, err := base64.StdEncoding.DecodeString(audio)
	if err != nil || len(b) < 2 {
		return -1
	}
	return int(binary.LittleEndian.Uint16(b))
}

func mark(name string) string {
	return `{"event":"mark","stream_sid":"s1","mark":{"name":"` + name + `"}}`
}
