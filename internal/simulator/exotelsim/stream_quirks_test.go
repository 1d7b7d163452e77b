package exotelsim

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// TestStreamMarks come back when the audio before them was heard, and are lost with it.
func TestStreamMarks(t *testing.T) {
	mark := func(name string) string { return `{"event":"mark","stream_sid":"s1","mark":{"name":"` + name + `"}}` }
	const clear = `{"event":"clear","stream_sid":"s1"}`
	for name, tc := range map[string]struct {
		say     []string
		quirks  StreamQuirks
		want    []string
		atLeast time.Duration // until the last one
	}{
		"nothing before it": {[]string{mark("a")}, StreamQuirks{}, []string{"a"}, 0},
		"behind audio": {
			[]string{say(1600), mark("a"), say(1600), mark("b")},
			StreamQuirks{},
			[]string{"a", "b"},
			200 * ms,
		},
		"behind a clear": {
			[]string{say(160000), mark("a"), clear, mark("b")},
			StreamQuirks{},
			[]string{"b"},
			0,
		},
		"behind a clear, as asked": {
			[]string{say(160000), mark("a"), clear, mark("b")},
			StreamQuirks{MarksOnClear: true},
			[]string{"a", "b"},
			0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			var last time.Duration
			url, done := scripted(t, func(_ *http.Request, ws *websocket.Conn) {
				begin := time.Now()
				write(ws, tc.say...)
				hear(ws, func(_ int, m string) {
					if _, rest, ok := strings.Cut(m, `"mark":{"name":"`); ok {
						got, last = append(got, rest[:1]), time.Since(begin)
					}
				})
			})
			stream := short
			stream.URL = url
			stream.Quirks = tc.quirks
			stream.Duration = 500 * ms
			report := run(t, stream)
			finish(t, done)
			if d := cmp.Diff(tc.want, got); d != "" || last < tc.atLeast {
				t.Errorf("after %s, want %s at least; marks (-want +got):\n%s", last, tc.atLeast, d)
			}
			said := strings.Join(tc.say, "")
			if report.MarksReturned != len(tc.want) || report.MarksReceived != strings.Count(said, `"event":"mark"`) ||
				report.Clears != strings.Count(said, `"event":"clear"`) {
				t.Errorf("%+v", report)
			}
		})
	}
}

// TestStreamReportsWhatExotelWouldNotTake verifies that a stream reports messages that Exotel rejects, and the sizes of
// chunks.
func TestStreamReportsWhatExotelWouldNotTake(t *testing.T) {
	for name, tc := range map[string]struct {
		kind    int
		say     string
		want    Report
		problem string
	}{
		"documented": {websocket.TextMessage, say(3200), Report{Received: Traffic{1, 3200}}, ""},
		"without an id": {
			websocket.TextMessage,
			strings.Replace(say(3200), `"stream_sid":"s1",`, "", 1),
			Report{Received: Traffic{1, 3200}},
			"",
		},
		"small":  {websocket.TextMessage, say(320), Report{Received: Traffic{1, 320}, Small: 1}, ""},
		"uneven": {websocket.TextMessage, say(3300), Report{Received: Traffic{1, 3300}, Uneven: 1}, ""},
		"large":  {websocket.TextMessage, say(102400), Report{Received: Traffic{1, 102400}, Large: 1}, ""},
		"other casing": {websocket.TextMessage, strings.Replace(say(3200), "stream_sid", "streamSid", 1), Report{
			Received: Traffic{1, 3200},
			Unusual:  1,
		}, ""},
		"more keys": {websocket.TextMessage, strings.Replace(say(3200), `"media":{`, `"media":{"chunk":"1",`, 1),
			Report{
				Received: Traffic{1, 3200},
				Unusual:  1,
			}, ""},
		"binary": {websocket.BinaryMessage, say(3200), Report{Invalid: 1}, "a binary message"},
		"another stream": {
			websocket.TextMessage,
			strings.Replace(say(3200), "s1", "s2", 1),
			Report{Invalid: 1},
			"a message for another stream",
		},
		"no base64": {
			websocket.TextMessage,
			`{"event":"media","stream_sid":"s1","media":{"payload":"?"}}`,
			Report{Invalid: 1},
			"media without base64",
		},
		"no payload": {
			websocket.TextMessage,
			`{"event":"media","stream_sid":"s1"}`,
			Report{Invalid: 1},
			"media without base64",
		},
		"unknown event": {websocket.TextMessage, `{"event":"hello"}`, Report{Invalid: 1}, `an event "hello"`},
		"no JSON": {websocket.TextMessage, `hello`, Report{
			Invalid: 1,
			Unusual: 1,
		}, "no JSON: invalid character 'h' looking for beginning of value"},
		"something after it": {websocket.TextMessage, say(3200) + "}", Report{
			Invalid: 1,
			Unusual: 1,
		}, "no JSON: invalid character '}' after top-level value"},
	} {
		t.Run(name, func(t *testing.T) {
			url, done := scripted(t, func(_ *http.Request, ws *websocket.Conn) {
				_ = ws.WriteMessage(tc.kind, []byte(tc.say))
				hear(ws, func(int, string) {})
			})
			stream := short
			stream.URL = url
			report := run(t, stream)
			finish(t, done)
			tc.want.Problem = tc.problem
			got := Report{
				Received: report.Received,
				Small:    report.Small,
				Uneven:   report.Uneven,
				Large:    report.Large,
				Invalid:  report.Invalid,
				Unusual:  report.Unusual,
				Problem:  report.Problem,
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestStreamHearsGaps(t *testing.T) {
	const gap = 150 * ms
	url, done := scripted(t, func(_ *http.Request, ws *websocket.Conn) {
		write(ws, say(320))
		time.Sleep(gap)
		write(ws, say(320), say(320))
		hear(ws, func(int, string) {})
	})
	stream := short
	stream.URL = url
	stream.Duration = 300 * ms
	report := run(t, stream)
	finish(t, done)
	if len(report.Gaps) != 1 || report.Gaps[0] < 100*ms {
		t.Errorf("gaps %v, want one of about 130 ms", report.Gaps)
	}
}

// TestStreamEndsEarly because the agent does: how, is told.
func TestStreamEndsEarly(t *testing.T) {
	for name, tc := range map[string]struct {
		o        agentsim.Options
		wantCode int
		wantText string
	}{
		"closed":             {agentsim.Options{CloseAfter: 3}, websocket.CloseNormalClosure, "the agent is done"},
		"closed with a code": {agentsim.Options{CloseAfter: 3, CloseCode: 4001}, 4001, "the agent is done"},
		"dropped":            {agentsim.Options{DropAfter: 3}, websocket.CloseAbnormalClosure, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := newAgent(t, tc.o)
			report := run(t, Stream{URL: server.URL(), Audio: Noise(8000), Duration: time.Hour})
			if report.HungUp || report.Code != tc.wantCode || tc.wantText != "" && report.Text != tc.wantText ||
				report.Sent.Frames < 3 ||
				report.Received.Frames != 2 ||
				report.Echo.Missing == 0 {
				t.Errorf("%+v", report)
			}
		})
	}
}

// TestStreamDrops its connection without a close.
func TestStreamDrops(t *testing.T) {
	server := newAgent(t, agentsim.Options{})
	report := run(t, Stream{URL: server.URL(), Audio: Noise(8000), Quirks: StreamQuirks{DropAfter: 3}})
	if report.Sent.Frames != 3 || !report.HungUp || report.Code != websocket.CloseAbnormalClosure {
		t.Errorf("%+v", report)
	}
	eventually.Within(10*time.Second).Holds(t, "the agent has no call", func() bool { return server.Live() == 0 })
	if c := server.Calls(); len(c) != 1 || c[0].Code != websocket.CloseAbnormalClosure || c[0].Stopped ||
		c[0].Pieces != 3 {
		t.Errorf("the agent saw %+v", c)
	}
}

// TestStreamPlaysDead verifies that a dead line answers no ping and reads nothing. Later it sees that the agent gave it
// up.
func TestStreamPlaysDead(t *testing.T) {
	const silence = 50 * ms // longer than the pace: a line that is not dead sends its next frame meanwhile
	pongs := 0
	url, done := scripted(t, func(_ *http.Request, ws *websocket.Conn) {
		ws.SetPongHandler(func(string) error { pongs++; return nil })
		frames := 0
		for frames < 3 { // one before, with the line alive
			if _, m, err := ws.ReadMessage(); err != nil {
				return
			} else if strings.Contains(string(m), `"media"`) {
				frames++
			}
			if frames == 1 {
				_ = ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second))
			}
		}
		time.Sleep(silence)
		before := pongs
		_ = ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second))
		_ = ws.SetReadDeadline(time.Now().Add(100 * ms)) // an agent that waits for its pong
		hear(ws, func(_ int, m string) { t.Errorf("the dead says %s", m) })
		if before == 0 || pongs != before {
			t.Errorf("%d pongs before its death, %d after", before, pongs-before)
		}
	})
	stream := Stream{URL: url, Audio: Noise(8000), Quirks: StreamQuirks{DeadAfter: 3, DeadFor: 500 * ms}}
	report := run(t, stream)
	finish(t, done)
	if report.HungUp || report.Sent.Frames != 3 || report.Code != websocket.CloseAbnormalClosure || report.Pings == 0 {
		t.Errorf("%+v", report)
	}
}

// TestStreamReadsSlowly verifies that a slow reader blocks an agent that sends more than it reads.
func TestStreamReadsSlowly(t *testing.T) {
	blocked := false
	url, done := scripted(t, func(_ *http.Request, ws *websocket.Conn) {
		big := []byte(say(64 << 10))
		_ = ws.SetWriteDeadline(time.Now().Add(300 * ms))
		for range 500 {
			if ws.WriteMessage(websocket.TextMessage, big) != nil {
				blocked = true
				return
			}
		}
	})
	stream := short
	stream.URL = url
	stream.Duration = 5 * time.Second
	stream.Quirks = StreamQuirks{ReadDelay: 200 * ms}
	report := run(t, stream)
	finish(t, done)
	if !blocked || report.HungUp {
		t.Errorf("43 MB were sent to a slow reader: %+v", report)
	}
}
