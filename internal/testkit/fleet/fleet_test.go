//go:build linux

package fleet

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

func dial(t *testing.T, o Options) *Fleet {
	t.Helper()
	fleet, err := Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fleet.Close)
	return fleet
}

func echo(t *testing.T, o agentsim.Options) *agentsim.Server {
	t.Helper()
	server, err := agentsim.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

// TestEcho verifies that each call gets its own audio back at the pace, in two talks, and that the calls end in order.
func TestEcho(t *testing.T) {
	descriptors := openDescriptors(t)
	for _, pace := range []time.Duration{20 * time.Millisecond, 100 * time.Millisecond} {
		server := echo(t, agentsim.Options{})
		const calls = 30
		fleet := dial(t, Options{Address: server.Addr(), Path: "/stream", Calls: calls, Pace: pace})
		for range 2 { // one talk after the other
			report := fleet.Talk(t.Context(), time.Second, patience)
			want := int64(calls * time.Second / pace)
			if report.Err() != nil || report.Sent != want || report.Equal != want ||
				len(report.RoundTrip) != int(want) ||
				report.Quantile(0.5) <= 0 ||
				report.Quantile(1) < report.Quantile(0.5) {
				t.Errorf(
					"%v, %d sent, %d equal, %d timed", report.Err(), report.Sent, report.Equal, len(report.RoundTrip),
				)
			}
		}
		// An echo waits for who called to close; a data plane closes at the stop.
		fleet.HangUp(t.Context(), 50*time.Millisecond)
		fleet.Close()
		eventually.Within(patience).Holds(t, "the agent has no call", func() bool { return server.Live() == 0 })
		seen := map[string]bool{}
		for _, c := range server.Calls() {
			if c.Problem != "" || !c.Stopped || c.Start.CallID != c.Start.StreamID || c.Bytes != 2*16000 {
				t.Errorf("the agent saw %+v", c)
			}
			seen[c.Start.CallID] = true
		}
		if len(seen) != calls {
			t.Errorf("%d calls, want %d", len(seen), calls)
		}
		server.Close()
	}
	if n := openDescriptors(t); n > descriptors {
		t.Errorf("%d descriptors are left of %d", n, descriptors)
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestFaults verifies that the report counts each kind of fault in the audio that comes back.
func TestFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(ws *websocket.Conn, n int, message string)
		want   Report
	}{
		"nothing": {func(*websocket.Conn, int, string) {}, Report{Sent: 10, Missing: 10}},
		"one is lost": {func(ws *websocket.Conn, n int, m string) { say(ws, m, n != 4) }, Report{
			Sent:    10,
			Equal:   9,
			Missing: 1,
		}},
		"one is double": {func(ws *websocket.Conn, n int, m string) { say(ws, m, true); say(ws, m, n == 9) }, Report{
			Sent:  10,
			Equal: 10,
			Wrong: 1,
		}},
		"a bit flips": {func(ws *websocket.Conn, n int, m string) { say(ws, flip(m, n == 7), true) }, Report{
			Sent:  10,
			Equal: 9,
			Wrong: 1,
		}},
		"another call": {func(ws *websocket.Conn, _ int, m string) { say(ws, strings.Replace(m, "fleet0", "fleet1", 1), true) }, Report{
			Sent:  10,
			Wrong: 10,
		}},
		"it closes": {closeAt(5), Report{Sent: 5, Equal: 4, Missing: 1, Skipped: 5, Codes: map[int]int{4000: 1}}},
		"pings": {func(ws *websocket.Conn, _ int, m string) {
			_ = ws.WriteControl(websocket.PingMessage, []byte("x"), time.Now().Add(time.Second))
			say(ws, m, true)
		}, Report{Sent: 10, Equal: 10}},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(
				http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(t, w, r, tc.answer) }),
			)
			defer server.Close()
			fleet := dial(t, Options{
				Address: strings.TrimPrefix(server.URL, "http://"),
				Path:    "/",
				Calls:   1,
				Pace:    20 * time.Millisecond,
				Threads: 1,
			})
			defer fleet.Close()
			got := fleet.Talk(t.Context(), 200*time.Millisecond, 500*time.Millisecond)
			if (got.Err() == nil) != (tc.want.Equal == tc.want.Sent && tc.want.Wrong == 0) {
				t.Errorf("says %v", got.Err())
			}
			got.RoundTrip = nil
			got.Late = 0
			if tc.want.Codes == nil {
				tc.want.Codes = map[int]int{}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func closeAt(n int) func(*websocket.Conn, int, string) {
	return func(ws *websocket.Conn, at int, m string) {
		if at == n-1 {
			_ = ws.WriteControl(
				websocket.CloseMessage, websocket.FormatCloseMessage(4000, "enough"), time.Now().Add(time.Second),
			)
		}
		say(ws, m, at < n-1)
	}
}

func say(ws *websocket.Conn, m string, wanted bool) {
	if wanted {
		_ = ws.WriteMessage(websocket.TextMessage, []byte(m))
	}
}

func flip(m string, wanted bool) string {
	if wanted {
		return m[:len(m)-20] + string(m[len(m)-20]^1) + m[len(m)-19:]
	}
	return m
}

// serve echoes as answer does; what it reads it holds to RFC 6455.
func serve(
	t *testing.T,
	w http.ResponseWriter,
	r *http.Request,
	answer func(ws *websocket.Conn, n int, message string),
) {
	ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = ws.Close() }()
	for n := 0; ; {
		_, m, err := ws.ReadMessage()
		if err != nil {
			return
		}
		_, payload, ok := bytes.Cut(m, []byte(`"payload":"`))
		if !ok {
			continue
		}
		payload, _, _ = bytes.Cut(payload, []byte{'"'})
		if audio, err := base64.StdEncoding.AppendDecode(nil, payload); err != nil || len(audio) != 320 {
			t.Errorf("%d bytes of audio, %v", len(audio), err)
		}
		answer(ws, n, fmt.Sprintf(`{"event":"media","stream_sid":"fleet000000","media":{"payload":"%s"}}`, payload))
		n++
	}
}

// TestRefusal verifies that one rejected call is an error of Dial, which leaves no descriptor of the others open.
func TestRefusal(t *testing.T) {
	server := echo(t, agentsim.Options{Refuse: 503, RefuseTimes: 1})
	before := openDescriptors(t)
	if _, err := Dial(t.Context(), Options{
		Address: server.Addr(),
		Path:    "/",
		Calls:   5,
	}); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("%v", err)
	}
	eventually.Within(patience).Succeeds(t, func(context.Context) error {
		if n := openDescriptors(t); n > before+1 {
			return fmt.Errorf("%d descriptors are open, %d were", n, before)
		}
		return nil
	})
}

// TestFrames of all lengths are what gorilla reads, and the server's are found whole or not at all.
func TestFrames(t *testing.T) {
	for _, n := range []int{0, 1, 7, 8, 125, 126, 1000, 65535, 65536, 100_000} {
		payload := bytes.Repeat([]byte("abcdefg"), n/7+1)[:n]
		f := frame([]byte("before"), 0x81, payload)[len("before"):]
		if f[1]&0x80 == 0 {
			t.Errorf("%d bytes are not masked", n)
		}
		head := len(f) - n - 4
		server := append(bytes.Clone(f[:head]), payload...)
		server[1] &= 0x7f
		for i := range n {
			if f[head+4+i]^f[head+i%4] != payload[i] {
				t.Fatalf("byte %d of %d is not what was masked", i, n)
			}
		}
		for _, cut := range []int{0, 1, 2, head - 1, len(server) - 1} {
			if cut < len(server) {
				if _, _, size := parse(server[:cut]); size != 0 {
					t.Errorf("%d bytes of a frame of %d are one of %d", cut, len(server), size)
				}
			}
		}
		first, got, size := parse(append(server, 0x81))
		if first != 0x81 || size != len(server) || !bytes.Equal(got, payload) {
			t.Errorf("of %d bytes: %#x, %d bytes in %d", n, first, len(got), size)
		}
	}
}
