package bridge

import (
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/budget"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// tally is a Counter that a test can read while the call lasts.
type tally struct{ n atomic.Int64 }

func (c *tally) Add(v float64) { c.n.Add(int64(v)) }

// stalled is a call whose destination does not read, with so much on its way that the bridge has to keep what comes.
type stalled struct {
	r               *rig
	from, to        *wstest.Peer
	dropped, passed tally
	sent            int
	waits           func() bool // the bridge keeps what comes
}

// stall makes one; the destination is the agent or Exotel.
func stall(t *testing.T, o Options, co ConnOptions, toAgent bool) *stalled {
	t.Helper()
	s := &stalled{}
	s.r = newRig(t, o, co, func(_ *rig, o *Options) {
		d := DirectionObserver{Dropped: &s.dropped, Frames: &s.passed}
		o.Observer = newObserver(Observer{ToAgent: d, ToExotel: d})
	})
	made := make(chan *Bridge, 1)
	s.r.made = func(b *Bridge) { made <- b }
	exotel, agent := s.r.call()
	exotel.Text(connected, start)
	agent.Expect(connected, start)
	b := <-made
	s.waits = func() bool { return s.dropped.n.Load() > 0 }
	if !toAgent { // then nothing is dropped, but the agent is not read beyond a bound
		s.waits = func() bool {
			b.toExotel.mu.Lock()
			defer b.toExotel.mu.Unlock()
			return b.toExotel.waiting() > maxQueued/4
		}
	}
	s.from = agent
	s.to = exotel
	if toAgent {
		s.from = exotel
		s.to = agent
	}
	return s
}

// fill sends audio until much of it waits, and the destination has not taken any for a while. A machine that is busy with something else
// looks the same at first.
func (s *stalled) fill(t *testing.T) {
	t.Helper()
	const quiet = 400 * time.Millisecond
	before := int64(-1)
	var since time.Time
	eventually.Within(patience).Holds(t, "audio waits", func() bool {
		for range 20 {
			if s.to.Client && s.waits() {
				break
			}
			s.from.Text(speech(s.sent, 3200))
			s.sent++
		}
		if passed := s.passed.n.Load(); passed != before || !s.waits() {
			before = passed
			since = time.Now()
		}
		return time.Since(since) >= quiet
	})
}

// talk sends audio until the connection ends.
func (s *stalled) talk() {
	for f := frameBytes(0x81, s.from.Client, speech(1, 3200)); ; {
		if _, err := s.from.Write(f); err != nil {
			return
		}
	}
}

// settle waits until the bridge has read everything that was sent: frames are passed on, dropped, or wait.
func (s *stalled) settle(t *testing.T) {
	t.Helper()
	s.from.Send(0x89, "settled")
	for {
		f, err := s.from.Read()
		if err != nil {
			t.Fatal(err)
		}
		if f.First == 0x8a && f.Payload == "settled" {
			return
		}
	}
}

// TestSlowSide verifies that the oldest audio for a slow side is dropped and counted. The rest arrives in order, with
// the latest audio and every control frame.
func TestSlowSide(t *testing.T) {
	for name, toAgent := range map[string]bool{"a slow agent": true, "a slow Exotel": false} {
		t.Run(name, func(t *testing.T) {
			stalled := stall(t, quick(), ConnOptions{WriteTimeout: patience}, toAgent)
			stalled.fill(t)
			for i := range 20 {
				stalled.from.Text(mark(fmt.Sprint(i)), dtmf)
			}
			last := stalled.sent
			stalled.from.Text(speech(last, 320), mark("end"))
			stalled.settle(t)
			var audio []int
			marks := 0
			digits := 0
			for {
				f, err := stalled.to.Read()
				if err != nil {
					t.Fatal(err)
				}
				if f.Payload == mark("end") {
					break
				}
				switch n := numberOf(f.Payload); {
				case n >= 0:
					audio = append(audio, n)
				case f.Payload == dtmf:
					digits++
				case f.Payload == mark(fmt.Sprint(marks)):
					marks++
				default:
					t.Fatalf("%.100q came", f.Payload)
				}
			}
			if marks != 20 || digits != 20 {
				t.Errorf("%d marks and %d digits arrived in order, want 20 of each", marks, digits)
			}
			if !slices.IsSorted(audio) || audio[0] != 0 || audio[len(audio)-1] != last {
				t.Errorf("audio out of order: %v", audio)
			}
			if dropped := int(stalled.dropped.n.Load()); len(audio)+dropped != last+1 ||
				len(slices.Compact(audio)) != len(audio) {
				t.Errorf("%d of %d arrived and %d were dropped", len(audio), last+1, dropped)
			}
		})
	}
}

// TestBudget verifies that audio older than the budget is dropped once the queue exceeds the budget. Newer audio waits.
func TestBudget(t *testing.T) {
	stalled := stall(t, quick(), ConnOptions{WriteTimeout: patience}, true)
	stalled.fill(t)
	const older = 250 * time.Millisecond // than the budget
	for _, step := range []struct{ send, want int }{
		{3, 3}, // 300 ms at once: a burst
		{1, 2}, // 200 ms of the 400
	} {
		time.Sleep(older)
		for range step.send {
			stalled.from.Text(speech(stalled.sent, 1600)) // 100 ms
			stalled.sent++
		}
		stalled.settle(t)
		passed := int(stalled.passed.n.Load()) - 2
		dropped := int(stalled.dropped.n.Load())                                  // without connected and start
		if waiting := stalled.sent - passed - dropped - 1; waiting != step.want { // without the one that is being written
			t.Errorf("%d frames wait, want %d", waiting, step.want)
		}
	}
}

// TestClear verifies that a clear removes the waiting audio and the marks after it, and nothing else.
func TestClear(t *testing.T) {
	stalled := stall(t, quick(), ConnOptions{WriteTimeout: patience}, false)
	stalled.fill(t)
	stalled.from.Text(mark("stale"), dtmf, speech(60_000, 320), mark("stale too"), clear, clear)
	stalled.from.Text(speech(60_001, 320), mark("fresh"))
	stalled.settle(t)
	var got []string
	heard := 0
	for len(got) == 0 || got[len(got)-1] != mark("fresh") {
		f, err := stalled.to.Read()
		if err != nil {
			t.Fatal(err)
		}
		if n := numberOf(f.Payload); n >= 0 && n < 60_000 && len(got) == 0 {
			heard++ // it was in the kernel's hands before the clear came
			continue
		}
		got = append(got, f.Payload)
	}
	if want := []string{dtmf, clear, speech(60_001, 320), mark("fresh")}; !slices.Equal(got, want) {
		t.Errorf("got %.300q\nwant %.300q", got, want)
	}
	stalled.from.CloseWith(websocket.CloseNormalClosure, "")
	expectClose(stalled.to)
	end := stalled.r.end()
	if end.ToExotel.StaleMarks != 2 {
		t.Errorf("%d marks were taken back, want 2", end.ToExotel.StaleMarks)
	}
	if want := uint64(stalled.sent + 1 - heard); end.ToExotel.Dropped != want { // with the one between the marks
		t.Errorf("%d frames of audio were dropped or taken back, want %d", end.ToExotel.Dropped, want)
	}
}

// TestSlowGoodbye verifies that a slow side that closes gets its close answered after the bytes on their way. Nothing
// follows the answer, and the call ends.
func TestSlowGoodbye(t *testing.T) {
	for name, toAgent := range map[string]bool{"the agent": true, "Exotel": false} {
		t.Run(name, func(t *testing.T) {
			stalled := stall(t, Options{CloseWithin: patience}, ConnOptions{WriteTimeout: patience}, toAgent)
			stalled.fill(t)
			stalled.settle(t)
			stalled.to.CloseWith(websocket.CloseNormalClosure, "")
			if code := expectClose(stalled.from); code != websocket.CloseNormalClosure {
				t.Errorf("the other side was told %d", code)
			}
			if code := expectClose(stalled.to); code != websocket.CloseNormalClosure {
				t.Errorf("it was told %d, want its own code", code)
			}
			if f, err := stalled.to.Read(); err == nil {
				t.Errorf("after its close came %#x with %d bytes", f.First, len(f.Payload))
			}
			stalled.r.end()
		})
	}
}

// TestSlowEnds verifies that a side that does not read in time, or queues too many control frames, ends the call. The
// other side gets an orderly close.
func TestSlowEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		toAgent  bool
		timeout  time.Duration
		flood    bool
		wantSide Side
		wantCode int
	}{
		"the agent, in time": {
			toAgent:  true,
			timeout:  300 * time.Millisecond,
			wantSide: agentSide,
			wantCode: websocket.CloseNormalClosure,
		},
		"Exotel, in time": {
			timeout:  300 * time.Millisecond,
			wantSide: exotelSide,
			wantCode: websocket.CloseGoingAway,
		},
		"the agent, in control frames": {
			toAgent:  true,
			timeout:  patience,
			flood:    true,
			wantSide: agentSide,
			wantCode: websocket.CloseNormalClosure,
		},
	} {
		t.Run(name, func(t *testing.T) {
			stalled := stall(t, quick(), ConnOptions{WriteTimeout: tc.timeout}, tc.toAgent)
			if tc.flood {
				stalled.fill(t)
				for range maxControlBytes/(itemCost+len(dtmf)) + 1 {
					stalled.from.Text(dtmf)
				}
			} else {
				go stalled.talk()
			}
			if got := expectClose(stalled.from); got != tc.wantCode {
				t.Errorf("the other side was closed with %d, want %d", got, tc.wantCode)
			}
			if end := stalled.r.end(); end.Reason != Slow || end.Side != tc.wantSide {
				t.Errorf("ended with %s of %q: %v", end.Reason, end.Side, end.Err)
			}
		})
	}
}

// TestHalfDead verifies that a silent peer without pongs ends the call, and that a peer that answers pings does not.
func TestHalfDead(t *testing.T) {
	for name, tc := range map[string]struct {
		agentDead, exotelDead bool
		want                  Reason
		wantSide              Side
	}{
		"the agent": {agentDead: true, want: AgentLost, wantSide: agentSide},
		"Exotel":    {exotelDead: true, want: ExotelLost, wantSide: exotelSide},
		"nobody is": {want: CallEnded, wantSide: exotelSide},
	} {
		t.Run(name, func(t *testing.T) {
			options := quick()
			options.PingEvery = 300 * time.Millisecond
			options.PongWithin = 300 * time.Millisecond
			rig := newRig(t, options, ConnOptions{}, nil)
			exotel, agent := rig.call()
			pings := make(chan struct{}, 100)
			live := func(p *wstest.Peer) {
				for {
					f, err := p.Read()
					if err != nil {
						return
					}
					switch f.First {
					case 0x89:
						p.Send(0x8a, f.Payload)
						pings <- struct{}{}
					case 0x88:
						_, _ = p.Write(frameBytes(0x88, p.Client, f.Payload))
					}
				}
			}
			if !tc.agentDead {
				go live(agent)
			}
			if !tc.exotelDead {
				go live(exotel)
			}
			if tc.want == CallEnded {
				for range 8 { // four rounds of both
					<-pings
				}
				exotel.Text(stop)
			}
			if end := rig.end(); end.Reason != tc.want || end.Side != tc.wantSide {
				t.Errorf("ended with %s of %q: %v", end.Reason, end.Side, end.Err)
			}
		})
	}
}

// TestGoodbyeIsHeard verifies that the last audio of an agent is written before a slow Exotel is closed.
func TestGoodbyeIsHeard(t *testing.T) {
	options := quick()
	options.CloseWithin = patience
	stalled := stall(t, options, ConnOptions{WriteTimeout: patience}, false)
	stalled.fill(t)
	stalled.from.Text(speech(60_000, 320))
	stalled.from.CloseWith(websocket.CloseNormalClosure, "goodbye")
	last := -1
	for {
		f, err := stalled.to.Read()
		if err != nil {
			t.Fatal(err)
		}
		if f.First == 0x88 {
			break
		}
		last = numberOf(f.Payload)
	}
	if last != 60_000 {
		t.Errorf("the last audio was %d", last)
	}
	_ = stalled.to.Close()
	if end := stalled.r.end(); end.Reason != AgentClosed {
		t.Errorf("ended with %+v", end)
	}
}

// TestConnClosesWhatWaits verifies that a link whose peer does not read can be closed at once.
func TestConnClosesWhatWaits(t *testing.T) {
	client, server := tcpPair(t)
	link := newLink(client, ConnOptions{WriteTimeout: patience})
	for range 4 {
		if _, err := link.Write(make([]byte, maxPending/4)); err != nil {
			break
		}
	}
	eventually.Within(patience).Holds(t, "the link is busy", func() bool {
		_, err := link.Write(make([]byte, 4096))
		return link.busy() || err != nil
	})
	_ = link.Close()
	link.wait()
	if _, err := link.Write([]byte("x")); err == nil {
		t.Error("a closed link took bytes")
	}
	_ = server.Close()
}

func tcpPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	client, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return client, server
}

// TestMemoryIsShared checks that many calls whose agents flood them while Exotel does not read stay within their
// common bound. A call next to them loses nothing, and all memory is given back.
func TestMemoryIsShared(t *testing.T) {
	const most = 256 << 10
	memory := budget.New(most)
	r := newRig(t, quick(), ConnOptions{WriteTimeout: patience}, func(_ *rig, o *Options) { o.Memory = memory })
	made := make(chan *Bridge, 9)
	r.made = func(b *Bridge) { made <- b }
	var flooding sync.WaitGroup
	var floods []*wstest.Peer
	for range 8 {
		_, agent := r.call()
		floods = append(floods, agent)
		flooding.Go(func() {
			for f := frameBytes(0x81, false, speech(1, 3200)); ; {
				if _, err := agent.Write(f); err != nil {
					return
				}
			}
		})
	}
	bridges := make([]*Bridge, len(floods))
	for i := range bridges {
		bridges[i] = <-made
	}
	used := int64(0)
	eventually.Within(patience).Holds(t, "the memory is used up, and no agent is read", func() bool {
		used = max(used, memory.InUse())
		read := func(b *Bridge) bool { return b.toExotel.heldUntil.Load() != math.MaxInt64 }
		return used > most/2 && !slices.ContainsFunc(bridges, read)
	})
	exotel, agent := r.call()
	exotel.Text(connected, start)
	agent.Expect(connected, start)
	for i := range 100 {
		agent.Text(speech(i, 320))
		exotel.Expect(speech(i, 320))
	}
	if now := memory.InUse(); now > most {
		t.Errorf("%d bytes are in use, of %d", now, most)
	}
	for _, a := range floods {
		_ = a.Close()
	}
	flooding.Wait()
	r.cut(nil)
	eventually.Within(patience).Holds(t, "all of it is given back", func() bool {
		return len(r.ends) == 9 && memory.InUse() == 0
	})
}
