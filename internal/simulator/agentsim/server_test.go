package agentsim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// soon bounds a wait for what must happen without delay.
const soon = eventually.Within(10 * time.Second)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o Options) *Server {
	t.Helper()
	server, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

func dial(t *testing.T, url string) *websocket.Conn {
	t.Helper()
	ws, resp, err := websocket.DefaultDialer.Dial(url, http.Header{"X-Test": {"1"}})
	if err != nil {
		t.Fatalf("%v, %v", resp, err)
	}
	t.Cleanup(func() { _ = ws.Close() })
	return ws
}

// message to or from an agent; binary ones begin with "bin:".
func send(t *testing.T, ws *websocket.Conn, messages ...string) {
	t.Helper()
	for _, m := range messages {
		kind := websocket.TextMessage
		if rest, ok := strings.CutPrefix(m, "bin:"); ok {
			kind = websocket.BinaryMessage
			m = rest
		}
		if err := ws.WriteMessage(kind, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
}

// receive reads until the agent ends the call, or the n-th message.
func receive(t *testing.T, ws *websocket.Conn, n int) (got []string, err error) {
	t.Helper()
	if err := ws.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for len(got) < n {
		kind, data, err := ws.ReadMessage()
		if err != nil {
			return got, err
		}
		text := string(data)
		if kind == websocket.BinaryMessage {
			text = "bin:" + text
		}
		got = append(got, text)
	}
	return got, nil
}

func hangUp(t *testing.T, s *Server, ws *websocket.Conn) Call {
	t.Helper()
	_ = ws.WriteControl(
		websocket.CloseMessage,
		websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""),
		time.Now().Add(time.Second),
	)
	soon.Holds(t, "the call ends", func() bool { return len(s.Calls()) == 1 })
	return s.Calls()[0]
}

const (
	exotelStart = `{"event":"start","sequence_number":1,"stream_sid":"s1","start":{"stream_sid":"s1",` +
		`"call_sid":"c1","account_sid":"a1","from":"+91987",` +
		`"to":"+91123","custom_parameters":{"k":"v"},"media_format":{"encoding":"raw","sample_rate":"16000",` +
		`"bit_rate":"128"}}}`
	camelStart = `{"event":"start","sequenceNumber":"1","streamSid":"s1","start":{"streamSid":"s1","callSid":"c1",` +
		`"accountSid":"a1","from":"+91987",` +
		`"to":"+91123","customParameters":{"k":"v"},"mediaFormat":{"encoding":"raw","sampleRate":16000}}}`
	pcmStart = `{"event":"start","streamId":"s1","callId":"c1","from":"+91987","to":"+91123","sampleRate":16000,` +
		`"encoding":"pcm_s16le","channels":1,"custom":{"k":"v"}}`
)

// TestEcho in every protocol: what is said comes back, in its own form; and the agent knows what it was told.
func TestEcho(t *testing.T) {
	told := Start{
		StreamID:  "s1",
		CallID:    "c1",
		AccountID: "a1",
		From:      "+91987",
		To:        "+91123",
		Encoding:  "raw",
		Rate:      16000,
		Custom:    map[string]string{"k": "v"},
	}
	toldPCM := told
	toldPCM.AccountID = ""
	toldPCM.Encoding = "pcm_s16le"
	events := []string{"connected", "start", "mark", "dtmf", "stop"}
	for name, tc := range map[string]struct {
		protocol agent.Protocol
		say      []string
		want     []string
		wantCall Call
	}{
		"exotel": {agent.Exotel, []string{`{"event":"connected"}`, exotelStart,
			`{"event":"media","sequence_number":2,"stream_sid":"s1","media":{"chunk":1,"timestamp":"0",` +
				`"payload":"AAECAw=="}}`,
			`{"event":"mark","stream_sid":"s1","mark":{"name":"m"}}`,
			`{"event":"dtmf","dtmf":{"duration":"200","digit":"5"}}`,
			`{"event":"stop","stop":{"reason":"callended"}}`},
			[]string{`{"event":"media","stream_sid":"s1","media":{"payload":"AAECAw=="}}`},
			Call{
				Start:      told,
				Pieces:     1,
				Bytes:      4,
				Marks:      []string{"m"},
				Digits:     "5",
				Events:     events,
				Stopped:    true,
				StopReason: "callended",
			}},
		"exotel in its other casing, escaped, in binary frames, with traps": {agent.Exotel,
			[]string{"bin:" + camelStart,
				`bin:{"event":"media","x":{"payload":"AAAA"},"media":{"payload":"\u0041AEC"}}`,
				`bin:{"media":{"payload":"AAAA"},"event":"media"}`,
				`{"event":"media","media":{"payload":"AAAA"},"x":{"payload":"BBBB"}}`},
			[]string{`{"event":"media","stream_sid":"s1","media":{"payload":"AAEC"}}`,
				`{"event":"media","stream_sid":"s1","media":{"payload":"AAAA"}}`,
				`{"event":"media","stream_sid":"s1","media":{"payload":"AAAA"}}`},
			Call{Start: told, Pieces: 3, Bytes: 9, Events: []string{"start", "media"}}},
		"twilio": {agent.Twilio, []string{
			camelStart,
			`{"event":"media","sequenceNumber":"2","streamSid":"s1","media":{"track":"inbound","payload":"//8="}}`,
		},
			[]string{`{"event":"media","streamSid":"s1","media":{"payload":"//8="}}`}, Call{
				Start:  told,
				Pieces: 1,
				Bytes:  2,
				Events: []string{"start"},
			}},
		"pcm": {agent.PCM, []string{
			pcmStart, "bin:abc", `{"event":"mark","name":"m"}`, `{"event":"dtmf","digit":"#"}`,
			`{"event":"stop","reason":"callended"}`,
		},
			[]string{"bin:abc"}, Call{
				Start:      toldPCM,
				Pieces:     1,
				Bytes:      3,
				Marks:      []string{"m"},
				Digits:     "#",
				Events:     []string{"start", "mark", "dtmf", "stop"},
				Stopped:    true,
				StopReason: "callended",
			}},
		"audio before start": {agent.Exotel, []string{`{"event":"media","media":{"payload":"AAAA"}}`}, nil,
			Call{Pieces: 1, Bytes: 3, Problem: "audio before start"}},
		"no base64": {agent.Exotel, []string{exotelStart, `{"event":"media","media":{"payload":"A\"}"}}`}, nil,
			Call{Start: told, Events: []string{"start", "media"}, Problem: "media without base64"}},
		"no JSON": {
			agent.PCM,
			[]string{"hello"},
			nil,
			Call{Problem: "no JSON: invalid character 'h' looking for beginning of value"},
		},
		"unknown event": {agent.Exotel, []string{`{"event":"silence"}`}, nil, Call{
			Events:  []string{"silence"},
			Problem: `an event "silence"`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, Options{Protocol: tc.protocol})
			ws := dial(t, server.URL()+"?a=b")
			send(t, ws, tc.say...)
			got, err := receive(t, ws, len(tc.want))
			if d := cmp.Diff(tc.want, got); err != nil || d != "" {
				t.Errorf("%v; it says (-want +got):\n%s", err, d)
			}
			call := hangUp(t, server, ws)
			if call.Header.Get("X-Test") != "1" || call.Query.Get("a") != "b" {
				t.Errorf("handshake %v ?%v", call.Header, call.Query)
			}
			tc.wantCall.Code = websocket.CloseNormalClosure
			if d := cmp.Diff(tc.wantCall, call, cmpopts.IgnoreFields(Call{}, "Header", "Query")); d != "" {
				t.Errorf("it heard (-want +got):\n%s", d)
			}
		})
	}
}

// TestMisbehaviour is everything that an agent may do wrong. Each says what it hears until then.
func TestMisbehaviour(t *testing.T) {
	const piece, echoed = `{"event":"media","media":{"payload":"AAAA"}}`, `{"event":"media","stream_sid":"s1",` +
		`"media":{"payload":"AAAA"}}`
	for name, tc := range map[string]struct {
		o        Options
		want     []string
		wantCode int // of the close; 0: a connection without one
	}{
		"drops":             {Options{DropAfter: 3}, []string{echoed, echoed}, 0},
		"closes":            {Options{CloseAfter: 2}, []string{echoed}, websocket.CloseNormalClosure},
		"closes with error": {Options{CloseAfter: 3, CloseCode: 4001}, []string{echoed, echoed}, 4001},
		"silent, then gone": {Options{Silent: true, DropAfter: 4}, nil, 0},
		"bursts": {Options{
			BurstEvery: 2,
			BurstMarks: 2,
			DropAfter:  4,
		}, []string{echoed, echoed, `{"event":"clear","stream_sid":"s1"}`,
			`{"event":"mark","stream_sid":"s1","mark":{"name":"burst-2-0"}}`,
			`{"event":"mark","stream_sid":"s1","mark":{"name":"burst-2-1"}}`, echoed}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, tc.o)
			ws := dial(t, server.URL())
			send(t, ws, exotelStart, piece, piece, piece, piece)
			got, err := receive(t, ws, 1000)
			var closed *websocket.CloseError
			code := 0
			if errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure {
				code = closed.Code
			}
			if d := cmp.Diff(tc.want, got); d != "" || code != tc.wantCode {
				t.Errorf("ends with %v; it says (-want +got):\n%s", err, d)
			}
			soon.Holds(t, "the call ends", func() bool { return len(server.Calls()) == 1 && server.Live() == 0 })
		})
	}
}

func TestBurstOfPCM(t *testing.T) {
	server := start(t, Options{Protocol: agent.PCM, BurstEvery: 1, BurstMarks: 1})
	ws := dial(t, server.URL())
	send(t, ws, pcmStart, "bin:ab")
	got, err := receive(t, ws, 3)
	if d := cmp.Diff([]string{"bin:ab", `{"event":"clear"}`, `{"event":"mark","name":"burst-1-0"}`}, got); err != nil ||
		d != "" {
		t.Errorf("%v; it says (-want +got):\n%s", err, d)
	}
}

func TestRefusal(t *testing.T) {
	for name, tc := range map[string]struct {
		o    Options
		want []int
	}{
		"always": {Options{Refuse: 503}, []int{503, 503, 503}},
		"twice":  {Options{Refuse: 401, RefuseTimes: 2}, []int{401, 401, 101}},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, tc.o)
			var got []int
			for range tc.want {
				ws, resp, err := websocket.DefaultDialer.Dial(server.URL(), nil)
				if resp == nil {
					t.Fatal(err)
				}
				got = append(got, resp.StatusCode)
				if ws != nil {
					_ = ws.Close()
				}
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("statuses (-want +got):\n%s", d)
			}
		})
	}
}

// TestSlowAgentIsFelt verifies that an agent that does not read blocks its sender soon.
func TestSlowAgentIsFelt(t *testing.T) {
	server := start(t, Options{Silent: true, Delay: time.Hour})
	ws := dial(t, server.URL())
	if err := ws.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 64<<10)
	err := error(nil)
	for n := 0; err == nil; n++ {
		if n == 1000 {
			t.Fatal("64 MB were sent to an agent that reads nothing")
		}
		err = ws.WriteMessage(websocket.TextMessage, frame)
	}
}

// TestSlowHandshake is given up on by who waits, and the agent forgets it.
func TestSlowHandshake(t *testing.T) {
	server := start(t, Options{HandshakeDelay: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := websocket.DefaultDialer.DialContext(ctx, server.URL(), nil); err == nil {
		t.Error("there is a socket")
	}
	if server.Started() != 0 {
		t.Error("there was a call")
	}
}

func TestCloseEndsCalls(t *testing.T) {
	server := start(t, Options{})
	ws := dial(t, server.URL())
	soon.Holds(t, "the call begins", func() bool { return server.Live() == 1 })
	server.Close()
	if _, err := receive(t, ws, 1); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("the call ends with %v", err)
	}
	if server.Live() != 0 || server.Started() != 1 || len(server.Calls()) != 1 {
		t.Errorf("%d live of %d, %d past", server.Live(), server.Started(), len(server.Calls()))
	}
	server.Close() // a second time does no harm
}

func TestTLS(t *testing.T) {
	helper := httptest.NewTLSServer(nil) // for its certificate
	defer helper.Close()
	server := start(t, Options{TLS: &tls.Config{Certificates: helper.TLS.Certificates}})
	pool := x509.NewCertPool()
	pool.AddCert(helper.Certificate())
	ws, resp, err := (&websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: pool}}).Dial(server.URL(), nil)
	if err != nil {
		t.Fatalf("%s: %v, %v", server.URL(), resp, err)
	}
	defer func() { _ = ws.Close() }()
	send(t, ws, exotelStart, `{"event":"media","media":{"payload":"AAAA"}}`)
	if got, err := receive(t, ws, 1); err != nil || !strings.HasPrefix(server.URL(), "wss://") {
		t.Errorf("at %s: %v, %v", server.URL(), got, err)
	}
}

func TestServerThatCannotBe(t *testing.T) {
	server := start(t, Options{})
	if _, err := NewServer(Options{Listen: server.Addr()}); err == nil ||
		!strings.Contains(err.Error(), "listen as an agent") {
		t.Errorf("an address that is taken: %v", err)
	}
	if _, err := NewServer(Options{Protocol: "vonage"}); !errors.Is(err, agent.ErrProtocol) {
		t.Errorf("an unknown protocol: %v", err)
	}
}
