package agent_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/exotel/agentstream"
	"github.com/caly-dev/caly/internal/g711"
	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// relay is the simplest bridge with a codec in it: it loses nothing and judges nothing. It dials the agent when it knows the start.
type relay struct {
	t      *testing.T
	url    string
	codec  agent.Codec
	exotel *websocket.Conn
	agent  *websocket.Conn
	back   sync.WaitGroup
}

// bridge serves one call to an agent of a protocol; its URL for Exotel.
func bridge(t *testing.T, p agent.Protocol, agentURL string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, req, nil)
		if err != nil {
			return
		}
		codec, err := agent.New(p)
		if err != nil {
			t.Error(err)
		}
		(&relay{t: t, url: agentURL, codec: codec, exotel: ws}).run()
	}))
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http")
}

func (r *relay) run() {
	var s agentstream.Scanner
	for {
		_, data, err := r.exotel.ReadMessage()
		if err != nil {
			break
		}
		message, err := s.Scan(data)
		if err != nil {
			r.t.Errorf("%s: %v", data, err)
			break
		}
		if message.Kind == agentstream.Start {
			r.open(data)
		}
		if out, binary, send, err := r.codec.FromExotel(nil, message); err != nil {
			r.t.Errorf("%s: %v", data, err)
		} else if send {
			r.toAgent(agent.Frame{Data: out, Binary: binary})
		}
	}
	_ = r.exotel.Close()
	if r.agent != nil {
		_ = r.agent.WriteControl(
			websocket.CloseMessage,
			websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""),
			time.Now().Add(time.Second),
		)
	}
	r.back.Wait()
}

func (r *relay) open(start []byte) {
	info, err := agentstream.ParseStart(start)
	if err != nil {
		r.t.Errorf("%s: %v", start, err)
	}
	if r.agent, _, err = websocket.DefaultDialer.Dial(r.url, nil); err != nil {
		r.t.Error(err)
		return
	}
	frames, err := r.codec.Open(info)
	if err != nil {
		r.t.Error(err)
	}
	for _, f := range frames {
		r.toAgent(f)
	}
	r.back.Add(1)
	go func() {
		defer r.back.Done()
		defer func() { _ = r.agent.Close() }()
		for {
			kind, data, err := r.agent.ReadMessage()
			if err != nil {
				return
			}
			out, err := r.codec.FromAgent(nil, data, kind == websocket.BinaryMessage)
			if err != nil {
				r.t.Errorf("%q: %v", data, err)
			}
			if out.Send {
				_ = r.exotel.WriteMessage(websocket.TextMessage, out.Frame)
			}
		}
	}()
}

func (r *relay) toAgent(f agent.Frame) {
	kind := websocket.TextMessage
	if f.Binary {
		kind = websocket.BinaryMessage
	}
	_ = r.agent.WriteMessage(kind, f.Data)
}

// TestWholeCalls are Exotel's client and agents of each protocol, over real sockets, with the codec between them: what the agent was told,
// and that its echo comes back sample by sample.
func TestWholeCalls(t *testing.T) {
	for name, tc := range map[string]struct {
		protocol agent.Protocol
		rate     int
		quirks   exotelsim.StreamQuirks
		quoting  exotelsim.Quoting
		want     agentsim.Start
		exact    bool // the echo is compared; else only its length
	}{
		"twilio at 8 kHz": {
			protocol: agent.Twilio,
			rate:     8000,
			want: agentsim.Start{
				AccountID: "a1",
				Encoding:  "audio/x-mulaw",
				Rate:      8000,
				Custom:    map[string]string{"k": "v", "from": "+91987", "to": "+91123"},
			},
			exact: true,
		},
		"twilio at 8 kHz, odd": {
			protocol: agent.Twilio,
			rate:     8000,
			quoting:  exotelsim.Strings,
			quirks:   exotelsim.StreamQuirks{CamelCase: true, NoConnected: true, ExtraKeys: true, OddSizes: true},
			want: agentsim.Start{
				AccountID: "a1",
				Encoding:  "audio/x-mulaw",
				Rate:      8000,
				Custom:    map[string]string{"k": "v", "from": "+91987", "to": "+91123"},
			},
			exact: true,
		},
		"twilio at 24 kHz": {
			protocol: agent.Twilio,
			rate:     24000,
			want: agentsim.Start{
				AccountID: "a1",
				Encoding:  "audio/x-mulaw",
				Rate:      8000,
				Custom:    map[string]string{"k": "v", "from": "+91987", "to": "+91123"},
			},
		},
		"pcm at 8 kHz": {
			protocol: agent.PCM,
			rate:     8000,
			want:     agentsim.Start{Encoding: "pcm_s16le", Rate: 8000, Custom: map[string]string{"k": "v"}},
			exact:    true,
		},
		"pcm at 16 kHz, odd": {
			protocol: agent.PCM,
			rate:     16000,
			quirks:   exotelsim.StreamQuirks{OddSizes: true, ExtraKeys: true},
			want:     agentsim.Start{Encoding: "pcm_s16le", Rate: 16000, Custom: map[string]string{"k": "v"}},
			exact:    true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, err := agentsim.NewServer(agentsim.Options{Protocol: tc.protocol, BurstEvery: 10, BurstMarks: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			stream := exotelsim.Stream{
				URL:        bridge(t, tc.protocol, server.URL()) + "?k=v",
				CallSID:    "c1",
				StreamSID:  "s1",
				AccountSID: "a1",
				From:       "+91987",
				To:         "+91123",
				Rate:       tc.rate,
				Audio:      exotelsim.Noise(tc.rate / 2),
				Digits:     "5",
				Quirks:     tc.quirks,
				Quoting:    tc.quoting,
				Linger:     10 * time.Second,
			}
			if tc.exact {
				stream.Expect = heard(tc.protocol, stream.Audio)
			}
			report, err := stream.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !report.Echo.Whole() || report.Invalid+report.Unusual > 0 || !report.HungUp || report.Clears != 2 ||
				report.MarksReceived != 2 ||
				report.MarksReturned != 2 {
				t.Errorf("%+v", report)
			}
			checkAgent(t, server, tc.want)
		})
	}
}

// heard is what comes back of audio.
func heard(p agent.Protocol, audio []byte) []byte {
	if p == agent.PCM {
		return audio
	}
	return exotelsim.PCM(g711.AppendDecode(nil, g711.AppendEncode(nil, exotelsim.Samples(audio))))
}

func checkAgent(t *testing.T, a *agentsim.Server, want agentsim.Start) {
	t.Helper()
	eventually.Within(10*time.Second).Holds(t, "the agent has no call", func() bool { return a.Live() == 0 })
	if len(a.Calls()) != 1 {
		t.Fatalf("the agent had %d calls", len(a.Calls()))
	}
	call := a.Calls()[0]
	want.StreamID = "s1"
	want.CallID = "c1"
	if want.Encoding == "pcm_s16le" {
		want.From = "+91987"
		want.To = "+91123"
	}
	if d := cmp.Diff(want, call.Start); d != "" {
		t.Errorf("start (-want +got):\n%s", d)
	}
	if d := cmp.Diff(
		[]string{"burst-10-0", "burst-20-0"}, call.Marks,
	); d != "" || call.Digits != "5" || !call.Stopped ||
		call.Problem != "" {
		t.Errorf("%+v; marks (-want +got):\n%s", call, d)
	}
}
