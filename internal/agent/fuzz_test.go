package agent

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/caly-dev/caly/internal/exotel/agentstream"
)

// FuzzFromAgent verifies that any frame of an agent becomes a message of Exotel's protocol for this stream, or nothing.
func FuzzFromAgent(f *testing.F) {
	for _, s := range []string{`{"event":"media","streamSid":"MZ","media":{"payload":"//4A"}}`,
		`{"event":"mark","mark":{"name":"\ud800x"}}`, `{"event":"clear"}`,
		`{"event":"mark","name":"x"}`, `{"event":"media","media":{"payload":"\/\/4A"}}`, "\x01\x02\x03",
		`{"event":"stop"}`, `{"event":7}`, "{", "",
		`{"event":"mark","mark":{"name":"a","name":"b"}}`, "{\"event\":\"mark\",\"mark\":{\"name\":\"\xff\"}}"} {
		f.Add([]byte(s), true, uint16(8000))
		f.Add([]byte(s), false, uint16(24000))
	}
	f.Fuzz(func(t *testing.T, frame []byte, binary bool, rate uint16) {
		for _, protocol := range []Protocol{Twilio, PCM} {
			codec, err := New(protocol)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := codec.Open(startInfo(int(rate))); err != nil {
				continue
			}
			for range 2 { // the second time with what the first has left
				out, err := codec.FromAgent(nil, frame, binary)
				checkOut(t, out, err)
			}
		}
	})
}

func checkOut(t *testing.T, out Out, err error) {
	t.Helper()
	if !out.Send || err != nil {
		if len(out.Frame) != 0 || out.Send {
			t.Fatalf("there is %q with %v", out.Frame, err)
		}
		return
	}
	var m struct {
		Event     string `json:"event"`
		StreamSID string `json:"stream_sid"`
		Media     struct {
			Payload []byte `json:"payload"`
		} `json:"media"`
	}
	if err := json.Unmarshal(out.Frame, &m); err != nil || !utf8.Valid(out.Frame) {
		t.Fatalf("Exotel gets %q: %v", out.Frame, err)
	}
	if m.Event != out.Kind.String() || m.StreamSID != startInfo(0).StreamSID {
		t.Fatalf("Exotel gets %q as %v", out.Frame, out.Kind)
	}
	if out.Kind == agentstream.Media && (len(m.Media.Payload) == 0 || len(m.Media.Payload)%2 != 0) {
		t.Fatalf("Exotel gets %d bytes of audio", len(m.Media.Payload))
	}
}

// FuzzFromExotel verifies that any frame of Exotel becomes whole samples or one JSON message for the agent, or nothing.
func FuzzFromExotel(f *testing.F) {
	for _, s := range []string{`{"event":"connected"}`, `{"event":"start","stream_sid":"s","start":{}}`,
		`{"event":"media","stream_sid":"s","media":{"chunk":2,"timestamp":"10","payload":"AAAA"}}`,
		`{"event":"media","media":{"payload":"AA="}}`,
		`{"event":"dtmf","dtmf":{"duration":"200","digit":"5"}}`, `{"event":"dtmf","digit":5}`,
		`{"event":"mark","mark":{"name":"x"}}`,
		`{"event":"mark","mark":null}`, `{"event":"stop","stop":{"reason":"stopped"}}`, `{"event":"clear"}`,
		`{"event":"stop","stop":[]}`} {
		f.Add([]byte(s), uint16(8000), false)
		f.Add([]byte(s), uint16(16000), true)
	}
	f.Fuzz(func(t *testing.T, frame []byte, rate uint16, ulaw bool) {
		var s agentstream.Scanner
		message, err := s.Scan(frame)
		if err != nil {
			return
		}
		start := startInfo(int(rate))
		if ulaw {
			start.Encoding = "mulaw"
		}
		for _, protocol := range []Protocol{Twilio, PCM} {
			codec, err := New(protocol)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := codec.Open(start); err != nil {
				continue
			}
			for range 2 {
				got, binary, send, err := codec.FromExotel(nil, message)
				switch {
				case err != nil || !send:
					if send || len(got) != 0 {
						t.Fatalf("there is %q with %v", got, err)
					}
				case binary:
					if protocol != PCM || len(got) == 0 || len(got)%2 != 0 {
						t.Fatalf("%s gets %d bytes", protocol, len(got))
					}
				case !json.Valid(got):
					t.Fatalf("%s gets %q", protocol, got)
				}
			}
		}
	})
}
