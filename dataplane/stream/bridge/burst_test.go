package bridge

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/budget"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// burstPatience bounds a test whose link is slow.
const burstPatience = 3 * time.Minute

// piece is what an agent of these tests sends at once: audio, and then a mark if it has a name.
type piece struct {
	audio []byte // 16-bit samples
	mark  string
}

// cutUp returns audio of a length in pieces, each with a mark of its own or none.
func cutUp(length, each time.Duration, rate int, marked bool) (pieces []piece) {
	source := rand.NewChaCha8([32]byte{1})
	for n := range int(length / each) {
		p := piece{audio: make([]byte, 2*int(each)*rate/int(time.Second))}
		_, _ = source.Read(p.audio)
		if marked {
			p.mark = fmt.Sprintf("m%d", n)
		}
		pieces = append(pieces, p)
	}
	return pieces
}

// speaker is how an agent of a protocol says something.
type speaker struct {
	audio func(b []byte) []byte // a frame
	mark  func(name string) []byte
	clear []byte
}

var speakers = map[agent.Protocol]speaker{
	agent.Exotel: {
		audio: func(b []byte) []byte {
			text := base64.StdEncoding.EncodeToString(b)
			return textFrame(`{"event":"media","stream_sid":"s1","media":{"payload":"` + text + `"}}`)
		},
		mark:  func(name string) []byte { return textFrame(mark(name)) },
		clear: textFrame(clear),
	},
	agent.PCM: {
		audio: func(b []byte) []byte { return frameBytes(0x82, false, string(b)) },
		mark:  func(name string) []byte { return textFrame(`{"event":"mark","name":"` + name + `"}`) },
		clear: textFrame(`{"event":"clear"}`),
	},
	agent.Twilio: { // mu-law at 8 kHz: the bytes of the audio are its codes
		audio: func(b []byte) []byte {
			text := base64.StdEncoding.EncodeToString(b)
			return textFrame(`{"event":"media","streamSid":"s1","media":{"payload":"` + text + `"}}`)
		},
		mark: func(name string) []byte {
			return textFrame(`{"event":"mark","streamSid":"s1","mark":{"name":"` + name + `"}}`)
		},
		clear: textFrame(`{"event":"clear","streamSid":"s1"}`),
	},
}

func textFrame(text string) []byte { return frameBytes(0x81, false, text) }

// heardCall is what an Exotel of these tests got: the audio, and each mark and clear with the byte of the audio that it came at.
type heardCall struct {
	audio  []byte
	events []string
	closed int // code
}

// exotelMessage is one message to Exotel.
type exotelMessage struct {
	Event string
	Media struct{ Payload string }
	Mark  struct{ Name string }
}

// listen reads at the pace of a link, in bytes a second, until the last mark or the end of the connection.
func listen(p *wstest.Peer, pace int, last string) (h heardCall, err error) {
	begin := time.Now()
	size := 0
	for {
		f, err := p.Read()
		if err != nil {
			return h, err
		}
		if f.First == 0x88 {
			h.closed = int(f.Payload[0])<<8 | int(f.Payload[1])
			return h, nil
		}
		if f.First == 0x89 {
			if _, err := p.Write(frameBytes(0x8a, p.Client, f.Payload)); err != nil {
				return h, err
			}
			continue
		}
		size += len(f.Payload)
		time.Sleep(time.Until(begin.Add(time.Duration(size) * time.Second / time.Duration(pace)))) // the link's pace
		var m exotelMessage
		if err := json.Unmarshal([]byte(f.Payload), &m); err != nil {
			return h, err
		}
		switch m.Event {
		case "media":
			b, err := base64.StdEncoding.DecodeString(m.Media.Payload)
			if err != nil {
				return h, err
			}
			h.audio = append(h.audio, b...)
		case "mark":
			h.events = append(h.events, fmt.Sprintf("%s at %d", m.Mark.Name, len(h.audio)))
			if m.Mark.Name == last {
				return h, nil
			}
		default:
			h.events = append(h.events, fmt.Sprintf("%s at %d", m.Event, len(h.audio)))
		}
	}
}

// burstCall is a call with an Exotel that has a small window, so that its pace is soon felt.
func burstCall(
	t *testing.T,
	protocol agent.Protocol,
	rate int,
	memory *budget.Budget,
) (r *rig, exotel, agentPeer *wstest.Peer) {
	t.Helper()
	options := quick()
	options.Memory = memory
	r = newRig(t, options, ConnOptions{Memory: memory}, func(_ *rig, o *Options) {
		codec, err := agent.New(protocol)
		if err != nil {
			t.Error(err)
		}
		o.Codec = codec
	})
	exotel, agentPeer = r.call()
	_ = exotel.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	for _, p := range []*wstest.Peer{exotel, agentPeer} {
		_ = p.SetDeadline(time.Now().Add(burstPatience))
	}
	exotel.Text(connected, strings.Replace(start, `"8000"`, fmt.Sprintf(`"%d"`, rate), 1))
	for range map[agent.Protocol]int{agent.Exotel: 2, agent.Twilio: 2, agent.PCM: 1}[protocol] {
		if _, err := agentPeer.Read(); err != nil {
			t.Fatal(err)
		}
	}
	return r, exotel, agentPeer
}

// TestBursts verifies that an agent that sends its answer at once loses no sample and no mark, whatever the pace of Exotel's network.
func TestBursts(t *testing.T) {
	for name, tc := range map[string]struct {
		protocol     agent.Protocol
		rate         int
		length, each time.Duration
		marked       bool
		pace         int // bytes a second
	}{
		"5 s, no marks":                  {agent.Exotel, 8000, 5 * time.Second, 200 * time.Millisecond, false, 500_000},
		"40 s in 200 marked pieces":      {agent.Exotel, 8000, 40 * time.Second, 200 * time.Millisecond, true, 1_000_000},
		"40 s at 24 kHz":                 {agent.Exotel, 24000, 40 * time.Second, 200 * time.Millisecond, true, 1_000_000},
		"60 s in marked pieces of 20 ms": {agent.Exotel, 8000, time.Minute, 20 * time.Millisecond, true, 1_000_000},
		"60 s at 24 kHz, fast":           {agent.Exotel, 24000, time.Minute, 100 * time.Millisecond, true, 5_000_000},
		"60 s at 16 kHz, slow, no marks": {agent.Exotel, 16000, time.Minute, 100 * time.Millisecond, false, 500_000},
		"pcm, 60 s at 24 kHz":            {agent.PCM, 24000, time.Minute, 100 * time.Millisecond, true, 1_000_000},
		"pcm, frames of 5 s":             {agent.PCM, 24000, time.Minute, 5 * time.Second, true, 1_000_000},
		"pcm, 60 s without marks":        {agent.PCM, 8000, time.Minute, 200 * time.Millisecond, false, 500_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			memory := budget.New(SharedMemory)
			r, exotel, agentPeer := burstCall(t, tc.protocol, tc.rate, memory)
			pieces := append(cutUp(tc.length, tc.each, tc.rate, tc.marked), piece{mark: "last"})
			most := &peak{memory: memory}
			speaking := speak(agentPeer, speakers[tc.protocol], pieces, most)
			got, err := listen(exotel, tc.pace, "last")
			if err != nil || got.closed != 0 {
				t.Fatalf("after %d bytes the call was closed with %d: %v", len(got.audio), got.closed, err)
			}
			if err := speaking(); err != nil {
				t.Errorf("the agent: %v", err)
			}
			want := heardCall{}
			for _, p := range pieces {
				want.audio = append(want.audio, p.audio...)
				if p.mark != "" {
					want.events = append(want.events, fmt.Sprintf("%s at %d", p.mark, len(want.audio)))
				}
			}
			if !bytes.Equal(got.audio, want.audio) {
				t.Errorf("%d bytes of audio were heard, want these %d", len(got.audio), len(want.audio))
			}
			if diff := cmp.Diff(want.events, got.events); diff != "" {
				t.Errorf("marks: -want +got:\n%s", diff)
			}
			if most.bytes > maxQueued+2*maxFrame {
				t.Errorf("%d bytes were held", most.bytes)
			}
			exotel.Text(stop)
			go agentPeer.Closed()
			exotel.Closed()
			if end := r.end(); end.Reason != CallEnded || end.ToExotel.Dropped != 0 {
				t.Errorf("ended with %s of %q, %d dropped: %v", end.Reason, end.Side, end.ToExotel.Dropped, end.Err)
			}
		})
	}
}

// answerPings reads a peer's connection to its end, as the library of every agent does.
func answerPings(p *wstest.Peer) {
	for {
		f, err := p.Read()
		if err != nil {
			return
		}
		if f.First == 0x89 {
			_, _ = p.Write(frameBytes(0x8a, p.Client, f.Payload))
		}
	}
}

// keepTalking sends audio of the caller in real time.
func keepTalking(p *wstest.Peer, quit <-chan struct{}) {
	for pace := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-quit:
			pace.Stop()
			return
		case <-pace.C:
		}
		if _, err := p.Write(frameBytes(0x81, p.Client, speech(1, 320))); err != nil {
			return
		}
	}
}

// peak is the most of a budget that was seen in use.
type peak struct {
	memory *budget.Budget
	bytes  int64
}

// speak has the agent send all pieces as fast as its socket takes them. The function that it returns waits for the end.
func speak(p *wstest.Peer, s speaker, pieces []piece, most *peak) func() error {
	var speaking sync.WaitGroup
	var err error
	speaking.Go(func() {
		for _, piece := range pieces {
			if len(piece.audio) > 0 {
				if _, err = p.Write(s.audio(piece.audio)); err != nil {
					return
				}
			}
			if piece.mark != "" {
				if _, err = p.Write(s.mark(piece.mark)); err != nil {
					return
				}
			}
			most.bytes = max(most.bytes, most.memory.InUse())
		}
	})
	return func() error {
		speaking.Wait()
		return err
	}
}

// TestUnreadAgent verifies that an agent that is not read, because it is ahead of real time, does not count as one that answers no ping:
// its answers wait behind its audio. The call ends by Exotel's fault if Exotel reads nothing.
func TestUnreadAgent(t *testing.T) {
	for name, tc := range map[string]struct {
		writeTimeout time.Duration
		reads        bool
		want         Reason
		wantSide     Side
	}{
		"Exotel reads later":   {writeTimeout: patience, reads: true, want: CallEnded, wantSide: exotelSide},
		"Exotel reads no more": {writeTimeout: 2 * time.Second, want: Slow, wantSide: exotelSide},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := quick()
			options.PingEvery = 300 * time.Millisecond
			options.PongWithin = 300 * time.Millisecond
			r := newRig(t, options, ConnOptions{
				WriteTimeout:  tc.writeTimeout,
				MessageWithin: 500 * time.Millisecond,
			}, nil)
			made := make(chan *Bridge, 1)
			r.made = func(b *Bridge) { made <- b }
			exotel, agentPeer := r.call()
			exotel.Text(connected, start)
			agentPeer.Expect(connected, start)
			b := <-made
			go answerPings(agentPeer)
			quit := make(chan struct{})
			var talking sync.WaitGroup
			talking.Go(func() { keepTalking(exotel, quit) })
			pieces := append(cutUp(2*time.Minute, 200*time.Millisecond, 24000, true), piece{mark: "last"})
			speaking := speak(agentPeer, speakers[agent.Exotel], pieces, &peak{})
			eventually.Within(patience).Holds(t, "the agent is not read", func() bool {
				return b.toExotel.heldUntil.Load() == math.MaxInt64
			})
			if tc.reads {
				eventually.For(time.Second).Stays(t, func(context.Context) error {
					if len(r.ends) > 0 {
						return errors.New("the call ended")
					}
					return nil
				})
				got, err := listen(exotel, 100_000_000, "last")
				if err != nil || got.closed != 0 {
					t.Fatalf("closed with %d: %v", got.closed, err)
				}
				close(quit)
				talking.Wait()
				exotel.Text(stop)
				go exotel.Closed()
			}
			if end := r.end(); end.Reason != tc.want || end.Side != tc.wantSide {
				t.Errorf("ended with %s of %q: %v", end.Reason, end.Side, end.Err)
			}
			_ = agentPeer.Close()
			_ = speaking()
			if !tc.reads {
				close(quit)
				talking.Wait()
			}
		})
	}
}

// TestLongTwilioMessages verifies that the longest messages of an agent, which grow by translation, reach Exotel whole and end no call.
func TestLongTwilioMessages(t *testing.T) {
	const seconds, messages = 23, 3
	for _, rate := range []int{8000, 24000} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			t.Parallel()
			r, exotel, agentPeer := burstCall(t, agent.Twilio, rate, budget.New(SharedMemory))
			var pieces []piece
			for n := range messages {
				codes := bytes.Repeat([]byte{0x55, 0xd5}, seconds*8000/2)
				pieces = append(pieces, piece{audio: codes, mark: fmt.Sprint("m", n)})
			}
			speaking := speak(agentPeer, speakers[agent.Twilio], pieces, &peak{})
			got, err := listen(exotel, 1_000_000, fmt.Sprint("m", messages-1))
			if err != nil || got.closed != 0 {
				t.Fatalf("after %d bytes the call was closed with %d: %v", len(got.audio), got.closed, err)
			}
			if err := speaking(); err != nil {
				t.Error(err)
			}
			const delayed = 64 // bytes that a filter may keep back
			if want := messages * seconds * 2 * rate; len(got.audio) > want || len(got.audio) < want-delayed*rate/8000 {
				t.Errorf("%d bytes of audio were heard, want %d", len(got.audio), want)
			}
			if len(got.events) != messages || !strings.HasPrefix(got.events[0], "m0 at ") {
				t.Errorf("marks: %q", got.events)
			}
			exotel.Text(stop)
			go agentPeer.Closed()
			exotel.Closed()
			if end := r.end(); end.Reason != CallEnded {
				t.Errorf("ended with %s of %q: %v", end.Reason, end.Side, end.Err)
			}
		})
	}
}

// TestLastWords verifies that an answer is heard to its end, although the agent closes its connection while Exotel's network still
// carries it.
func TestLastWords(t *testing.T) {
	const pace = 500_000
	_, exotel, agentPeer := burstCall(t, agent.Exotel, 24000, budget.New(SharedMemory))
	pieces := append(cutUp(30*time.Second, 200*time.Millisecond, 24000, false), piece{mark: "last"})
	speaking := speak(agentPeer, speakers[agent.Exotel], pieces, &peak{})
	go func() {
		_ = speaking()
		agentPeer.CloseWith(websocket.CloseNormalClosure, "goodbye")
	}()
	got, err := listen(exotel, pace, "")
	if want := 30 * 2 * 24000; err != nil || len(got.audio) != want || len(got.events) != 1 {
		t.Errorf("%d bytes of audio and %q were heard, want %d and the mark: %v", len(got.audio), got.events, want, err)
	}
	if got.closed != websocket.CloseNormalClosure {
		t.Errorf("closed with %d", got.closed)
	}
}

// TestHourAtOnce verifies that an hour of audio is passed on whole and in order, in bounded memory.
func TestHourAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("it passes on 77 MB")
	}
	const each, rate = 200 * time.Millisecond, 8000
	memory := budget.New(SharedMemory)
	r, exotel, agentPeer := burstCall(t, agent.Exotel, rate, memory)
	pieces := append(cutUp(time.Hour, each, rate, true), piece{mark: "last"})
	most := &peak{memory: memory}
	speaking := speak(agentPeer, speakers[agent.Exotel], pieces, most)
	got, err := listen(exotel, 20_000_000, "last")
	if err != nil || got.closed != 0 {
		t.Fatalf("after %d bytes the call was closed with %d: %v", len(got.audio), got.closed, err)
	}
	if err := speaking(); err != nil {
		t.Error(err)
	}
	whole := make([]byte, 0, len(got.audio))
	for n, p := range pieces {
		whole = append(whole, p.audio...)
		if want := fmt.Sprintf("%s at %d", p.mark, len(whole)); n >= len(got.events) || got.events[n] != want {
			t.Fatalf("mark %d of %d is not %q", n, len(got.events), want)
		}
	}
	if !bytes.Equal(got.audio, whole) {
		t.Errorf("%d bytes of audio were heard, want these %d", len(got.audio), len(whole))
	}
	if most.bytes > maxQueued+2*maxFrame {
		t.Errorf("%d bytes were held", most.bytes)
	}
	exotel.Text(stop)
	go agentPeer.Closed()
	exotel.Closed()
	if end := r.end(); end.Reason != CallEnded || end.ToExotel.Dropped != 0 {
		t.Errorf("ended with %s, %d dropped", end.Reason, end.ToExotel.Dropped)
	}
}
