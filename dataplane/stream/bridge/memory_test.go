package bridge

import (
	"encoding/binary"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/budget"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// readers is a server that reads the messages of the sockets that it accepts.
type readers struct {
	server  *httptest.Server
	mu      sync.Mutex
	conns   []*Conn
	running sync.WaitGroup
}

func newReaders(t *testing.T, o ConnOptions) *readers {
	t.Helper()
	r := &readers{}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		conn, err := Upgrade(w, req, o)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.conns = append(r.conns, conn)
		r.mu.Unlock()
		r.running.Go(func() {
			for err := error(nil); err == nil; _, err = conn.next() {
			}
			_ = conn.Close()
		})
	}))
	t.Cleanup(func() {
		r.server.Close()
		for _, c := range r.all() {
			_ = c.Close()
		}
		r.running.Wait()
	})
	return r
}

func (r *readers) all() []*Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conns
}

// announce returns the header of a frame of n bytes, and the first byte of its payload.
func announce(first byte, masked bool, n uint64) []byte {
	bit := byte(0)
	if masked {
		bit = 0x80
	}
	b := binary.BigEndian.AppendUint64([]byte{first, bit | 127}, n)
	if masked {
		b = append(b, 0, 0, 0, 0)
	}
	return append(b, '{')
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestAnnouncedFrames tests that a frame header does not reserve the bytes that it announces.
func TestAnnouncedFrames(t *testing.T) {
	const sockets = 200
	for name, first := range map[string]byte{"a whole message": 0x81, "a first fragment": 0x01} {
		t.Run(name, func(t *testing.T) {
			readers := newReaders(t, ConnOptions{})
			var peers []*wstest.Peer
			for range sockets {
				peers = append(peers, dialRaw(t, readers.server.Listener.Addr().String()))
			}
			eventually.Within(
				patience,
			).Holds(t, "all sockets are open", func() bool { return len(readers.all()) == sockets })
			before := heapBytes()
			for _, p := range peers {
				p.Bytes(announce(first, true, maxFrame))
			}
			eventually.Within(patience).Holds(t, "all headers have arrived", func() bool {
				for _, c := range readers.all() {
					if c.heard.Load() == 0 {
						return false
					}
				}
				return true
			})
			perSocket := (heapBytes() - before) / sockets
			t.Logf("15 bytes hold %d bytes", perSocket)
			if perSocket > 3*smallBuffer {
				t.Errorf("15 bytes hold %d bytes, want at most %d", perSocket, 3*smallBuffer)
			}
			runtime.KeepAlive(peers)
		})
	}
}

// long returns a message of n bytes.
func long(n int) string {
	const head, tail = `{"event":"media","stream_sid":"s1","media":{"payload":"`, `"}}`
	return head + strings.Repeat("A", n-len(head)-len(tail)) + tail
}

// TestLongMessages tests that messages up to the longest arrive unchanged, in one frame and in fragments, and that
// nothing stays charged.
func TestLongMessages(t *testing.T) {
	memory := budget.New(SharedMemory)
	options := quick()
	options.Memory = memory
	rig := newRig(t, options, ConnOptions{Memory: memory, WriteTimeout: patience}, nil)
	exotel, agent := rig.call()
	exotel.Text(connected, start)
	agent.Expect(connected, start)
	for _, n := range []int{
		smallBuffer - maxHeader, smallBuffer, smallBuffer + 4, 64 << 10, 133 << 10, 133<<10 + 4, maxFrame - 4, maxFrame,
	} {
		m := long(n &^ 3)
		for _, way := range []struct{ from, to *wstest.Peer }{{exotel, agent}, {agent, exotel}} {
			way.from.Text(m, dtmf)
			way.to.Expect(m, dtmf)
			way.from.Send(0x01, m[:n/3])
			way.from.Send(0x00, m[n/3:n/2])
			way.from.Send(0x80, m[n/2:])
			way.to.Expect(m)
		}
	}
	eventually.Within(patience).Holds(t, "nothing is charged", func() bool { return memory.InUse() == 0 })
}

// TestMessageMemory tests that messages in progress are charged, that the peer for which there is no memory left is
// closed with a reason, and that another call goes on.
func TestMessageMemory(t *testing.T) {
	for name, tc := range map[string]struct {
		first byte // of the frame
		side  Side
	}{
		"from Exotel":              {first: 0x81, side: exotelSide},
		"from the agent":           {first: 0x81, side: agentSide},
		"fragments from Exotel":    {first: 0x01, side: exotelSide},
		"fragments from the agent": {first: 0x01, side: agentSide},
	} {
		t.Run(name, func(t *testing.T) {
			const most, calls = 512 << 10, 4
			memory := budget.New(most)
			options := quick()
			options.Memory = memory
			rig := newRig(t, options, ConnOptions{Memory: memory}, nil)
			exotel, agent := rig.call()
			exotel.Text(connected, start)
			agent.Expect(connected, start)
			var held, others []*wstest.Peer
			for range calls { // two of them find room for 200 KB
				e, a := rig.call()
				from := map[Side]*wstest.Peer{exotelSide: e, agentSide: a}[tc.side]
				held, others = append(held, from), append(others, e, a)
				frame := announce(tc.first, from.Client, maxFrame)
				_, _ = from.Write(append(frame, strings.Repeat(" ", 200<<10)...))
			}
			end := rig.end()
			if end.Reason != NoMemory || end.Side != tc.side {
				t.Errorf("a call ended with %s of %s: %v", end.Reason, end.Side, end.Err)
			}
			if used := memory.InUse(); used > most {
				t.Errorf("%d bytes are in use, want at most %d", used, most)
			}
			exotel.Text(speech(1, 3200))
			agent.Expect(speech(1, 3200))
			agent.Text(speech(2, 3200))
			exotel.Expect(speech(2, 3200))
			codes := map[int]int{}
			for range calls - 2 {
				codes[expectClose(held[len(held)-1])]++
				held = held[:len(held)-1]
			}
			if codes[websocket.CloseTryAgainLater] != calls-2 {
				t.Errorf("closed with %v, want %d", codes, websocket.CloseTryAgainLater)
			}
			rig.cut(nil)
			runtime.KeepAlive(others)
			eventually.Within(patience).Holds(t, "nothing is charged", func() bool { return memory.InUse() == 0 })
		})
	}
}

// TestPendingMemory tests that bytes that a socket does not take are charged, and that a link fails when there is no
// memory for them.
func TestPendingMemory(t *testing.T) {
	const most = 64 << 10
	memory := budget.New(most)
	client, _ := tcpPair(t)
	link := newLink(client, ConnOptions{WriteTimeout: patience, Memory: memory})
	var err error
	for frame := make([]byte, maxFrame/4); err == nil; _, err = link.Write(frame) {
		if used := memory.InUse(); used > most {
			t.Fatalf("%d bytes are in use, want at most %d", used, most)
		}
	}
	if !errors.Is(err, errNoMemory) {
		t.Errorf("the link failed with %v, want %v", err, errNoMemory)
	}
	if verdict := agentEnded(err); verdict.reason != NoMemory {
		t.Errorf("the call ends with %s, want %s", verdict.reason, NoMemory)
	}
	link.wait()
	if used := memory.InUse(); used != 0 {
		t.Errorf("%d bytes are in use after the end", used)
	}
}

// TestSlowSender tests that a peer that takes too long to send one message is closed with 1008, wherever it stops.
func TestSlowSender(t *testing.T) {
	const within = 300 * time.Millisecond
	for name, tc := range map[string]struct {
		first func(masked bool) []byte
		again func(masked bool) []byte // sent again and again; nil: nothing
	}{
		"half a header": {first: func(masked bool) []byte { return announce(0x81, masked, maxFrame)[:1] }},
		"a header":      {first: func(masked bool) []byte { return announce(0x81, masked, maxFrame) }},
		"a dribbled frame": {
			first: func(masked bool) []byte { return announce(0x81, masked, maxFrame) },
			again: func(bool) []byte { return []byte(" ") },
		},
		"half a ping":      {first: func(masked bool) []byte { return frameBytes(0x89, masked, "ping")[:4] }},
		"no last fragment": {first: func(masked bool) []byte { return frameBytes(0x01, masked, "{") }},
		"tiny fragments": {
			first: func(masked bool) []byte { return frameBytes(0x01, masked, "{") },
			again: func(masked bool) []byte { return frameBytes(0x00, masked, " ") },
		},
		"empty fragments and pings": {
			first: func(masked bool) []byte { return frameBytes(0x01, masked, "{") },
			again: func(masked bool) []byte { return append(frameBytes(0x00, masked, ""), frameBytes(0x8a, masked, "")...) },
		},
		"the second of two frames": {
			first: func(masked bool) []byte {
				return append(frameBytes(0x81, masked, dtmf), announce(0x81, masked, 1000)...)
			},
		},
	} {
		for _, side := range []Side{exotelSide, agentSide} {
			t.Run(name+" from "+string(side), func(t *testing.T) {
				t.Parallel()
				rig := newRig(t, quick(), ConnOptions{MessageWithin: within}, nil)
				exotel, agent := rig.call()
				exotel.Text(connected, start)
				agent.Expect(connected, start)
				from := map[Side]*wstest.Peer{exotelSide: exotel, agentSide: agent}[side]
				from.Bytes(tc.first(from.Client))
				stop := make(chan struct{})
				var dribbling sync.WaitGroup
				if tc.again != nil {
					dribbling.Go(func() { dribble(from, tc.again(from.Client), stop) })
				}
				if code := expectClose(from); code != websocket.ClosePolicyViolation {
					t.Errorf("closed with %d, want %d", code, websocket.ClosePolicyViolation)
				}
				close(stop)
				dribbling.Wait()
				if end := rig.end(); end.Reason != SlowSender || end.Side != side {
					t.Errorf("ended with %s of %s: %v", end.Reason, end.Side, end.Err)
				}
				runtime.KeepAlive(exotel)
				runtime.KeepAlive(agent)
			})
		}
	}
}

// dribble writes b every 20 ms until it is stopped.
func dribble(to *wstest.Peer, b []byte, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		if _, err := to.Write(b); err != nil {
			return
		}
	}
}

// TestPausesBetweenMessages tests that the limit is for one message: a peer may be silent between two, and messages
// that arrive in pieces may follow each other for as long as they like.
func TestPausesBetweenMessages(t *testing.T) {
	const within = 2 * time.Second
	const inMessage, betweenMessages = within / 20, within + within/5 // a peer's pauses
	rig := newRig(t, quick(), ConnOptions{MessageWithin: within}, nil)
	exotel, agent := rig.call()
	exotel.Text(connected, start)
	agent.Expect(connected, start)
	for i := range 6 {
		for _, way := range []struct{ from, to *wstest.Peer }{{exotel, agent}, {agent, exotel}} {
			m := speech(i, 3200)
			frame := frameBytes(0x81, way.from.Client, m)
			way.from.Bytes(frame[:100])
			time.Sleep(inMessage)
			way.from.Bytes(frame[100:])
			way.to.Expect(m)
			way.from.Send(0x01, m[:100])
			time.Sleep(inMessage)
			way.from.Send(0x80, m[100:])
			way.to.Expect(m)
		}
	}
	time.Sleep(betweenMessages)
	exotel.Text(dtmf)
	agent.Expect(dtmf)
	runtime.KeepAlive(exotel)
	select {
	case end := <-rig.ends:
		t.Errorf("the call ended with %s: %v", end.Reason, end.Err)
	default:
	}
}
