package bridge

import (
	"encoding/base64"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/exotel/agentstream"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// listener keeps what a tap is told.
type listener struct {
	mu     sync.Mutex
	caller []string
	agent  []string // payloads, and "clear"
	times  []time.Duration
}

func (l *listener) note(list *[]string, what string, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*list = append(*list, what)
	l.times = append(l.times, at)
}

// Caller keeps a payload.
func (l *listener) Caller(payload []byte, at time.Duration) { l.note(&l.caller, string(payload), at) }

// Agent keeps a payload.
func (l *listener) Agent(payload []byte, at time.Duration) { l.note(&l.agent, string(payload), at) }

// Clear keeps that it was told.
func (l *listener) Clear(at time.Duration) { l.note(&l.agent, "clear", at) }

func (l *listener) heard() (caller, agent []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.caller...), append([]string(nil), l.agent...)
}

func mediaOf(payload string) string {
	return `{"event":"media","stream_sid":"s1","media":{"payload":"` + payload + `"}}`
}

// TestTap verifies that a tap gets the audio of both directions in order, for each form of the messages.
func TestTap(t *testing.T) {
	l := &listener{}
	before := Now()
	r := newRig(t, quick(), ConnOptions{}, func(_ *rig, o *Options) { o.Tap = l })
	exotel, peer := r.call()
	exotel.Text(connected, start, mediaOf("AAAA"), mediaOf("BBBB"))
	peer.Expect(connected, start, mediaOf("AAAA"), mediaOf("BBBB"))
	odd := `{ "media" : {"payload":"CC\/C"} , "event":"media"}`
	long := mediaOf(strings.Repeat("DDDD", 5000))
	peer.Text(
		mediaOf("EEEE"),
		odd,
		`{"event":"mark","stream_sid":"s1","mark":{"name":"m"}}`,
		`{"event":"clear","stream_sid":"s1"}`,
		long,
	)
	exotel.Expect(
		mediaOf("EEEE"),
		odd,
		`{"event":"mark","stream_sid":"s1","mark":{"name":"m"}}`,
		`{"event":"clear","stream_sid":"s1"}`,
		long,
	)
	eventually.Within(patience).Holds(t, "the tap is told", func() bool { _, said := l.heard(); return len(said) == 4 })
	caller, said := l.heard()
	if diff := cmp.Diff([]string{"AAAA", "BBBB"}, caller); diff != "" {
		t.Errorf("of the caller (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"EEEE", "CC/C", "clear", strings.Repeat("DDDD", 5000)}, said); diff != "" {
		t.Errorf("of the agent (-want +got):\n%s", diff)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range l.times {
		if at < before || at > Now() {
			t.Errorf("it was told at %v, between %v and %v", at, before, Now())
		}
	}
}

// TestTapTranslated verifies that a tap gets what Exotel gets from an agent with another protocol.
func TestTapTranslated(t *testing.T) {
	l := &listener{}
	r := newRig(t, quick(), ConnOptions{}, func(_ *rig, o *Options) {
		o.Tap = l
		o.Codec, _ = agent.New(agent.PCM)
	})
	exotel, peer := r.call()
	exotel.Text(connected, start, mediaOf("AAAA"))
	for { // the agent's start and audio
		frame, err := peer.Read()
		if err != nil {
			t.Fatal(err)
		}
		if frame.First == 0x82 {
			break
		}
	}
	pcm := strings.Repeat("\x01\x02", 160)
	peer.Send(0x82, pcm)
	eventually.Within(patience).Holds(t, "the tap is told", func() bool { _, said := l.heard(); return len(said) > 0 })
	_, said := l.heard()
	if diff := cmp.Diff([]string{base64.StdEncoding.EncodeToString([]byte(pcm))}, said); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTapUnheard verifies that a tap does not get audio that was dropped or cleared.
func TestTapUnheard(t *testing.T) {
	const ms = time.Millisecond
	frameOf := func(payload string) []byte {
		return seal(append(make([]byte, maxHeader), mediaOf(payload)...), maxHeader, opText, false)
	}
	l := &listener{}
	lane := lane{budget: 200 * ms, rate: 16000, sink: sink{observer: &silent.ToExotel}, outlet: outletOf(l)}
	give := func(payload string, at time.Duration) {
		if err := lane.send(agentstream.Media, frameOf(payload), 1600, at); err != nil {
			t.Fatal(err)
		}
	}
	for i, payload := range []string{"AAAA", "BBBB", "CCCC", "DDDD"} { // no connection: it waits, beyond the budget
		give(payload, time.Duration(i)*100*ms)
	}
	attached(t, &lane)
	lane.detach()
	give("EEEE", 0)
	if err := lane.send(
		agentstream.Clear,
		seal(append(make([]byte, maxHeader), `{"event":"clear"}`...), maxHeader, opText, false),
		0,
		0,
	); err != nil {
		t.Fatal(err)
	}
	give("FFFF", 0)
	attached(t, &lane)
	_, said := l.heard()
	if diff := cmp.Diff([]string{"CCCC", "DDDD", "clear", "FFFF"}, said, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// attached gives a lane a connection that takes all.
func attached(t *testing.T, l *lane) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	peer, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	own, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	link := newLink(own, ConnOptions{WriteTimeout: time.Second})
	conn := newConn(link, link, true, ConnOptions{}.withDefaults())
	t.Cleanup(func() { _ = conn.Close(); _ = peer.Close() })
	if err := l.attach(conn, nil); err != nil {
		t.Fatal(err)
	}
}

// nowhere takes what it is told.
type nowhere struct{ n int }

func (n *nowhere) Caller(payload []byte, _ time.Duration) { n.n += len(payload) }
func (n *nowhere) Agent(payload []byte, _ time.Duration)  { n.n += len(payload) }
func (n *nowhere) Clear(time.Duration)                    {}

// TestTapAllocates verifies that a frame allocates no memory, with a tap or without.
func TestTapAllocates(t *testing.T) {
	frame := seal(append(make([]byte, maxHeader), speech(1, 320)...), maxHeader, opText, false)
	n := &nowhere{}
	for name, o := range map[string]*outlet{"none": outletOf(nil), "one": outletOf(n)} {
		if got := testing.AllocsPerRun(1000, func() {
			if o != nil {
				o.passed(agentstream.Media, frame)
			}
		}); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
	if n.n == 0 {
		t.Error("it was told nothing")
	}
	outletOf(n).passed(agentstream.Media, frame[:1]) // no frame
}
