package bridge

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/budget"
	"github.com/caly-dev/caly/internal/exotel/agentstream"
	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// memory is a connection whose peer has said all that it will say; what is written is kept.
type memory struct {
	net.Conn
	from  *bytes.Reader
	chunk int // the most that one read returns; 0: no bound
	to    bytes.Buffer
}

func (m *memory) Read(p []byte) (int, error) {
	if m.chunk > 0 && m.chunk < len(p) {
		p = p[:m.chunk]
	}
	return m.from.Read(p)
}

func (m *memory) Write(p []byte) (int, error) { return m.to.Write(p) }
func (m *memory) Close() error                { return nil }

func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }

// takeover is a request whose connection can be taken over.
type takeover struct {
	http.ResponseWriter
	m *memory
}

func (t takeover) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return t.m, bufio.NewReadWriter(bufio.NewReader(strings.NewReader("")), bufio.NewWriter(t.m)), nil
}

func handshakeRequest(t *testing.T) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"Connection":            "Upgrade",
		"Upgrade":               "websocket",
		"Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key":     testKey,
	} {
		req.Header.Set(k, v)
	}
	return req
}

// FuzzConn tests that a Conn reads the messages that gorilla reads and ends where gorilla ends, whatever a peer sends
// and however it is cut, and that nothing stays charged. The limit is more than two small buffers, so that buffers
// grow.
func FuzzConn(f *testing.F) {
	const limit = 40_000
	for _, seed := range [][]byte{
		frameBytes(0x81, true, connected),
		append(frameBytes(0x81, true, connected), frameBytes(0x82, true, speech(1, 3200))...),
		append(append(frameBytes(0x01, true, "ab"), frameBytes(0x89, true, "x")...), frameBytes(0x80, true, "cd")...),
		frameBytes(0x88, true, "\x03\xe8bye"), frameBytes(0x81, true, strings.Repeat("x", 5000)), frameBytes(0xc1, true, "x"),
		frameBytes(0x81, false, "x"), {0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4}, frameBytes(0x81, true, "x")[:4],
		append(frameBytes(0x81, true, long(limit)), frameBytes(0x81, true, dtmf)...), frameBytes(0x81, true, long(limit+1)),
		append(frameBytes(0x01, true, long(limit-2)), frameBytes(0x80, true, "ab")...), announce(0x81, true, limit),
		append(frameBytes(0x01, true, long(20_000)), frameBytes(0x80, true, long(20_001))...),
	} {
		for _, chunk := range []uint16{0, 1, 1460, smallBuffer - 1} {
			f.Add(seed, chunk)
		}
	}
	f.Fuzz(func(t *testing.T, sent []byte, chunk uint16) {
		shared := budget.New(SharedMemory)
		from := &memory{from: bytes.NewReader(sent), chunk: int(chunk)}
		ours, err := Upgrade(takeover{m: from}, handshakeRequest(t), ConnOptions{MaxFrame: limit, Memory: shared})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = ours.Close()
			if used := shared.InUse(); used != 0 {
				t.Errorf("%d bytes are in use after the end", used)
			}
		}()
		theirs, err := (&websocket.Upgrader{ReadBufferSize: 1024}).Upgrade(
			takeover{m: &memory{from: bytes.NewReader(sent)}}, handshakeRequest(t), nil,
		)
		if err != nil {
			t.Fatal(err)
		}
		theirs.SetReadLimit(limit)
		for {
			got, err := ours.next()
			kind, want, wantErr := theirs.ReadMessage()
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("ended with %v, and gorilla with %v", err, wantErr)
			}
			if err != nil {
				if errors.Is(err, errFlood) {
					t.Skip("gorilla alone does not mind")
				}
				return
			}
			if int(got.op) != kind || !bytes.Equal(got.payload(), want) {
				t.Fatalf("got %d %q, and gorilla %d %q", got.op, got.payload(), kind, want)
			}
		}
	})
}

// FuzzSeal verifies that a sealed frame of any length is read back, and that it fits in the room of the original
// header.
func FuzzSeal(f *testing.F) {
	for _, n := range []int{0, 1, 125, 126, 127, 65_535, 65_536, 70_000} {
		f.Add(strings.Repeat("x", n), n%2 == 0)
	}
	f.Fuzz(func(t *testing.T, payload string, masked bool) {
		came := frameBytes(0x81, masked, payload)
		header, ok := parseHeader(came)
		if !ok || !header.wholeMessage() || header.masked != masked || int(header.length) != len(payload) {
			t.Fatalf("the header was read as %+v, %v", header, ok)
		}
		for cut := range header.size {
			if _, ok := parseHeader(came[:cut]); ok {
				t.Errorf("%d bytes of %d are a header", cut, header.size)
			}
		}
		if masked {
			applyMask(header.mask, came[header.size:])
		}
		again := seal(came, header.size, opBinary, masked)
		peer := wstest.Reader(t, bytes.NewReader(again), !masked)
		got, err := peer.Read()
		if err != nil || got.First != 0x82 || got.Payload != payload {
			t.Errorf("read back as %+v, %v", got, err)
		}
	})
}

// TestMasksDiffer checks that the masks of a client follow no pattern.
func TestMasksDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		seen[string(seal(make([]byte, 20), 14, opText, true)[2:6])] = true
	}
	if len(seen) < 990 {
		t.Errorf("1000 frames had %d masks", len(seen))
	}
}

// TestBuffers verifies that a buffer has the requested length and is not much larger.
func TestBuffers(t *testing.T) {
	for _, n := range []int{1, smallBuffer, smallBuffer + 1, 100_000, maxFrame + maxHeader} {
		b := takeBuffer(n)
		if len(b.b) < n || len(b.b) > 4*max(n, smallBuffer) {
			t.Errorf("%d bytes for %d", len(b.b), n)
		}
		b.give()
	}
	(*buffer)(nil).give()
}

// TestRelayAllocatesNothing verifies that a relayed frame allocates no memory, in either direction.
func TestRelayAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector has pools forget")
	}
	rig := newRig(t, Options{Observer: NewMetrics(prometheus.NewRegistry()).Observer()}, ConnOptions{}, nil)
	exotel, agent := rig.call()
	exotel.Text(connected, start)
	agent.Expect(connected, start)
	m := speech(7, 1600)
	up := frameBytes(0x81, true, m)
	down := frameBytes(0x81, false, m)
	back := make([]byte, len(up))
	through := func(n int) {
		for range n {
			exotel.Bytes(up)
			if err := agent.Full(back[:len(up)]); err != nil {
				t.Fatal(err)
			}
			agent.Bytes(down)
			if err := exotel.Full(back[:len(down)]); err != nil {
				t.Fatal(err)
			}
		}
	}
	through(100)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	through(2000)
	runtime.ReadMemStats(&after)
	if got := after.Mallocs - before.Mallocs; got > 400 { // a collection empties the pools now and then
		t.Errorf("4000 frames brought about %d allocations", got)
	}
}

// TestMetrics verifies that the metrics count the events of a call, and that other series exist with zero.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	metrics := NewMetrics(registry)
	options := quick()
	options.Observer = metrics.Observer()
	rig := newRig(t, options, ConnOptions{}, nil)
	exotel, agent := rig.call()
	exotel.Text(connected, start, `{"event":"silence","stream_sid":"s1"}`, `not JSON`, stop)
	agent.Expect(connected, start, `{"event":"silence","stream_sid":"s1"}`, stop)
	expectClose(agent)
	expectClose(exotel)
	metrics.Ended(rig.end())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	series := map[string]int{}
	for _, f := range families {
		series[f.GetName()] = len(f.GetMetric())
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				got[strings.TrimPrefix(f.GetName(), "caly_audio_")+" "+l.GetValue()] = m.GetCounter().GetValue() + float64(
					m.GetHistogram().GetSampleCount(),
				)
			}
		}
	}
	for name, want := range map[string]float64{
		"frames_total to_agent":          4,
		"frames_total to_exotel":         0,
		"rejected_total to_agent":        1,
		"rejected_total to_exotel":       0,
		"dropped_total to_agent":         0,
		"added_latency_seconds to_agent": 4,
		"oddities_total unknown_event":   1,
		"ends_total call_ended":          1,
		"ends_total slow":                0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, %v; want %v", name, v, ok, want)
		}
	}
	for name, want := range map[string]int{"ends_total": len(Reasons()), "oddities_total": agentstream.Oddities} {
		if got := series["caly_audio_"+name]; got != want {
			t.Errorf("%s has %d series, want %d", name, got, want)
		}
	}
}
