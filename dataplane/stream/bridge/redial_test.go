package bridge

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// redialing lets the bridges of a rig dial a second time.
func redialing(r *rig, o *Options) {
	o.Redial = func(ctx context.Context) (*Conn, error) { return r.dial(ctx, ConnOptions{}) }
}

// TestReconnect verifies that an agent whose connection breaks gets a second one. It begins with start, and waiting
// audio follows within its budget.
func TestReconnect(t *testing.T) {
	for name, lose := range map[string]func(*wstest.Peer){
		"gone":     func(a *wstest.Peer) { _ = a.Close() },
		"reset":    func(a *wstest.Peer) { a.Reset() },
		"restarts": func(a *wstest.Peer) { a.CloseWith(websocket.CloseServiceRestart, ""); _ = a.Close() },
		"fails":    func(a *wstest.Peer) { a.CloseWith(websocket.CloseInternalServerErr, "") },
		"away":     func(a *wstest.Peer) { a.CloseWith(websocket.CloseGoingAway, "") },
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRig(t, quick(), ConnOptions{}, redialing)
			exotel, first := rig.call()
			exotel.Text(connected, start)
			first.Expect(connected, start)
			lose(first)
			second := rig.answer()
			exotel.Text(dtmf)
			second.Expect(connected, start, dtmf)
			second.Text(speech(1, 320))
			exotel.Expect(speech(1, 320))
			exotel.Text(stop)
			second.Expect(stop)
			if got := expectClose(second); got != websocket.CloseNormalClosure {
				t.Errorf("closed with %d", got)
			}
			if end := rig.end(); end.Reason != CallEnded || !end.Reconnected {
				t.Errorf("ended with %+v", end)
			}
		})
	}
}

// TestReconnectKeepsWhatCame verifies that messages that Exotel sends without an agent reach the second connection
// after start.
func TestReconnectKeepsWhatCame(t *testing.T) {
	dialing := make(chan struct{})
	may := make(chan struct{})
	r := newRig(t, quick(), ConnOptions{}, func(r *rig, o *Options) {
		o.RedialWithin = patience
		o.Redial = func(ctx context.Context) (*Conn, error) {
			close(dialing)
			<-may
			return r.dial(ctx, ConnOptions{})
		}
	})
	exotel, first := r.call()
	exotel.Text(connected, start)
	first.Expect(connected, start)
	_ = first.Close()
	<-dialing
	exotel.Text(speech(1, 320), dtmf, speech(2, 320))
	exotel.Send(0x89, "")
	if f, err := exotel.Read(); err != nil || f.First != 0x8a { // the bridge has read what came before
		t.Fatal(f, err)
	}
	close(may)
	r.answer().Expect(connected, start, speech(1, 320), dtmf, speech(2, 320))
}

// TestNoReconnect verifies that Exotel's flow goes on when there is no second connection.
func TestNoReconnect(t *testing.T) {
	failing := func(_ *rig, o *Options) {
		o.Redial = func(context.Context) (*Conn, error) { return nil, errors.New("refused") }
	}
	hanging := func(_ *rig, o *Options) {
		o.RedialWithin = 50 * time.Millisecond
		o.Redial = func(ctx context.Context) (*Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	}
	lose := func(_ *rig, a *wstest.Peer) { _ = a.Close() }
	for name, tc := range map[string]struct {
		configure func(*rig, *Options)
		do        func(r *rig, a *wstest.Peer)
		want      Reason
	}{
		"not allowed": {configure: nil, do: lose, want: AgentLost},
		"refused":     {configure: failing, do: lose, want: AgentLost},
		"not in time": {configure: hanging, do: lose, want: AgentLost},
		"closed on purpose": {
			configure: redialing,
			do:        func(_ *rig, a *wstest.Peer) { a.CloseWith(1000, "") },
			want:      AgentClosed,
		},
		"broke the protocol": {
			configure: redialing,
			do:        func(_ *rig, a *wstest.Peer) { a.Send(0xf1, "x") },
			want:      ProtocolError,
		},
		"lost twice": {
			configure: redialing,
			do: func(r *rig, a *wstest.Peer) {
				_ = a.Close()
				b := r.answer()
				b.Expect(connected, start)
				_ = b.Close()
			},
			want: AgentLost,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, quick(), ConnOptions{}, tc.configure)
			exotel, a := r.call()
			exotel.Text(connected, start)
			a.Expect(connected, start)
			tc.do(r, a)
			if got := expectClose(exotel); got != websocket.CloseNormalClosure {
				t.Errorf("Exotel was closed with %d", got)
			}
			if end := r.end(); end.Reason != tc.want || end.Side != agentSide {
				t.Errorf("ended with %s of %q: %v", end.Reason, end.Side, end.Err)
			}
		})
	}
}

// TestEndWhileRedialing verifies that a caller that hangs up during a redial ends the redial too.
func TestEndWhileRedialing(t *testing.T) {
	dialing := make(chan struct{})
	r := newRig(t, quick(), ConnOptions{}, func(_ *rig, o *Options) {
		o.RedialWithin = time.Hour
		o.Redial = func(ctx context.Context) (*Conn, error) { close(dialing); <-ctx.Done(); return nil, ctx.Err() }
	})
	exotel, raw := r.call()
	exotel.Text(connected, start)
	raw.Expect(connected, start)
	_ = raw.Close()
	<-dialing
	exotel.Text(stop)
	if end := r.end(); end.Reason != CallEnded {
		t.Errorf("ended with %s: %v", end.Reason, end.Err)
	}
}

// TestLateRedial verifies that a second connection that opens after the call's end is closed.
func TestLateRedial(t *testing.T) {
	dialing := make(chan struct{})
	may := make(chan struct{})
	r := newRig(t, quick(), ConnOptions{}, func(r *rig, o *Options) {
		o.Redial = func(context.Context) (*Conn, error) {
			close(dialing)
			<-may
			return r.dial(context.Background(), ConnOptions{})
		}
	})
	exotel, raw := r.call()
	exotel.Text(connected, start)
	raw.Expect(connected, start)
	_ = raw.Close()
	<-dialing
	exotel.Text(stop)
	expectClose(exotel)
	close(may)
	if f, err := r.answer().Read(); err == nil {
		t.Errorf("the late agent got %+v", f)
	}
	if end := r.end(); end.Reason != CallEnded {
		t.Errorf("ended with %s: %v", end.Reason, end.Err)
	}
}

// TestCodec checks that a bridge with a codec begins with the codec's messages, translates both ways, and starts again
// for a second connection.
func TestCodec(t *testing.T) {
	r := newRig(t, quick(), ConnOptions{}, func(r *rig, o *Options) {
		redialing(r, o)
		o.Codec, _ = agent.New(agent.PCM)
	})
	exotel, a := r.call()
	a.Send(0x82, "\x01\x00too early")
	a.Send(0x89, "")
	if f, err := a.Read(); err != nil || f.First != 0x8a { // the bridge has read what came before
		t.Fatal(f, err)
	}
	exotel.Text(connected, start)
	begin := func(a *wstest.Peer) {
		t.Helper()
		if f, err := a.Read(); err != nil || f.First != 0x81 {
			t.Fatalf("began with %+v, %v", f, err)
		}
	}
	speak := func(a *wstest.Peer) {
		t.Helper()
		exotel.Text(speech(5, 320))
		if f, err := a.Read(); err != nil || f.First != 0x82 || len(f.Payload) != 320 || f.Payload[0] != 5 {
			t.Fatalf("the agent got %#x %q, %v", f.First, f.Payload, err)
		}
		a.Send(0x82, string(make([]byte, 640)))
		for heard := 0; heard < 640; {
			f, err := exotel.Read()
			if err != nil || f.First != 0x81 || numberOf(f.Payload) != 0 {
				t.Fatalf("Exotel got %#x %q, %v", f.First, f.Payload, err)
			}
			heard += len(f.Payload) * 3 / 4
		}
	}
	begin(a)
	speak(a)
	a.Reset()
	a = r.answer()
	begin(a)
	speak(a)
	a.Text("not JSON")
	exotel.Text(`{"event":"media","stream_sid":"s1","media":{"payload":"?"}}`)
	speak(a)
	exotel.Text(stop)
	if got := expectClose(a); got != websocket.CloseNormalClosure {
		t.Errorf("closed with %d", got)
	}
	end := r.end()
	if end.Reason != CallEnded || !end.Reconnected || end.ToAgent.Refused != 1 || end.ToExotel.Refused != 1 {
		t.Errorf("ended with %+v", end)
	}
}

// TestCodecWithoutStart verifies that a stream that begins with audio opens the agent's stream with default values.
func TestCodecWithoutStart(t *testing.T) {
	r := newRig(t, quick(), ConnOptions{}, func(_ *rig, o *Options) { o.Codec, _ = agent.New(agent.PCM) })
	exotel, raw := r.call()
	exotel.Text(speech(5, 320))
	for _, want := range []byte{0x81, 0x82} {
		if f, err := raw.Read(); err != nil || f.First != want {
			t.Fatalf("got %#x %q, %v", f.First, f.Payload, err)
		}
	}
}

// TestCodecCannot verifies that a call that the codec cannot translate ends, and that Exotel's flow goes on.
func TestCodecCannot(t *testing.T) {
	r := newRig(t, quick(), ConnOptions{}, func(_ *rig, o *Options) { o.Codec, _ = agent.New(agent.Twilio) })
	exotel, _ := r.call()
	exotel.Text(
		connected,
		`{"event":"start","stream_sid":"s1","start":{"media_format":{"encoding":"raw","sample_rate":"11025"}}}`,
	)
	if got := expectClose(exotel); got != websocket.CloseNormalClosure {
		t.Errorf("Exotel was closed with %d", got)
	}
	if end := r.end(); !errors.Is(end.Err, agent.ErrRate) {
		t.Errorf("ended with %s: %v", end.Reason, end.Err)
	}
}
