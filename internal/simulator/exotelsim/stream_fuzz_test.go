package exotelsim

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// FuzzStreamMessage verifies that each message of an agent is counted once, and that only JSON counts as valid.
func FuzzStreamMessage(f *testing.F) {
	for _, m := range []string{say(320), `{"event":"media","stream_sid":"s1","media":{"payload":"AA\nAA"}}`,
		`{"event":"media","media":{"payload":"AAAA"}} `,
		`{"event":"mark","mark":{"name":"x"}}`, `{"event":"clear"}`,
		`{"event":"media","stream_sid":"s1","media":{"payload":""}}`, "{", "", "null", "[]",
		`{"event":"media","stream_sid":"s1","media":{"payload":"AAAA"},"media":{"payload":"!"}}`, `{"event":7}`} {
		f.Add([]byte(m), true)
	}
	f.Fuzz(func(t *testing.T, message []byte, text bool) {
		stream, err := short.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		l := newLine(stream, nil, 0)
		defer l.timer.Stop()
		in := listener{
			line:  l,
			frame: message,
			media: []byte(`{"event":"media","stream_sid":"s1","media":{"payload":"`),
		}
		kind := websocket.BinaryMessage
		if text {
			kind = websocket.TextMessage
		}
		in.take(kind)
		report := l.result
		if n := report.Received.Frames + report.MarksReceived + report.Clears + report.Invalid; n != 1 {
			t.Errorf("%q counts %d times", message, n)
		}
		if report.Invalid == 0 && !json.Valid(message) {
			t.Errorf("%q passes for JSON", message)
		}
		if (report.Invalid == 1) != (report.Problem != "") || report.Received.Bytes != l.echo.result.Extra {
			t.Errorf("%q: %+v", message, report)
		}
		if n := len(l.play.marks); n != report.MarksReceived {
			t.Errorf("%q leaves %d marks", message, n)
		}
	})
}

// TestSpellingsOfAStream verifies that each message is JSON with its event, for each combination of quirks.
func TestSpellingsOfAStream(t *testing.T) {
	for n := range 8 {
		stream, err := short.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		stream.StreamSID = `s"\1`
		stream.Quirks.CamelCase = n&1 > 0
		stream.Quirks.ExtraKeys = n&2 > 0
		if n&4 > 0 {
			stream.Quoting = Strings
		}
		speller := newSpeller(stream)
		for i, msg := range [][]byte{
			speller.start(map[string]string{"k": `"`}),
			speller.media(nil, []byte("ab"), time.Second),
			speller.mark(nil, `a"b`),
			speller.dtmf(nil, "#"),
			speller.stop(nil, "stopped"),
		} {
			var m map[string]any
			if err := json.Unmarshal(msg, &m); err != nil {
				t.Fatalf("%s: %v", msg, err)
			}
			event := []string{"start", "media", "mark", "dtmf", "stop"}[i]
			if body, ok := m[event].(map[string]any); !ok || m["event"] != event ||
				m[speller.keys.stream] != stream.StreamSID ||
				len(body) == 0 {
				t.Errorf("%s is not a %s of the stream", msg, event)
			}
			want := any(float64(i + 1))
			if stream.Quoting == Strings {
				want = string('1' + rune(i))
			}
			if m[speller.keys.sequence] != want {
				t.Errorf("%s has another number than %v", msg, want)
			}
		}
	}
}
