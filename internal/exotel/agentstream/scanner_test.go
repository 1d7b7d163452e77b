package agentstream

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// scanned is what a test compares of a Message.
type scanned struct {
	Kind     Kind
	SID      string
	Payload  string
	Oddities []string
}

func of(m Message) scanned {
	s := scanned{Kind: m.Kind, SID: string(m.StreamSID), Payload: string(m.Payload)}
	m.Oddities.Each(func(i int) { s.Oddities = append(s.Oddities, OddityName(i)) })
	return s
}

// audio returns n bytes as base64.
func audio(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }

func TestScanExotel(t *testing.T) {
	frame20ms := audio(320)
	for name, tc := range map[string]struct {
		frame string
		want  scanned
	}{
		"connected": {`{"event":"connected"}`, scanned{Kind: Connected}},
		"connected with a version": {
			`{"event":"connected","protocol":"Call","version":"1.0.0"}`,
			scanned{Kind: Connected},
		},
		"start": {`{"event":"start","sequence_number":1,"stream_sid":"s1","start":{"stream_sid":"s1","call_sid":"c",` +
			`"account_sid":"a","from":"1",` +
			`"to":"2","custom_parameters":{"k":"v"},"media_format":{"encoding":"raw","sample_rate":"8000",` +
			`"bit_rate":"128"}}}`,
			scanned{Kind: Start, SID: "s1"}},
		"start that names itself inside": {`{"event":"start","start":{"stream_sid":"s1","call_sid":"c"}}`, scanned{
			Kind: Start,
			SID:  "s1",
		}},
		"start in camel case": {`{"event":"start","sequenceNumber":"1","start":{"streamSid":"s1","callSid":"c",` +
			`"mediaFormat":{}}}`,
			scanned{Kind: Start, SID: "s1", Oddities: []string{"camel_case"}}},
		"start with more": {`{"event":"start","stream_sid":"s1","start":{"call_sid":"c","tracks":["inbound",` +
			`{"a":[]}]}}`,
			scanned{Kind: Start, SID: "s1", Oddities: []string{"extra_keys"}}},
		"media": {`{"event":"media","sequence_number":3,"stream_sid":"s1","media":{"chunk":2,"timestamp":"10",` +
			`"payload":"` + frame20ms + `"}}`,
			scanned{Kind: Media, SID: "s1", Payload: frame20ms}},
		"media with every number quoted": {`{"event":"media","sequence_number":"3","stream_sid":"s1",` +
			`"media":{"chunk":"2","timestamp":"10","payload":"` + frame20ms + `"}}`,
			scanned{Kind: Media, SID: "s1", Payload: frame20ms, Oddities: []string{"quoted_number"}}},
		"media with no number quoted": {`{"event":"media","sequence_number":3,"stream_sid":"s1","media":{"chunk":2,` +
			`"timestamp":-1.5e3,"payload":"` + frame20ms + `"}}`,
			scanned{Kind: Media, SID: "s1", Payload: frame20ms, Oddities: []string{"bare_number"}}},
		"media back to front": {`{"media":{"payload":"` + frame20ms + `","timestamp":"10","chunk":2},` +
			`"stream_sid":"s1","sequence_number":3,"event":"media"}`,
			scanned{Kind: Media, SID: "s1", Payload: frame20ms}},
		"media with space everywhere": {" {\t\"event\" : \"media\" ,\r\n \"stream_sid\" : \"s1\" , \"media\" : { " +
			"\"payload\" : \"" + frame20ms + "\" } } \n",
			scanned{Kind: Media, SID: "s1", Payload: frame20ms}},
		"media in camel case": {`{"event":"media","streamSid":"s1","media":{"payload":"` + frame20ms + `"}}`,
			scanned{Kind: Media, SID: "s1", Payload: frame20ms, Oddities: []string{"camel_case"}}},
		"both casings": {`{"event":"media","streamSid":"other","stream_sid":"s1","media":{"payload":"` + frame20ms + `"}}`,
			scanned{Kind: Media, SID: "s1", Payload: frame20ms, Oddities: []string{"camel_case"}}},
		"media of half a sample": {`{"event":"media","stream_sid":"s1","media":{"payload":"AAAA"}}`,
			scanned{Kind: Media, SID: "s1", Payload: "AAAA", Oddities: []string{"odd_size"}}},
		"media of six seconds": {`{"event":"media","stream_sid":"s1","media":{"payload":"` + audio(100_160) + `"}}`,
			scanned{Kind: Media, SID: "s1", Payload: audio(100_160), Oddities: []string{"large_chunk"}}},
		"media without a stream": {`{"event":"media","media":{"payload":"` + frame20ms + `"}}`,
			scanned{Kind: Media, Payload: frame20ms, Oddities: []string{"missing_sid"}}},
		"media with a track": {`{"event":"media","stream_sid":"s1","media":{"track":"inbound","payload":"` + frame20ms + `"}}`,
			scanned{Kind: Media, SID: "s1", Payload: frame20ms, Oddities: []string{"extra_keys"}}},
		"media with escaped slashes": {`{"event":"media","stream_sid":"s1","media":{"payload":"\/\/\u002fA"}}`,
			scanned{Kind: Media, SID: "s1", Payload: "///A", Oddities: []string{"odd_size", "escaped"}}},
		"media that is not an object": {`{"event":"media","stream_sid":"s1","media":[1,"2",{"a":null}]}`,
			scanned{Kind: Media, SID: "s1", Oddities: []string{"wrong_type"}}},
		"media without a payload": {`{"event":"media","stream_sid":"s1","media":{"payload":null}}`,
			scanned{Kind: Media, SID: "s1", Oddities: []string{"wrong_type"}}},
		"media twice": {`{"event":"media","stream_sid":"s1","media":{"payload":"AAAA"},"media":{"payload":"` + frame20ms + `"}}`,
			scanned{Kind: Media, SID: "s1", Payload: frame20ms, Oddities: []string{"duplicate_key"}}},
		"the second media has nothing": {`{"event":"media","stream_sid":"s1","media":{"payload":"AAAA"},"media":{}}`,
			scanned{Kind: Media, SID: "s1", Oddities: []string{"duplicate_key"}}},
		"a payload elsewhere": {`{"event":"mark","stream_sid":"s1","media":{"payload":"AAAA"}}`, scanned{
			Kind: Mark,
			SID:  "s1",
		}},
		"dtmf": {`{"event":"dtmf","sequence_number":1,"stream_sid":"s1","dtmf":{"duration":"200","digit":"5"}}`,
			scanned{
				Kind: DTMF,
				SID:  "s1",
			}},
		"flat dtmf": {`{"event":"dtmf","stream_sid":"s1","digit":"5"}`, scanned{
			Kind:     DTMF,
			SID:      "s1",
			Oddities: []string{"flat_dtmf"},
		}},
		"mark": {`{"event":"mark","sequence_number":15,"stream_sid":"s1","mark":{"name":"label"}}`, scanned{
			Kind: Mark,
			SID:  "s1",
		}},
		"clear": {`{"event":"clear","stream_sid":"s1"}`, scanned{
			Kind:     Clear,
			SID:      "s1",
			Oddities: []string{"unexpected_clear"},
		}},
		"stop": {`{"event":"stop","stream_sid":"s1","stop":{"call_sid":"c","reason":"callended"}}`, scanned{
			Kind: Stop,
			SID:  "s1",
		}},
		"silence": {`{"event":"silence","stream_sid":"s1"}`, scanned{
			Kind:     Other,
			SID:      "s1",
			Oddities: []string{"unknown_event"},
		}},
		"an event that is a number": {`{"event":5,"stream_sid":"s1"}`,
			scanned{Kind: Other, SID: "s1", Oddities: []string{"unknown_event", "wrong_type"}}},
		"nothing":        {`{}`, scanned{Kind: Other, Oddities: []string{"missing_sid", "unknown_event"}}},
		"an escaped key": {`{"\u0065vent":"stop","stream_sid":"s1"}`, scanned{Kind: Stop, SID: "s1"}},
		"text beyond ASCII": {`{"event":"mark","stream_sid":"s1","mark":{"name":"नमस्ते 🙂"}}`, scanned{
			Kind: Mark,
			SID:  "s1",
		}},
		"deep but bounded": {`{"event":"mark","stream_sid":"s1","x":` + strings.Repeat("[",
			64) + strings.Repeat("]", 64) + `}`,
			scanned{Kind: Mark, SID: "s1", Oddities: []string{"extra_keys"}}},
	} {
		t.Run(name, func(t *testing.T) {
			scanner := Scanner{connected: true, started: true}
			got, err := scanner.Scan([]byte(tc.frame))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, of(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if string(got.Raw) != tc.frame {
				t.Error("Raw is not the frame")
			}
		})
	}
}

func TestScanMalformed(t *testing.T) {
	for name, frame := range map[string]string{
		"empty":                        ``,
		"space":                        `  `,
		"an array":                     `[{"event":"media"}]`,
		"a string":                     `"media"`,
		"open":                         `{"event":"media"`,
		"open in a key":                `{"event`,
		"open in a payload":            `{"event":"media","media":{"payload":"AAAA`,
		"no colon":                     `{"event" "media"}`,
		"no comma":                     `{"event":"media" "a":1}`,
		"a comma too many":             `{"event":"media",}`,
		"a comma too many inside":      `{"x":[1,]}`,
		"a comma first":                `{"x":[,1]}`,
		"a key that is not a string":   `{event:"media"}`,
		"a key inside that is not one": `{"x":{1:2}}`,
		"brackets crossed":             `{"x":[1}]`,
		"two documents":                `{"event":"clear"}{"event":"clear"}`,
		"text after it":                `{"event":"clear"}x`,
		"single quotes":                `{'event':'clear'}`,
		"a bad escape":                 `{"event":"\x"}`,
		"a bad unicode escape":         `{"event":"\u12g4"}`,
		"an escape at the end":         `{"event":"\`,
		"an escaped quote at the end":  `{"event":"\"`,
		"a line break in a string":     "{\"event\":\"me\ndia\"}",
		"a NUL in a long string":       "{\"event\":\"" + strings.Repeat("a", 64) + "\x00\"}",
		"a NUL deep in a payload": "{\"media\":{\"payload\":\"" + strings.Repeat("a",
			27) + "\x00" + strings.Repeat("a", 64) + "\"}}",
		"a number with a zero":      `{"x":01}`,
		"a number without digits":   `{"x":-}`,
		"a fraction without digits": `{"x":1.}`,
		"an exponent without":       `{"x":1e+}`,
		"a plus":                    `{"x":+1}`,
		"not a number":              `{"x":NaN}`,
		"half a literal":            `{"x":tru}`,
		"a literal with a tail":     `{"x":nullx}`,
		"audio, not text":           "\x00\x01\xfe\xff",
		"bad UTF-8 in a value":      "{\"event\":\"mark\",\"mark\":{\"name\":\"\xff\"}}",
		"bad UTF-8 in a payload": "{\"event\":\"media\",\"media\":{\"payload\":\"" + strings.Repeat("A",
			640) + "\xc3\"}}",
		"half a surrogate in UTF-8": "{\"event\":\"\xed\xa0\x80\"}",
		"too deep":                  `{"x":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `}`,
		"very deep":                 `{"x":` + strings.Repeat(`{"a":`, 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			var s Scanner
			if message, err := s.Scan([]byte(frame)); !errors.Is(err, ErrMalformed) {
				t.Errorf("got %+v, %v; want ErrMalformed", of(message), err)
			}
		})
	}
}

// TestScanStream verifies that the Scanner reports a missing message at the beginning of a stream once.
func TestScanStream(t *testing.T) {
	const (
		connected = `{"event":"connected"}`
		start     = `{"event":"start","stream_sid":"s"}`
		media     = `{"event":"media","stream_sid":"s","media":{"payload":""}}`
	)
	for name, tc := range map[string]struct {
		frames []string
		agent  bool
		want   []string
	}{
		"whole":                  {frames: []string{connected, start, media, media}},
		"no connected":           {frames: []string{start, media, start}, want: []string{"missing_connected"}},
		"media before start":     {frames: []string{connected, media, media, start}, want: []string{"missing_start"}},
		"an agent needs neither": {frames: []string{media, `{"event":"clear"}`}, agent: true},
	} {
		t.Run(name, func(t *testing.T) {
			scanner := Scanner{FromAgent: tc.agent}
			var got []string
			for _, f := range tc.frames {
				message, err := scanner.Scan([]byte(f))
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, of(message).Oddities...)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestScanAllocatesNothing verifies that a Scanner that has its memory does not allocate, even for a message with each
// slash escaped.
func TestScanAllocatesNothing(t *testing.T) {
	for name, frame := range map[string]string{
		"media": `{"event":"media","sequence_number":3,"stream_sid":"s1","media":{"chunk":2,"timestamp":"10",` +
			`"payload":"` + audio(1600) + `"}}`,
		"escaped": `{"event":"media","stream_sid":"s1","media":{"payload":"` + strings.Repeat(`\/`, 800) + `"}}`,
		"mark":    `{"event":"mark","stream_sid":"s1","mark":{"name":"label"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			var s Scanner
			raw := []byte(frame)
			got := testing.AllocsPerRun(100, func() {
				if _, err := s.Scan(raw); err != nil {
					t.Error(err)
				}
			})
			if got != 0 {
				t.Errorf("%v allocations", got)
			}
		})
	}
}

// TestScanPointsInside verifies that the payload is the frame's own memory, and that an append to it does not change
// the frame.
func TestScanPointsInside(t *testing.T) {
	frame := []byte(`{"event":"media","stream_sid":"s1","media":{"payload":"AAAA"}}`)
	before := bytes.Clone(frame)
	var s Scanner
	message, err := s.Scan(frame)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = append(message.Payload, "XXXX"...), append(message.StreamSID, "YYYY"...)
	if !bytes.Equal(frame, before) {
		t.Errorf("the frame became %s", frame)
	}
	if at := bytes.Index(frame, []byte("AAAA")); &frame[at] != &message.Payload[0] {
		t.Error("the payload was copied")
	}
}

func TestOddityNames(t *testing.T) {
	if oddityEnd != 1<<Oddities {
		t.Fatalf("Oddities is %d, and the bits end at %b", Oddities, oddityEnd)
	}
	seen := map[string]bool{}
	(oddityEnd - 1).Each(func(i int) { seen[OddityName(i)] = true })
	if len(seen) != Oddities || seen[""] {
		t.Errorf("the names are not %d different ones: %v", Oddities, seen)
	}
}

func TestKindNames(t *testing.T) {
	for k := Other; k <= Stop; k++ {
		if got := kindOf([]byte(k.String())); got != k {
			t.Errorf("%q is read as %v", k, got)
		}
	}
	if got := Kind(200).String(); got != "other" {
		t.Errorf("an unknown kind is %q", got)
	}
}

func TestAudioBytes(t *testing.T) {
	for n := range 20 {
		for name, e := range map[string]*base64.Encoding{
			"padded":   base64.StdEncoding,
			"unpadded": base64.RawStdEncoding,
		} {
			message := Message{Payload: []byte(e.EncodeToString(make([]byte, n)))}
			if got := message.AudioBytes(); got != n {
				t.Errorf("%s: %d bytes count as %d", name, n, got)
			}
		}
	}
}

func BenchmarkScan(b *testing.B) {
	for _, n := range []int{320, 1600} {
		frame := fmt.Appendf(
			nil,
			`{"event":"media","sequence_number":3,"stream_sid":"s1","media":{"chunk":2,"timestamp":"10",`+
				`"payload":"%s"}}`,
			audio(n),
		)
		b.Run(fmt.Sprint(len(frame)), func(b *testing.B) {
			var s Scanner
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Scan(frame); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
