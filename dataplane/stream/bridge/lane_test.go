package bridge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/budget"
	"github.com/caly-dev/caly/internal/exotel/agentstream"
)

// arrival is a frame that a lane is given; audio is in milliseconds of 8 kHz.
type arrival struct {
	kind  agentstream.Kind
	name  string
	audio int
	at    time.Duration
	size  int // of a frame that is longer than its name
}

// TestLane verifies which messages wait in a send queue without a connection, and which are dropped.
func TestLane(t *testing.T) {
	const ms = time.Millisecond
	media := func(name string, at time.Duration) arrival {
		return arrival{kind: agentstream.Media, name: name, audio: 100, at: at}
	}
	control := func(kind agentstream.Kind, name string) arrival {
		return arrival{kind: kind, name: name, at: time.Hour}
	}
	for name, tc := range map[string]struct {
		give        []arrival
		want        []string
		wantDropped uint64
		wantStale   uint64
		wantErr     bool
	}{
		"within the budget": {give: []arrival{media("a", 0), media("b", 100*ms)}, want: []string{"a", "b"}},
		"beyond it, in real time": {
			give:        []arrival{media("a", 0), media("b", 100*ms), media("c", 200*ms), media("d", 300*ms)},
			want:        []string{"c", "d"},
			wantDropped: 2,
		},
		"beyond it, all at once": {
			give: []arrival{media("a", 0), media("b", 0), media("c", 0), media("d", 0)},
			want: []string{"a", "b", "c", "d"},
		},
		"all at once, and later": {
			give: []arrival{
				media("a", 0), media("b", 0), media("c", 0), media("d", 0), media("e", 199*ms),
				media("f", 200*ms),
			},
			want:        []string{"e", "f"},
			wantDropped: 4,
		},
		"one long frame": {give: []arrival{{kind: agentstream.Media, name: "a", audio: 6000}}, want: []string{"a"}},
		"one long frame, then another": {
			give: []arrival{{
				kind:  agentstream.Media,
				name:  "a",
				audio: 6000,
			}, {
				kind:  agentstream.Media,
				name:  "b",
				audio: 6000,
				at:    time.Second,
			}},
			want:        []string{"b"},
			wantDropped: 1,
		},
		"control frames stay where they are": {
			give: []arrival{control(agentstream.DTMF, "1"), media("a", 0), control(agentstream.Mark, "m"),
				media("b", time.Second),
				media("c", 2*time.Second), control(agentstream.DTMF, "2"), media("d", 3*time.Second)},
			want:        []string{"1", "m", "c", "2", "d"},
			wantDropped: 2,
		},
		"too many bytes": {
			give: []arrival{{
				kind: agentstream.Media,
				name: "a",
				size: 600 << 10,
			}, {
				kind: agentstream.Media,
				name: "b",
				size: 600 << 10,
			}},
			want:        []string{"b"},
			wantDropped: 1,
		},
		"clear with nothing to take back": {
			give: []arrival{control(agentstream.Clear, "clear")},
			want: []string{"clear"},
		},
		"clear": {
			give: []arrival{
				media("a", 0), control(agentstream.Mark, "m"), media("b", 0),
				control(agentstream.Clear, "clear"), media("c", 0),
			},
			want:        []string{"clear", "c"},
			wantDropped: 2,
			wantStale:   1,
		},
		"clear keeps a mark of audio that is gone": {
			give: []arrival{control(agentstream.Mark, "played"), media("a", 0), control(agentstream.Mark, "m"),
				control(agentstream.Clear, "clear")},
			want:        []string{"played", "clear"},
			wantDropped: 1,
			wantStale:   1,
		},
		"clear keeps all else": {
			give: []arrival{media("a", 0), control(agentstream.Start, "start"), control(agentstream.Other, "other"),
				control(agentstream.DTMF, "1"),
				control(agentstream.Clear, "clear"), control(agentstream.Stop, "stop")},
			want:        []string{"start", "other", "1", "clear", "stop"},
			wantDropped: 1,
		},
		"clear upon clear is one": {
			give: []arrival{
				control(agentstream.Clear, "clear"), media("a", 0), control(agentstream.Mark, "m"),
				control(agentstream.Clear, "again"),
			},
			want:        []string{"clear"},
			wantDropped: 1,
			wantStale:   1,
		},
		"clear behind something else is another": {
			give: []arrival{
				control(agentstream.Clear, "clear"), control(agentstream.DTMF, "1"),
				control(agentstream.Clear, "again"),
			},
			want: []string{"clear", "1", "again"},
		},
		"control frames without end": {
			give: func() (all []arrival) {
				for range maxControlBytes/itemCost + 1 {
					all = append(all, control(agentstream.DTMF, "1"))
				}
				return all
			}(),
			wantErr: true,
		},
		"control frames of too many bytes": {
			give:    []arrival{{kind: agentstream.Other, size: 300 << 10}, {kind: agentstream.Other, size: 300 << 10}},
			wantErr: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := lane{budget: 200 * ms, rate: 16_000, sink: sink{observer: &silent.ToAgent}}
			var err error
			for _, a := range tc.give {
				frame := []byte(a.name)
				if a.size > 0 {
					frame = append(frame, make([]byte, a.size-len(frame))...)
				}
				err = errors.Join(err, l.send(a.kind, frame, a.audio*16, a.at))
				clobber(frame)
			}
			if (err != nil) != tc.wantErr {
				t.Fatalf("got %v, want an error: %v", err, tc.wantErr)
			}
			if tc.wantErr {
				return
			}
			var got []string
			audio := 0
			size := 0
			for _, i := range l.queue {
				got = append(got, string(bytes.TrimRight(i.data, "\x00")))
				audio, size = audio+i.audio, size+i.cost()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("what waits: -want +got:\n%s", diff)
			}
			if l.sink.Dropped != tc.wantDropped || l.sink.StaleMarks != tc.wantStale {
				t.Errorf(
					"dropped %d and %d marks, want %d and %d",
					l.sink.Dropped,
					l.sink.StaleMarks,
					tc.wantDropped,
					tc.wantStale,
				)
			}
			if l.audio != audio || l.bytes[0]+l.bytes[1] != size || l.frames[0]+l.frames[1] != len(l.queue) {
				t.Errorf(
					"the totals are off: %d bytes of audio, %v bytes, %v frames of %d, %d, %d",
					l.audio,
					l.bytes,
					l.frames,
					audio,
					size,
					len(l.queue),
				)
			}
		})
	}
}

// clobber makes sure that a queue holds copies.
func clobber(b []byte) {
	for i := range b {
		b[i] = '!'
	}
}

// TestVerdicts verifies the reason and the close codes for each error of either side's connection.
func TestVerdicts(t *testing.T) {
	closed := func(code int) error { return &websocket.CloseError{Code: code} }
	for name, tc := range map[string]struct {
		err                   error
		wantExotel, wantAgent Reason // if it was that side
		wantCode              int    // that the side itself is told
		wantOther             int    // that the agent is told, where it was Exotel; Exotel is always told 1000
	}{
		"normal":         {closed(1000), CallEnded, AgentClosed, 1000, 1000},
		"no code":        {closed(1005), CallEnded, AgentClosed, 1000, 1000},
		"its own code":   {closed(4000), CallEnded, AgentClosed, 1000, 1000},
		"policy":         {closed(1008), CallEnded, AgentClosed, 1000, 1000},
		"going away":     {closed(1001), CallEnded, AgentLost, 1000, 1000},
		"cut off":        {closed(1006), ExotelLost, AgentLost, 1000, 1001},
		"internal error": {closed(1011), ExotelLost, AgentLost, 1000, 1001},
		"restart":        {closed(1012), ExotelLost, AgentLost, 1000, 1001},
		"try again":      {closed(1013), ExotelLost, AgentLost, 1000, 1001},
		"end of file":    {io.EOF, ExotelLost, AgentLost, 1000, 1001},
		"reset": {&net.OpError{
			Op:  "read",
			Err: os.NewSyscallError("read", syscall.ECONNRESET),
		}, ExotelLost, AgentLost, 1000, 1001},
		"a bare errno":     {syscall.EPIPE, ExotelLost, AgentLost, 1000, 1001},
		"closed by us":     {net.ErrClosed, ExotelLost, AgentLost, 1000, 1001},
		"silent":           {errSilent, ExotelLost, AgentLost, 1008, 1001},
		"slow":             {errSlow, Slow, Slow, 1008, 1001},
		"flood":            {errFlood, ProtocolError, ProtocolError, 1008, 1001},
		"malformed":        {errMalformed, ProtocolError, ProtocolError, 1007, 1001},
		"too large":        {websocket.ErrReadLimit, ProtocolError, ProtocolError, 1000, 1001},
		"a codec's rate":   {agent.ErrRate, ProtocolError, ProtocolError, 1000, 1001},
		"what gorilla has": {errors.New("websocket: bad opcode 3"), ProtocolError, ProtocolError, 1000, 1001},
	} {
		t.Run(name, func(t *testing.T) {
			want := verdict{reason: tc.wantExotel, side: exotelSide, exotelCode: tc.wantCode, agentCode: tc.wantOther}
			got := exotelEnded(tc.err)
			if got.reason != want.reason || got.side != want.side || got.exotelCode != want.exotelCode ||
				got.agentCode != want.agentCode {
				t.Errorf("Exotel: got %+v, want %+v", got, want)
			}
			want = verdict{reason: tc.wantAgent, side: agentSide, exotelCode: 1000, agentCode: tc.wantCode}
			got = agentEnded(tc.err)
			if got.reason != want.reason || got.side != want.side || got.exotelCode != want.exotelCode ||
				got.agentCode != want.agentCode {
				t.Errorf("the agent: got %+v, want %+v", got, want)
			}
		})
	}
}

func TestCuts(t *testing.T) {
	for name, tc := range map[string]struct {
		cause    error
		want     Reason
		wantCode int
	}{
		"no cause":     {nil, Drained, 1001},
		"any cause":    {errors.New("shutting down"), Drained, 1001},
		"suspended":    {&Cut{Reason: Suspended, Code: 1008}, Suspended, 1008},
		"without code": {&Cut{Reason: Limit}, Limit, 1001},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(tc.cause)
			if verdict := cutOf(
				ctx,
			); verdict.reason != tc.want || verdict.exotelCode != tc.wantCode || verdict.agentCode != tc.wantCode ||
				verdict.side != "" {
				t.Errorf("got %+v", verdict)
			}
		})
	}
}

// TestUpgradeRefuses checks that an invalid handshake is answered, and that the connection is not hijacked.
func TestUpgradeRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		header, value string
		want          int
	}{
		"no upgrade":  {"Upgrade", "", 426},
		"an old one":  {"Sec-WebSocket-Version", "8", 400},
		"without key": {"Sec-WebSocket-Key", "", 400},
	} {
		t.Run(name, func(t *testing.T) {
			req := handshakeRequest(t)
			req.Header.Set(tc.header, tc.value)
			recorder := httptest.NewRecorder()
			if _, err := Upgrade(recorder, req, ConnOptions{}); err == nil || recorder.Code != tc.want {
				t.Errorf("answered %d, %v; want %d", recorder.Code, err, tc.want)
			}
		})
	}
}

// TestLaneMemory verifies that send queues drop their oldest audio when the shared memory is used up. Each has its own
// free part, and returns the rest.
func TestLaneMemory(t *testing.T) {
	const frame = 16 << 10
	shared := budget.New(3 * frame)
	lanes := make([]lane, 2)
	for i := range lanes {
		lanes[i] = lane{
			rate:   16_000,
			budget: 200 * time.Millisecond,
			sink:   sink{observer: &silent.ToAgent},
			room:   shared.Share(freeQueued),
		}
	}
	fill := func(l *lane, n int) {
		for range n {
			if err := l.send(agentstream.Media, make([]byte, frame-itemCost), 1, 0); err != nil {
				t.Error(err)
			}
		}
	}
	own := freeQueued / frame
	check := func(when string, first, second int, used int64) {
		t.Helper()
		if len(lanes[0].queue) != first || len(lanes[1].queue) != second || shared.InUse() != used {
			t.Errorf(
				"%s: %d and %d frames wait, and %d bytes of the shared memory are used; want %d, %d, %d",
				when,
				len(lanes[0].queue),
				len(lanes[1].queue),
				shared.InUse(),
				first,
				second,
				used,
			)
		}
	}
	fill(&lanes[0], own)
	check("its own", own, 0, 0)
	fill(&lanes[0], 10)
	check("all that is shared", own+3, 0, 3*frame)
	fill(&lanes[1], 10)
	check("the other has its own", own+3, own, 3*frame)
	if a, b := lanes[0].sink.Dropped, lanes[1].sink.Dropped; a != 7 || b != uint64(10-own) {
		t.Errorf("%d and %d are dropped", a, b)
	}
	if err := lanes[1].send(agentstream.Mark, make([]byte, 64), 0, 0); err != nil || len(lanes[1].queue) != own ||
		lanes[1].queue[own-1].kind != agentstream.Mark {
		t.Errorf("a mark takes the place of audio: %v, %d wait", err, len(lanes[1].queue))
	}
	if err := lanes[1].send(agentstream.Clear, make([]byte, 64), 0, 0); err != nil {
		t.Error(err)
	}
	check("a clear on the one side", own+3, 1, 3*frame) // the mark went with its audio
	if err := lanes[0].send(agentstream.Clear, make([]byte, 64), 0, 0); err != nil {
		t.Error(err)
	}
	check("and on the other", 1, 1, 0)
	if err := lanes[0].send(agentstream.Media, make([]byte, freeQueued+4*frame), 1, 0); err != nil ||
		len(lanes[0].queue) != 1 {
		t.Errorf("a frame larger than there is memory: %v, %d wait", err, len(lanes[0].queue))
	}
	if err := lanes[0].send(agentstream.Other, make([]byte, freeQueued+4*frame), 0, 0); !errors.Is(err, errSlow) {
		t.Errorf("one that must not be dropped: %v", err)
	}
	fill(&lanes[0], own+2)
	lanes[0].release()
	fill(&lanes[0], own+2)
	check("after the end", 0, 1, 0)
}
