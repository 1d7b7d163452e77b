package exotelsim

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/simulator/agentsim"
)

func newAgent(t *testing.T, o agentsim.Options) *agentsim.Server {
	t.Helper()
	server, err := agentsim.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

// scripted is an agent that does what a test says; it ends when the test's function returns. Its URL, and a channel to wait for it.
func scripted(t *testing.T, script func(r *http.Request, ws *websocket.Conn)) (string, <-chan struct{}) {
	t.Helper()
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer close(done)
		defer func() { _ = ws.Close() }()
		_ = ws.SetReadDeadline(time.Now().Add(20 * time.Second))
		script(r, ws)
	}))
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http"), done
}

// finish waits for a scripted agent.
func finish(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the agent does not end")
	}
}

// hear reads to the end of a call.
func hear(ws *websocket.Conn, each func(kind int, message string)) {
	for {
		kind, data, err := ws.ReadMessage()
		if err != nil {
			return
		}
		each(kind, string(data))
	}
}

func write(ws *websocket.Conn, messages ...string) {
	for _, m := range messages {
		_ = ws.WriteMessage(websocket.TextMessage, []byte(m))
	}
}

// say is a message of an agent with n bytes of audio.
func say(n int) string {
	return `{"event":"media","stream_sid":"s1","media":{"payload":"` + base64.StdEncoding.EncodeToString(
		make([]byte, n),
	) + `"}}`
}

func run(t *testing.T, s Stream) Report {
	t.Helper()
	report, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// short is a stream of three frames of a few samples, so that it can be read.
var short = Stream{
	CallSID:    "c1",
	StreamSID:  "s1",
	AccountSID: "a1",
	From:       "+91987",
	To:         "+91123",
	Audio:      []byte("abcdefghij"),
	Pace:       20 * ms,
}

// TestStreamMessages are all messages of a stream, word for word, in each style.
func TestStreamMessages(t *testing.T) {
	const connected = `{"event":"connected"}`
	media := base64.StdEncoding.EncodeToString(short.Audio)
	for name, tc := range map[string]struct {
		change   func(*Stream)
		query    string
		wantKind int
		want     []string
	}{
		"numbers": {func(*Stream) {}, "?k=v", websocket.TextMessage, []string{connected,
			`{"event":"start","sequence_number":1,"stream_sid":"s1","start":{"account_sid":"a1","call_sid":"c1",` +
				`"custom_parameters":{"k":"v"},"from":"+91987",` +
				`"media_format":{"bit_rate":"128","encoding":"raw","sample_rate":"8000"},"stream_sid":"s1",` +
				`"to":"+91123"}}`,
			`{"event":"media","sequence_number":2,"stream_sid":"s1","media":{"chunk":1,"timestamp":"0","payload":"` + media + `"}}`,
			`{"event":"stop","sequence_number":3,"stream_sid":"s1","stop":{"call_sid":"c1","account_sid":"a1",` +
				`"reason":"callended"}}`}},
		"strings": {func(s *Stream) { s.Quoting = Strings }, "", websocket.TextMessage, []string{connected,
			`{"event":"start","sequence_number":"1","stream_sid":"s1","start":{"account_sid":"a1","call_sid":"c1",` +
				`"custom_parameters":{},"from":"+91987",` +
				`"media_format":{"bit_rate":"16","encoding":"audio/x-raw","sample_rate":"8000"},"stream_sid":"s1",` +
				`"to":"+91123"}}`,
			`{"event":"media","sequence_number":"2","stream_sid":"s1","media":{"chunk":"1","timestamp":"0","payload":"` + media + `"}}`,
			`{"event":"stop","sequence_number":"3","stream_sid":"s1","stop":{"call_sid":"c1","account_sid":"a1",` +
				`"reason":"callended"}}`}},
		"camel case, binary, not connected, 16 kHz": {func(s *Stream) {
			s.Rate = 16000
			s.Quirks = StreamQuirks{CamelCase: true, Binary: true, NoConnected: true}
		}, "?k=v", websocket.BinaryMessage, []string{
			`{"event":"start","sequenceNumber":1,"streamSid":"s1","start":{"accountSid":"a1","callSid":"c1",` +
				`"customParameters":{"k":"v"},"from":"+91987",` +
				`"mediaFormat":{"bitRate":"128","encoding":"raw","sampleRate":"16000"},"streamSid":"s1",` +
				`"to":"+91123"}}`,
			`{"event":"media","sequenceNumber":2,"streamSid":"s1","media":{"chunk":1,"timestamp":"0","payload":"` + media + `"}}`,
			`{"event":"stop","sequenceNumber":3,"streamSid":"s1","stop":{"callSid":"c1","accountSid":"a1",` +
				`"reason":"callended"}}`}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			url, done := scripted(t, func(_ *http.Request, ws *websocket.Conn) {
				hear(ws, func(kind int, m string) {
					if kind != tc.wantKind && m != connected {
						t.Errorf("%s is of kind %d", m, kind)
					}
					got = append(got, m)
				})
			})
			stream := short
			tc.change(&stream)
			stream.URL = url + tc.query
			if report := run(t, stream); report.Code != websocket.CloseNormalClosure || !report.HungUp ||
				report.Sent != (Traffic{1, 10}) {
				t.Errorf("%+v", report)
			}
			finish(t, done)
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("messages (-want +got):\n%s", d)
			}
		})
	}
}

// TestStreamFrames is how audio is cut and timed.
func TestStreamFrames(t *testing.T) {
	for name, tc := range map[string]struct {
		s              Stream
		wantBytes      []int
		wantTimestamps []string
	}{
		"20 ms":  {Stream{Audio: make([]byte, 800)}, []int{320, 320, 160}, []string{"0", "20", "40"}},
		"100 ms": {Stream{Audio: make([]byte, 3200), Pace: 100 * ms}, []int{1600, 1600}, []string{"0", "100"}},
		"24 kHz": {Stream{Audio: make([]byte, 1920), Rate: 24000}, []int{960, 960}, []string{"0", "20"}},
		"longer, shorter": {Stream{
			Audio:    make([]byte, 500),
			Duration: 50 * ms,
		}, []int{320, 320, 160}, []string{"0", "20", "40"}},
		"odd sizes": {Stream{
			Audio:  make([]byte, 1280),
			Quirks: StreamQuirks{OddSizes: true},
		}, []int{321, 319, 321, 319}, []string{"0", "20", "40", "60"}},
		"extra keys": {Stream{
			Audio:  make([]byte, 640),
			Quirks: StreamQuirks{ExtraKeys: true},
		}, []int{320, 320}, []string{"0", "20"}},
		"digits": {Stream{Audio: make([]byte, 6400), Digits: "1#"}, slicesOf(320, 20), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var sizes []int
			var timestamps []string
			digits := ""
			url, done := scripted(t, func(_ *http.Request, ws *websocket.Conn) {
				hear(ws, func(_ int, text string) {
					var m struct {
						Event string
						Media struct {
							Timestamp string
							Payload   []byte
						}
						DTMF struct{ Digit string }
					}
					if err := json.Unmarshal([]byte(text), &m); err != nil {
						t.Errorf("%s: %v", text, err)
					}
					if digits += m.DTMF.Digit; m.Event == "media" {
						sizes, timestamps = append(sizes, len(m.Media.Payload)), append(timestamps, m.Media.Timestamp)
					}
				})
			})
			tc.s.URL = url
			begin := time.Now()
			run(t, tc.s)
			if took, least := time.Since(begin), time.Duration(len(tc.wantBytes))*max(tc.s.Pace, 20*ms); took < least {
				t.Errorf("it took %s, less than the %s that its frames last", took, least)
			}
			finish(t, done)
			if d := cmp.Diff(tc.wantBytes, sizes); d != "" {
				t.Errorf("bytes (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tc.wantTimestamps, timestamps); d != "" && tc.wantTimestamps != nil {
				t.Errorf("timestamps (-want +got):\n%s", d)
			}
			if digits != tc.s.Digits {
				t.Errorf("digits %q, want %q", digits, tc.s.Digits)
			}
		})
	}
}

func slicesOf(v, n int) (list []int) {
	for range n {
		list = append(list, v)
	}
	return list
}

// TestStreamHandshake is what Exotel's own looks like.
func TestStreamHandshake(t *testing.T) {
	for name, tc := range map[string]struct {
		user, query, wantQuery, wantBasic string
		rate                              int
	}{
		"plain":                  {"", "?b=2&a=1", "b=2&a=1", "", 8000},
		"credentials":            {"key:to%2Fken@", "", "", "key to/ken", 8000},
		"16 kHz is asked for":    {"", "?a=1", "a=1&sample-rate=16000", "", 16000},
		"unless it is there":     {"", "?sample-rate=24000&a=1", "sample-rate=24000&a=1", "", 16000},
		"24 kHz and credentials": {"k:@", "", "sample-rate=24000", "k ", 24000},
	} {
		t.Run(name, func(t *testing.T) {
			var agentName, query, basic string
			url, done := scripted(t, func(r *http.Request, ws *websocket.Conn) {
				agentName = r.Header.Get("User-Agent")
				query = r.URL.RawQuery
				if user, password, ok := r.BasicAuth(); ok {
					basic = user + " " + password
				}
				hear(ws, func(int, string) {})
			})
			stream := short
			stream.URL = strings.Replace(url, "://", "://"+tc.user, 1) + "/x" + tc.query
			stream.Rate = tc.rate
			run(t, stream)
			finish(t, done)
			if agentName != "Go-http-client/1.1" || query != tc.wantQuery || basic != tc.wantBasic {
				t.Errorf("%q ?%s as %q, want ?%s as %q", agentName, query, basic, tc.wantQuery, tc.wantBasic)
			}
		})
	}
}

// TestStreamEcho against the echo agent of every kind that speaks Exotel's protocol: each byte is compared.
func TestStreamEcho(t *testing.T) {
	for name, quirks := range map[string]StreamQuirks{
		"as documented": {},
		"camel case":    {CamelCase: true},
		"not connected": {NoConnected: true},
		"binary":        {Binary: true},
		"extra keys":    {ExtraKeys: true},
		"odd sizes":     {OddSizes: true},
		"all":           {CamelCase: true, NoConnected: true, Binary: true, ExtraKeys: true, OddSizes: true},
	} {
		for _, quoting := range []Quoting{Numbers, Strings} {
			for _, pace := range []time.Duration{20 * ms, 100 * ms} {
				t.Run(fmt.Sprint(name, " ", quoting, " ", pace), func(t *testing.T) {
					t.Parallel()
					server := newAgent(t, agentsim.Options{})
					audio := Noise(3000)
					report := run(t, Stream{
						URL:      server.URL(),
						Audio:    audio,
						Expect:   audio,
						Rate:     16000,
						Duration: 400 * ms,
						Pace:     pace,
						Quoting:  quoting,
						Quirks:   quirks,
						Linger:   10 * time.Second,
						Keep:     true,
					})
					kept := report.Audio
					report.Audio = nil // too much to be printed
					frames := int(400 * ms / pace)
					want := Traffic{frames, 12800}
					if report.Sent != want || report.Received != want || report.Echo != (Echo{Equal: 12800}) ||
						len(report.Latency) != frames ||
						len(report.Arrivals) != frames {
						t.Errorf("%+v", report)
					}
					if report.Code != websocket.CloseNormalClosure || !report.HungUp ||
						report.Invalid+report.Unusual != 0 ||
						report.Handshake == 0 {
						t.Errorf("%+v", report)
					}
					if !bytes.Equal(kept, appendRing(nil, audio, 0, 12800)) {
						t.Error("the audio that was kept is not what was sent")
					}
				})
			}
		}
	}
}

// TestStreamDynamicURL asks an endpoint, as a call that has just begun.
func TestStreamDynamicURL(t *testing.T) {
	server := newAgent(t, agentsim.Options{})
	var query, basic string
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.Query().Get("CallSid") + " " + r.URL.Query().Get(
			"CallFrom",
		) + " " + r.URL.Query().Get("Direction") + " " + r.URL.Query().Get("own")
		basic, _, _ = r.BasicAuth()
		_ = json.NewEncoder(w).Encode(map[string]string{"url": server.URL() + "?token=t1"})
	}))
	defer endpoint.Close()
	stream := short
	stream.URL = strings.Replace(endpoint.URL, "://", "://key:token@", 1) + "/x?own=1"
	run(t, stream)
	if query != "c1 +91987 incoming 1" || basic != "key" {
		t.Errorf("it was asked %q as %q", query, basic)
	}
	server.Close()
	if call := server.Calls()[0]; call.Query.Get("token") != "t1" || call.Start.Custom["token"] != "t1" ||
		call.Start.CallID != "c1" {
		t.Errorf("%+v", call)
	}
}

func TestStreamThatCannotBegin(t *testing.T) {
	answer := func(status int, body string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(server.Close)
		return server.URL + "/topsecret?token=topsecret"
	}
	refusing := newAgent(t, agentsim.Options{Refuse: 503, RefuseTimes: 2})
	for name, tc := range map[string]struct {
		s    Stream
		says string
	}{
		"no URL":    {Stream{URL: "ws://topsecret@%zz"}, "the stream's URL is not a URL"},
		"no scheme": {Stream{URL: "topsecret.example.com"}, "must begin with ws://"},
		"no host":   {Stream{URL: "ws:///topsecret"}, "and name a host"},
		"nobody there": {
			Stream{URL: "ws://key:topsecret@127.0.0.1:1/topsecret"},
			"open the stream's socket: dial tcp 127.0.0.1:1: connect: connection refused",
		},
		"nobody to ask": {
			Stream{URL: "http://key:topsecret@127.0.0.1:1/topsecret"},
			"ask for the stream's URL: dial tcp 127.0.0.1:1: connect: connection refused",
		},
		"refused twice": {Stream{URL: refusing.URL()}, "the handshake was answered 503"},
		"no WebSocket": {
			Stream{URL: strings.Replace(answer(200, ""), "http", "ws", 1)},
			"the handshake was answered 200",
		},
		"asked, 401": {Stream{URL: answer(401, "")}, "the question for the stream's URL was answered 401"},
		"asked, no JSON": {
			Stream{URL: answer(200, "wss://topsecret")},
			"answered with something else than JSON",
		},
		"asked, no URL": {
			Stream{URL: answer(200, `{"uri":"topsecret"}`)},
			`was not answered {"url": "wss://..."}`,
		},
		"asked, another http": {
			Stream{URL: answer(200, `{"url":"https://topsecret"}`)},
			`was not answered {"url": "wss://..."}`,
		},
		"strange rate":           {Stream{Rate: 44100}, "44100 samples a second is not a rate"},
		"no audio":               {Stream{Audio: []byte{}}, "at least one"},
		"half a sample":          {Stream{Audio: make([]byte, 3)}, "whole samples"},
		"something else to hear": {Stream{Expect: make([]byte, 4)}, "what is expected has 4 bytes, the audio 10"},
		"strange quoting":        {Stream{Quoting: "none"}, `"none" is not a quoting`},
		"strange pace":           {Stream{Pace: ms}, "a frame of 1ms is too short"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.s.Audio == nil {
				tc.s.Audio = short.Audio
			}
			report, err := tc.s.Run(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "topsecret") {
				t.Errorf("%v, want %q", err, tc.says)
			}
			if report.Sent != (Traffic{}) {
				t.Errorf("%+v", report)
			}
		})
	}
	if report := run(t, Stream{URL: refusing.URL(), Audio: short.Audio}); report.Code != websocket.CloseNormalClosure {
		t.Errorf("after the refusals: %+v", report)
	}
	var refusal *HandshakeError
	_, err := Stream{URL: answer(429, ""), Audio: short.Audio}.Run(t.Context())
	if !errors.As(err, &refusal) || refusal.Status != 429 {
		t.Errorf("%v", err)
	}
}

// TestStreamTriesTheHandshakeTwice verifies that a stream tries the handshake at most twice.
func TestStreamTriesTheHandshakeTwice(t *testing.T) {
	server := newAgent(t, agentsim.Options{Refuse: 503, RefuseTimes: 1})
	stream := short
	stream.URL = server.URL()
	if report := run(t, stream); report.Sent.Frames != 1 {
		t.Errorf("%+v", report)
	}
	var tries atomic.Int64
	never := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		tries.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer never.Close()
	stream.URL = strings.Replace(never.URL, "http", "ws", 1)
	if _, err := stream.Run(t.Context()); err == nil || tries.Load() != 2 {
		t.Errorf("%v after %d tries", err, tries.Load())
	}
}

// TestStreamHangsUpWithItsContext verifies that a stream hangs up properly when its context ends in the middle of its
// audio.
func TestStreamHangsUpWithItsContext(t *testing.T) {
	server := newAgent(t, agentsim.Options{Protocol: agent.Exotel})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*ms, cancel)
	report, err := Stream{URL: server.URL(), Audio: Noise(8000), Duration: time.Hour}.Run(ctx)
	if err != nil || !report.HungUp || report.Code != websocket.CloseNormalClosure {
		t.Errorf("%v, %+v", err, report)
	}
	server.Close()
	if call := server.Calls()[0]; !call.Stopped || call.StopReason != "callended" ||
		call.Code != websocket.CloseNormalClosure {
		t.Errorf("the agent saw %+v", call)
	}
}
