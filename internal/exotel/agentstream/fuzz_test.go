package agentstream

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// reference is what encoding/json makes of a frame.
type reference struct {
	kind         Kind
	sid, payload string
}

// object is what encoding/json makes of an object.
func object(raw []byte) (members map[string]json.RawMessage, ok bool) {
	err := json.Unmarshal(raw, &members)
	return members, err == nil && members != nil
}

func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

func refer(frame []byte) (reference, bool) {
	message, ok := object(frame)
	if !ok || !utf8.Valid(frame) {
		return reference{}, false
	}
	start, _ := object(message["start"])
	r := reference{kind: kindOf([]byte(text(message["event"])))}
	for _, sid := range []string{
		text(message["stream_sid"]), text(message["streamSid"]), text(start["stream_sid"]),
		text(start["streamSid"]),
	} {
		if r.sid == "" {
			r.sid = sid
		}
	}
	if media, ok := object(message["media"]); ok && r.kind == Media {
		r.payload = text(media["payload"])
	}
	return r, true
}

// depth is how deep a valid document nests.
func depth(doc []byte) (deepest int) {
	level := 0
	quoted := false
	for i := 0; i < len(doc); i++ {
		switch b := doc[i]; {
		case quoted && b == '\\':
			i++
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '{' || b == '[':
			level++
			deepest = max(deepest, level)
		case b == '}' || b == ']':
			level--
		}
	}
	return deepest
}

// FuzzScan verifies that the Scanner and encoding/json agree on which frames are valid and on their content. The frame
// ends where its memory ends.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		`{"event":"connected"}`,
		`{"event":"start","sequence_number":1,"stream_sid":"s","start":{"stream_sid":"s","call_sid":"c",` +
			`"custom_parameters":{"k":"v"},"media_format":{"sample_rate":"8000"}}}`,
		`{"event":"media","sequence_number":"3","streamSid":"s","media":{"chunk":2,"timestamp":-1.5e+3,` +
			`"payload":"AAAA\/\u002f"}}`,
		`{"event":"media","media":{"payload":"AAAABBBBCCCCDDDDEEEEFFFF"},"media":{"payload":null},"x":[[],{},[1,` +
			`{"a":[true,false,null]}]]}`,
		`{"\u0065vent":"\ud83d\ude42\ud83d","stream_sid":"नम"}`,
		`{"event":"dtmf","digit":"5"}`, `{"event":"stop","stop":{"reason":"callended"}}`, `[]`, `{"a":01}`,
		"{\"a\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frame := slices.Clip(slices.Clone(data))
		var s Scanner
		message, err := s.Scan(frame)
		want, valid := refer(data)
		if valid && depth(data) > maxDepth {
			return // refused where it is what no one asks about, else not
		}
		if valid != (err == nil) {
			t.Fatalf("valid is %v, and Scan says %v", valid, err)
		}
		if got := (reference{message.Kind, string(message.StreamSID), string(message.Payload)}); valid && got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if string(frame) != string(data) {
			t.Error("the frame was changed")
		}
	})
}

func FuzzParseStart(f *testing.F) {
	f.Add(
		[]byte(
			`{"event":"start","streamSid":"s","start":{"callSid":"c","customParameters":{"k":1},` +
				`"mediaFormat":{"sampleRate":"16000 Hz"}}}`,
		),
	)
	f.Add(
		[]byte(
			`{"event":"start","start":{"stream_sid":"s","media_format":{"encoding":"raw","sample_rate":8000,` +
				`"bit_rate":128}}}`,
		),
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := ParseStart(data)
		var s Scanner
		message, scanErr := s.Scan(data)
		if err != nil || scanErr != nil {
			return
		}
		if message.Kind != Start {
			t.Errorf("%v was parsed as a start", message.Kind)
		}
		if len(message.StreamSID) > 0 && info.StreamSID != string(message.StreamSID) {
			t.Errorf("the stream is %q, and the Scanner found %q", info.StreamSID, message.StreamSID)
		}
		if info.SampleRate < 0 || info.SampleRate > 192_000 || len(info.Custom) > maxCustom {
			t.Errorf("out of bounds: %+v", info)
		}
	})
}

// FuzzAppend verifies that an appended message is valid JSON with the same id and audio, for any id and name.
func FuzzAppend(f *testing.F) {
	f.Add("s1", "label")
	f.Add("\"\\\n\x00", "नम\u2028")
	f.Fuzz(func(t *testing.T, sid, name string) {
		if !utf8.ValidString(sid) || !utf8.ValidString(name) {
			return // a valid frame holds none
		}
		for kind, frame := range map[Kind][]byte{
			Media: AppendMedia(nil, []byte(sid), []byte("AAAA")),
			Mark:  AppendMark(nil, []byte(sid), []byte(name)),
			Clear: AppendClear(nil, []byte(sid)),
		} {
			got, ok := refer(frame)
			if !ok || got.kind != kind || got.sid != sid {
				t.Errorf("%s says %+v", frame, got)
			}
			if kind == Media && got.payload != "AAAA" {
				t.Errorf("the audio is %q", got.payload)
			}
			if kind == Mark && !strings.Contains(string(frame), `"mark":{"name":`) {
				t.Errorf("no name in %s", frame)
			}
		}
	})
}
