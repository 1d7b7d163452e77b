package agent

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/caly-dev/caly/internal/exotel/agentstream"
	"github.com/caly-dev/caly/internal/g711"
)

func startInfo(rate int) agentstream.StartInfo {
	return agentstream.StartInfo{
		StreamSID:  `s"1`,
		CallSID:    "c1",
		AccountSID: "a1",
		From:       "+91987",
		To:         "+91123",
		SampleRate: rate,
		Encoding:   "raw",
		Custom:     map[string]string{"k": "v"},
	}
}

// failer is what *testing.T, *testing.F and *rapid.T have in common.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func open(t failer, p Protocol, start agentstream.StartInfo) Codec {
	t.Helper()
	codec, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := codec.Open(start); err != nil {
		t.Fatal(err)
	}
	return codec
}

// scan reads a message as the bridge does.
func scan(t failer, frame string) agentstream.Message {
	t.Helper()
	var s agentstream.Scanner
	message, err := s.Scan([]byte(frame))
	if err != nil {
		t.Fatalf("%s: %v", frame, err)
	}
	return message
}

func mediaOf(audio []byte) agentstream.Message {
	return agentstream.Message{Kind: agentstream.Media, Payload: []byte(base64.StdEncoding.EncodeToString(audio))}
}

func sinePCM(hz float64, rate, n int) []byte {
	samples := make([]int16, n)
	for i := range samples {
		samples[i] = int16(math.Round(8000 * math.Sin(2*math.Pi*hz*float64(i)/float64(rate))))
	}
	return appendPCM(nil, samples)
}

func TestNew(t *testing.T) {
	if codec, err := New(Exotel); codec != nil || err != nil {
		t.Errorf("exotel: %v, %v; want no codec", codec, err)
	}
	if _, err := New("vonage"); !errors.Is(err, ErrProtocol) ||
		!strings.Contains(err.Error(), `"vonage": use exotel, twilio or pcm`) {
		t.Errorf("vonage: %v", err)
	}
}

func TestOpen(t *testing.T) {
	const connected = `{"event":"connected","protocol":"Call","version":"1.0.0"}`
	for name, tc := range map[string]struct {
		protocol Protocol
		start    agentstream.StartInfo
		want     []string
		wantErr  error
	}{
		"twilio": {Twilio, startInfo(16000), []string{connected,
			`{"event":"start","sequenceNumber":"1","start":{"accountSid":"a1","streamSid":"s\"1","callSid":"c1",` +
				`"tracks":["inbound"],` +
				`"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},` +
				`"customParameters":{"from":"+91987","k":"v","to":"+91123"}},` +
				`"streamSid":"s\"1"}`}, nil},
		"twilio, own parameters win": {Twilio, agentstream.StartInfo{
			StreamSID: "s",
			From:      "1",
			Custom:    map[string]string{"from": "me"},
		}, []string{connected,
			`{"event":"start","sequenceNumber":"1","start":{"accountSid":"","streamSid":"s","callSid":"",` +
				`"tracks":["inbound"],` +
				`"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},` +
				`"customParameters":{"from":"me","to":""}},"streamSid":"s"}`}, nil},
		"pcm": {PCM, startInfo(24000),
			[]string{`{"event":"start","streamId":"s\"1","callId":"c1","from":"+91987","to":"+91123",` +
				`"sampleRate":24000,` +
				`"encoding":"pcm_s16le","channels":1,"custom":{"k":"v"}}`}, nil},
		"pcm, nothing told": {PCM, agentstream.StartInfo{},
			[]string{`{"event":"start","streamId":"","callId":"","from":"","to":"","sampleRate":8000,` +
				`"encoding":"pcm_s16le","channels":1,"custom":{}}`}, nil},
		"twilio, strange rate": {Twilio, startInfo(44100), nil, ErrRate},
		"pcm, strange rate":    {PCM, startInfo(-8000), nil, ErrRate},
	} {
		t.Run(name, func(t *testing.T) {
			codec, err := New(tc.protocol)
			if err != nil {
				t.Fatal(err)
			}
			frames, err := codec.Open(tc.start)
			var got []string
			for _, f := range frames {
				if f.Binary {
					t.Errorf("%s is binary", f.Data)
				}
				got = append(got, string(f.Data))
			}
			if d := cmp.Diff(tc.want, got); d != "" || !errors.Is(err, tc.wantErr) {
				t.Errorf("%v; frames (-want +got):\n%s", err, d)
			}
		})
	}
}

// TestControlFromExotel is everything but audio, in both quoting styles and both casings.
func TestControlFromExotel(t *testing.T) {
	for name, tc := range map[string]struct{ frame, wantTwilio, wantPCM string }{
		"connected": {`{"event":"connected"}`, "", ""},
		"start":     {`{"event":"start","sequence_number":1,"stream_sid":"s","start":{"stream_sid":"s"}}`, "", ""},
		"mark": {`{"event":"mark","sequence_number":15,"stream_sid":"s","mark":{"name":"a \"b\" é"}}`,
			`{"event":"mark","sequenceNumber":"2","streamSid":"s\"1","mark":{"name":"a \"b\" é"}}`,
			`{"event":"mark","name":"a \"b\" é"}`},
		"digit": {`{"event":"dtmf","sequence_number":1,"stream_sid":"s","dtmf":{"duration":"200","digit":"#"}}`,
			`{"event":"dtmf","sequenceNumber":"2","streamSid":"s\"1","dtmf":{"track":"inbound_track","digit":"#"}}`,
			`{"event":"dtmf","digit":"#","duration":"200"}`},
		"digit with a number": {`{"event":"dtmf","streamSid":"s","dtmf":{"duration":200,"digit":"5"}}`,
			`{"event":"dtmf","sequenceNumber":"2","streamSid":"s\"1","dtmf":{"track":"inbound_track","digit":"5"}}`,
			`{"event":"dtmf","digit":"5","duration":"200"}`},
		"flat digit": {`{"event":"dtmf","digit":"5"}`,
			`{"event":"dtmf","sequenceNumber":"2","streamSid":"s\"1","dtmf":{"track":"inbound_track","digit":"5"}}`,
			`{"event":"dtmf","digit":"5"}`},
		"clear": {`{"event":"clear","stream_sid":"s"}`, "", `{"event":"clear"}`},
		"stop": {`{"event":"stop","sequence_number":"10","stream_sid":"s","stop":{"call_sid":"x","account_sid":"y",` +
			`"reason":"callended"}}`,
			`{"event":"stop","sequenceNumber":"2","streamSid":"s\"1","stop":{"accountSid":"a1","callSid":"c1"}}`,
			`{"event":"stop","reason":"callended"}`},
		"unknown": {`{"event":"silence","stream_sid":"s"}`, "", ""},
	} {
		for protocol, want := range map[Protocol]string{Twilio: tc.wantTwilio, PCM: tc.wantPCM} {
			t.Run(name+" for "+string(protocol), func(t *testing.T) {
				got, binary, send, err := open(
					t, protocol, startInfo(8000),
				).FromExotel([]byte("dst"), scan(t, tc.frame))
				if string(got) != "dst"+want || binary || send != (want != "") || err != nil {
					t.Errorf("got %s, binary %v, send %v, %v; want %s", got, binary, send, err, want)
				}
			})
		}
	}
}

func TestMalformedFromExotel(t *testing.T) {
	for _, protocol := range []Protocol{Twilio, PCM} {
		for name, m := range map[string]agentstream.Message{
			"no base64":  {Kind: agentstream.Media, Payload: []byte("!!!!")},
			"cut base64": {Kind: agentstream.Media, Payload: []byte("AAAAA")},
			"mark, JSON": {Kind: agentstream.Mark, Raw: []byte(`{"event":"mark"`)},
		} {
			got, _, send, err := open(t, protocol, startInfo(8000)).FromExotel([]byte("dst"), m)
			if string(got) != "dst" || send || !errors.Is(err, ErrFrame) {
				t.Errorf("%s, %s: %q, %v, %v; want nothing and ErrFrame", protocol, name, got, send, err)
			}
		}
	}
}

func TestTwilioMedia(t *testing.T) {
	codec := open(t, Twilio, startInfo(8000))
	var got []string
	for _, samples := range [][]int16{{0, 0, 8, -8}, make([]int16, 156), {32767}} {
		frame, binary, send, err := codec.FromExotel(nil, mediaOf(appendPCM(nil, samples)))
		if binary || !send || err != nil {
			t.Fatalf("binary %v, send %v, %v", binary, send, err)
		}
		got = append(got, string(frame))
	}
	silence := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 156))
	want := []string{
		`{"event":"media","sequenceNumber":"2","streamSid":"s\"1","media":{"track":"inbound","chunk":"1",` +
			`"timestamp":"0","payload":"///+fg=="}}`,
		`{"event":"media","sequenceNumber":"3","streamSid":"s\"1","media":{"track":"inbound","chunk":"2",` +
			`"timestamp":"0","payload":"` + silence + `"}}`,
		`{"event":"media","sequenceNumber":"4","streamSid":"s\"1","media":{"track":"inbound","chunk":"3",` +
			`"timestamp":"20","payload":"gA=="}}`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("frames (-want +got):\n%s", d)
	}
}

// TestFromAgent is what agents send, in their own words.
func TestFromAgent(t *testing.T) {
	media := func(pcm []byte) string {
		return `{"event":"media","stream_sid":"s\"1","media":{"payload":"` + base64.StdEncoding.EncodeToString(
			pcm,
		) + `"}}`
	}
	loud := appendPCM(nil, []int16{0, 8, -32124})
	for name, tc := range map[string]struct {
		protocol Protocol
		frame    string
		binary   bool
		wantKind agentstream.Kind
		want     string
		wantErr  error
	}{
		"twilio media": {
			Twilio,
			`{"event":"media","streamSid":"MZ","media":{"payload":"//4A"}}`,
			false,
			agentstream.Media,
			media(loud),
			nil,
		},
		"twilio media, escaped slashes": {Twilio, `{"event":"media","streamSid":"MZ","media":{"payload":"\/\/4A"}}`,
			false, agentstream.Media,
			media(loud), nil},
		"twilio media, pretty": {Twilio,
			"{\n \"media\": {\"payload\": \"//4A\"},\n \"streamSid\": \"MZ\", \"event\": \"media\"\n}", false,
			agentstream.Media,
			media(loud), nil},
		"twilio media in a binary frame": {
			Twilio,
			`{"event":"media","media":{"payload":"//4A"}}`,
			true,
			agentstream.Media,
			media(loud),
			nil,
		},
		"twilio media, empty": {
			Twilio,
			`{"event":"media","media":{"payload":""}}`,
			false,
			agentstream.Media,
			"",
			nil,
		},
		"twilio media, no base64": {
			Twilio,
			`{"event":"media","media":{"payload":"?"}}`,
			false,
			agentstream.Other,
			"",
			ErrFrame,
		},
		"twilio mark": {Twilio, `{"event":"mark","streamSid":"MZ","mark":{"name":"a \"b\""}}`, false, agentstream.Mark,
			`{"event":"mark","stream_sid":"s\"1","mark":{"name":"a \"b\""}}`, nil},
		"twilio clear": {
			Twilio,
			`{"event":"clear","streamSid":"MZ"}`,
			false,
			agentstream.Clear,
			`{"event":"clear","stream_sid":"s\"1"}`,
			nil,
		},
		"twilio unknown": {Twilio, `{"event":"silence"}`, false, agentstream.Other, "", nil},
		"twilio no JSON": {Twilio, `hello`, false, agentstream.Other, "", ErrFrame},
		"twilio array":   {Twilio, `[]`, false, agentstream.Other, "", ErrFrame},
		"twilio audio":   {Twilio, "\xff\xfe\x00", true, agentstream.Other, "", ErrFrame},
		"pcm audio":      {PCM, string(loud), true, agentstream.Media, media(loud), nil},
		"pcm nothing":    {PCM, "", true, agentstream.Media, "", nil},
		"pcm half":       {PCM, "x", true, agentstream.Media, "", nil},
		"pcm mark": {
			PCM,
			`{"event":"mark","name":"x"}`,
			false,
			agentstream.Mark,
			`{"event":"mark","stream_sid":"s\"1","mark":{"name":"x"}}`,
			nil,
		},
		"pcm mark as Exotel's": {PCM, `{"event":"mark","mark":{"name":"x"}}`, false, agentstream.Mark,
			`{"event":"mark","stream_sid":"s\"1","mark":{"name":"x"}}`, nil},
		"pcm clear": {
			PCM,
			`{"event":"clear"}`,
			false,
			agentstream.Clear,
			`{"event":"clear","stream_sid":"s\"1"}`,
			nil,
		},
		"pcm stop":    {PCM, `{"event":"stop"}`, false, agentstream.Stop, "", nil},
		"twilio stop": {Twilio, `{"event":"stop"}`, false, agentstream.Stop, "", nil},
		"pcm unknown": {PCM, `{"event":"media","payload":"AAAA"}`, false, agentstream.Other, "", nil},
		"pcm no JSON": {PCM, "\x00\x00", false, agentstream.Other, "", ErrFrame},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := open(t, tc.protocol, startInfo(8000)).FromAgent([]byte("dst"), []byte(tc.frame), tc.binary)
			if !errors.Is(err, tc.wantErr) || out.Kind != tc.wantKind || out.Send != (tc.want != "") ||
				string(out.Frame) != "dst"+tc.want {
				t.Errorf("%v, %v, send %v, %s; want %v, %s", err, out.Kind, out.Send, out.Frame, tc.wantKind, tc.want)
			}
		})
	}
}

// toAgent gives a codec audio in pieces, and returns what the agent gets, decoded.
func toAgent(t failer, p Protocol, c Codec, pieces [][]byte) []byte {
	var got []byte
	for _, piece := range pieces {
		frame, binary, send, err := c.FromExotel(nil, mediaOf(piece))
		if err != nil {
			t.Fatal(err)
		}
		if !send {
			continue
		}
		if p == PCM {
			if !binary || len(frame)%2 != 0 {
				t.Fatalf("a frame of %d bytes, binary %v", len(frame), binary)
			}
			got = append(got, frame...)
			continue
		}
		var m struct{ Media struct{ Payload []byte } }
		if err := json.Unmarshal(frame, &m); err != nil {
			t.Fatal(err)
		}
		got = append(got, m.Media.Payload...)
	}
	return got
}

// fromAgent gives it an agent's audio in pieces, and returns what Exotel gets, decoded.
func fromAgent(t failer, p Protocol, c Codec, pieces [][]byte) []byte {
	var got []byte
	for _, piece := range pieces {
		frame := piece
		if p == Twilio {
			frame = []byte(`{"event":"media","media":{"payload":"` + base64.StdEncoding.EncodeToString(piece) + `"}}`)
		}
		out, err := c.FromAgent(nil, frame, p == PCM)
		if err != nil || out.Kind != agentstream.Media {
			t.Fatalf("%v, %v", out.Kind, err)
		}
		if !out.Send {
			continue
		}
		var m struct{ Media struct{ Payload []byte } }
		if err := json.Unmarshal(out.Frame, &m); err != nil {
			t.Fatal(err)
		}
		got = append(got, m.Media.Payload...)
	}
	return got
}

// TestHowFramesAreCutMakesNoDifference verifies that the cut of the frames does not change the audio in either
// direction, even inside a sample.
func TestHowFramesAreCutMakesNoDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := startInfo(rapid.SampledFrom([]int{8000, 16000, 24000}).Draw(t, "rate"))
		if rapid.Bool().Draw(t, "mulaw") {
			start.Encoding = "audio/x-mulaw;rate=8000"
		}
		protocol := rapid.SampledFrom([]Protocol{Twilio, PCM}).Draw(t, "protocol")
		audio := rapid.SliceOfN(rapid.Byte(), 1, 1000).Draw(t, "audio")
		var pieces [][]byte
		for rest := audio; len(rest) > 0; {
			n := rapid.IntRange(1, min(len(rest), 321)).Draw(t, "piece")
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		codec := open(t, protocol, start)
		if d := cmp.Diff(
			toAgent(t, protocol, open(t, protocol, start), [][]byte{audio}), toAgent(t, protocol, codec, pieces),
		); d != "" {
			t.Errorf("to the agent (-whole +cut):\n%s", d)
		}
		if d := cmp.Diff(
			fromAgent(t, protocol, open(t, protocol, start), [][]byte{audio}), fromAgent(t, protocol, codec, pieces),
		); d != "" {
			t.Errorf("from the agent (-whole +cut):\n%s", d)
		}
	})
}

// TestAudioAtEightKilohertz verifies that PCM passes unchanged at each rate, and that the twilio protocol loses only
// what mu-law's 8 bits lose.
func TestAudioAtEightKilohertz(t *testing.T) {
	audio := sinePCM(440, 8000, 1600)
	for _, rate := range []int{8000, 16000, 24000} {
		codec := open(t, PCM, startInfo(rate))
		if !bytes.Equal(toAgent(t, PCM, codec, [][]byte{audio}), audio) ||
			!bytes.Equal(fromAgent(t, PCM, codec, [][]byte{audio}), audio) {
			t.Errorf("pcm at %d changes the audio", rate)
		}
	}
	var h halves
	codes := g711.AppendEncode(nil, h.samples(nil, audio))
	codec := open(t, Twilio, startInfo(8000))
	if !bytes.Equal(toAgent(t, Twilio, codec, [][]byte{audio}), codes) {
		t.Error("twilio's agent does not hear the mu-law of the audio")
	}
	if want := appendPCM(nil, g711.AppendDecode(nil, codes)); !bytes.Equal(
		fromAgent(t, Twilio, codec, [][]byte{codes}), want,
	) {
		t.Error("Exotel does not hear what the mu-law stands for")
	}
}

// TestMuLawFromExotel verifies mu-law streams of the legs API. An agent hears the same audio as from PCM, and an echo
// returns in mu-law.
func TestMuLawFromExotel(t *testing.T) {
	start := startInfo(8000)
	start.Encoding = "audio/x-mulaw;rate=8000"
	var codes []byte
	for c := range 256 {
		if c != 0x7f { // minus zero becomes zero
			codes = append(codes, byte(c))
		}
	}
	codec := open(t, Twilio, start)
	if got := fromAgent(t, Twilio, codec, [][]byte{toAgent(t, Twilio, codec, [][]byte{codes})}); !bytes.Equal(
		got, codes,
	) {
		t.Errorf("twilio changes mu-law")
	}
	codec = open(t, PCM, start)
	pcm := toAgent(t, PCM, codec, [][]byte{codes})
	if !bytes.Equal(pcm, appendPCM(nil, g711.AppendDecode(nil, codes))) ||
		!bytes.Equal(fromAgent(t, PCM, codec, [][]byte{pcm}), codes) {
		t.Errorf("pcm changes mu-law")
	}
}

// TestTwilioAtWideRates sends a tone there and back: it must come back in the same shape, through two filters and mu-law's noise.
func TestTwilioAtWideRates(t *testing.T) {
	for _, rate := range []int{16000, 24000} {
		for _, hz := range []float64{300, 1000, 3000} {
			t.Run(fmt.Sprintf("%v Hz at %d", hz, rate), func(t *testing.T) {
				codec := open(t, Twilio, startInfo(rate))
				var h halves
				back := h.samples(
					nil,
					fromAgent(t, Twilio, codec, [][]byte{toAgent(t, Twilio, codec, [][]byte{sinePCM(hz, rate, rate)})}),
				)
				if len(back) != rate {
					t.Fatalf("%d samples come back of %d", len(back), rate)
				}
				var s, co, power float64
				part := back[rate/10 : rate/10+rate/2]
				for i, x := range part {
					w := 2 * math.Pi * hz * float64(i) / float64(rate)
					s, co, power = s+float64(x)*math.Sin(w), co+float64(x)*math.Cos(w), power+float64(x)*float64(x)
				}
				n := float64(len(part))
				tone := 2 * (s*s + co*co) / n
				if snr := 10 * math.Log10(tone/(power-tone)); snr < 33 { // mu-law's own is 38
					t.Errorf("signal to noise %.1f dB", snr)
				}
				if level := math.Sqrt(2 * tone / n); math.Abs(level-8000) > 200 {
					t.Errorf("amplitude %.0f, want 8000", level)
				}
			})
		}
	}
}

// TestClearForgetsHalves verifies that a clear drops half a sample, so that the next audio is not joined to it.
func TestClearForgetsHalves(t *testing.T) {
	codec := open(t, PCM, startInfo(8000))
	if got := fromAgent(t, PCM, codec, [][]byte{{1}}); got != nil {
		t.Fatalf("half a sample becomes %v", got)
	}
	if _, err := codec.FromAgent(nil, []byte(`{"event":"clear"}`), false); err != nil {
		t.Fatal(err)
	}
	if got := fromAgent(t, PCM, codec, [][]byte{{2, 3}}); !bytes.Equal(got, []byte{2, 3}) {
		t.Errorf("got %v after a clear, want 2 3", got)
	}
}

// TestOpenAgain opens a second connection to the agent: numbers start again, and nothing is left over of the first.
func TestOpenAgain(t *testing.T) {
	codec := open(t, Twilio, startInfo(8000))
	first, _, _, err := codec.FromExotel(nil, mediaOf([]byte{1, 2, 3}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := codec.Open(startInfo(8000)); err != nil {
		t.Fatal(err)
	}
	second, _, _, err := codec.FromExotel(nil, mediaOf([]byte{1, 2, 3}))
	if d := cmp.Diff(string(first), string(second)); err != nil || d != "" {
		t.Errorf("%v; first and second (-first +second):\n%s", err, d)
	}
}

func TestNothingIsAllocated(t *testing.T) {
	for _, rate := range []int{8000, 16000, 24000} {
		for _, protocol := range []Protocol{Twilio, PCM} {
			codec := open(t, protocol, startInfo(rate))
			message := mediaOf(make([]byte, rate/25))
			dst := make([]byte, 0, 64<<10)
			frame := make([]byte, rate/25+1) // an odd size
			if protocol == Twilio {
				frame = []byte(
					`{"event":"media","streamSid":"MZ","media":{"payload":"` + strings.Repeat("AAAA", 54) + `"}}`,
				)
			}
			both := func() {
				_, _, _, _ = codec.FromExotel(dst, message)
				if out, err := codec.FromAgent(dst, frame, protocol == PCM); err != nil || !out.Send {
					t.Fatal(err)
				}
			}
			both()
			if n := testing.AllocsPerRun(100, both); n != 0 {
				t.Errorf("%s at %d: %v allocations", protocol, rate, n)
			}
		}
	}
}

func BenchmarkCodec(b *testing.B) {
	for _, protocol := range []Protocol{Twilio, PCM} {
		for _, rate := range []int{8000, 24000} {
			b.Run(fmt.Sprintf("%s %d to agent", protocol, rate), func(b *testing.B) {
				codec := open(b, protocol, startInfo(rate))
				message := mediaOf(make([]byte, rate/25))
				dst := make([]byte, 0, 64<<10)
				for b.Loop() {
					_, _, _, _ = codec.FromExotel(dst, message)
				}
			})
		}
	}
}
