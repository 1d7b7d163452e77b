package stream

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// TestMalformedHandshakes verifies that each malformed handshake is answered with a problem. No agent is dialled, and
// no session begins.
func TestMalformedHandshakes(t *testing.T) {
	rig := newWiredRig(t, nil)
	good := wstest.Request(rig.path)
	without := func(header string) string {
		before, rest, _ := strings.Cut(good, header)
		_, after, _ := strings.Cut(rest, "\r\n")
		return before + after
	}
	instead := func(old, with string) string { return strings.Replace(good, old, with, 1) }
	for name, tc := range map[string]struct {
		request    string
		wantStatus int
		wantReason string
	}{
		"old version":         {instead("Version: 13", "Version: 8"), 426, reasonHandshake},
		"version to come":     {instead("Version: 13", "Version: 14"), 426, reasonHandshake},
		"no version":          {without("Sec-WebSocket-Version"), 426, reasonHandshake},
		"no key":              {without("Sec-WebSocket-Key"), 400, reasonHandshake},
		"short key":           {instead(wstest.Key, "c2hvcnQ="), 400, reasonHandshake},
		"long key":            {instead(wstest.Key, wstest.Key[:22]+"AAAA"), 400, reasonHandshake},
		"key in no base64":    {instead(wstest.Key, "dGhlIHNhbXBsZSBub25j*Q=="), 400, reasonHandshake},
		"HTTP/1.0":            {instead("HTTP/1.1", "HTTP/1.0"), 400, reasonHandshake},
		"with a body":         {good + "Content-Length: 2\r\n", 400, reasonHandshake},
		"with a chunked body": {good + "Transfer-Encoding: chunked\r\n", 400, reasonHandshake},
		"no upgrade":          {without("Upgrade"), 426, reasonNoWebSocket},
		"upgrade elsewhere":   {instead("Upgrade: websocket", "Upgrade: h2c"), 426, reasonNoWebSocket},
		"no connection":       {without("Connection"), 426, reasonNoWebSocket},
		"connection closes":   {instead("Connection: Upgrade", "Connection: close"), 426, reasonNoWebSocket},
		"post":                {instead("GET", "POST"), 405, reasonMethod},
		"put":                 {instead("GET", "PUT"), 405, reasonMethod},
		"path escapes":        {instead(rig.path, "/audio/exotel/acme%2fsupport/"+token+"/x/y"), 404, reasonPath},
		"dots":                {instead(rig.path, PathPrefix+"acme/../globex/sales/x"), 404, reasonPath},
	} {
		t.Run(name, func(t *testing.T) {
			before := rig.refused(tc.wantReason)
			resp, err := wstest.Connect(t, rig.address).Ask(tc.request + "\r\n")
			if err == nil {
				err = isProblem(resp, tc.wantStatus)
			}
			if err != nil {
				t.Error(err)
			}
			if tc.wantStatus == 426 && resp.Header.Get("Upgrade") != "websocket" {
				t.Error("426 without Upgrade")
			}
			if n := rig.refused(tc.wantReason) - before; n != 1 {
				t.Errorf("%v are counted as %s", n, tc.wantReason)
			}
			if !strings.Contains(rig.log.String(), "reason="+tc.wantReason) {
				t.Errorf("the log lacks the reason %s", tc.wantReason)
			}
		})
	}
	log := rig.log.String()
	if !strings.Contains(log, `msg="rejected a stream" request="" tenant="" address=127.0.0.1 `) ||
		strings.Contains(log, token) {
		t.Errorf("rejections are logged without the address, or with the token: %s", log)
	}
	rig.untouched()
}

// untouched fails the test if an agent was dialled, a session exists or a place is taken.
func (r *rig) untouched() {
	r.t.Helper()
	r.nothingLeft()
	if rows := r.rows(""); len(rows) != 0 {
		r.t.Errorf("there were sessions: %+v", rows)
	}
	type deadline interface{ SetDeadline(time.Time) error }
	_ = r.agents.(deadline).SetDeadline(time.Now().Add(time.Millisecond))
	if conn, err := r.agents.Accept(); err == nil {
		_ = conn.Close()
		r.t.Error("the agent was dialled")
	}
}

// TestHandshakesOfAllKinds checks that additions that RFC 6455 and 7692 allow are accepted, and that the answer agrees
// to nothing that is not implemented.
func TestHandshakesOfAllKinds(t *testing.T) {
	rig := newWiredRig(t, nil)
	good := wstest.Request(rig.path)
	for name, request := range map[string]string{
		"plain":           good,
		"subprotocols":    good + "Sec-WebSocket-Protocol: chat, superchat\r\n",
		"compression":     good + "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
		"a browser's":     good + "Origin: https://evil.example\r\nCookie: a=b\r\n",
		"more to upgrade": strings.Replace(good, "Upgrade: websocket", "Upgrade: h2c, WebSocket", 1),
		"more connection": strings.Replace(good, "Connection: Upgrade", "Connection: keep-alive, upgrade", 1),
		"casing": strings.NewReplacer("Connection", "CONNECTION", "Upgrade", "uPGRADE", "Sec-WebSocket-Key",
			"sec-websocket-key").Replace(good),
		"HTTP/1.1 in full": strings.Replace(good, "GET /", "GET http://x/", 1),
		"many versions":    strings.Replace(good, "Version: 13", "Version: 8, 13", 1),
	} {
		t.Run(name, func(t *testing.T) {
			rig.t = t
			answered := make(chan *wstest.Peer, 1)
			go func() { answered <- rig.answer() }()
			exotel := wstest.Connect(t, rig.address)
			resp, err := exotel.Ask(request + "\r\n")
			agent := <-answered
			if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || agent == nil {
				t.Fatalf("answered %+v, %v", resp, err)
			}
			for _, header := range []string{"Sec-Websocket-Protocol", "Sec-Websocket-Extensions"} {
				if got := resp.Header.Get(header); got != "" {
					t.Errorf("%s: %s was agreed to", header, got)
				}
			}
			exotel.Text(connected, startOf("call"), dtmf)
			agent.Expect(connected, startOf("call"), dtmf)
			exotel.Text(stop)
			closedWith(agent)
			closedWith(exotel)
			rig.nothingLeft()
		})
	}
}

// TestPipelined checks that bytes right after the handshake request are refused, and that the agent's connection is
// closed.
func TestPipelined(t *testing.T) {
	rig := newWiredRig(t, nil)
	exotel := wstest.Connect(t, rig.address)
	exotel.Bytes([]byte(wstest.Request(rig.path) + "\r\n" + string(wstest.FrameBytes(0x81, true, connected))))
	agent := rig.answer()
	if _, err := agent.Read(); err == nil {
		t.Error("the agent was told something")
	}
	if _, err := exotel.Read(); err == nil {
		t.Error("the connection was taken")
	}
	rig.nothingLeft()
	if rows := rig.rows(""); len(rows) != 1 || rows[0].Reason != reason.StreamFailed ||
		rig.refused(reasonHandshake) != 1 {
		t.Errorf("the session: %+v", rows)
	}
}

// TestClientGoes verifies that a client that leaves during the dial leaves no session. The agent is not blamed for it.
func TestClientGoes(t *testing.T) {
	rig := newWiredRig(t, func(o *Options, _ *registry.Options) { o.DialWithin = time.Minute })
	exotel := wstest.Connect(t, rig.address)
	exotel.Bytes([]byte(wstest.Request(rig.path) + "\r\n"))
	agent, err := rig.accept()
	if err != nil {
		t.Fatal(err)
	}
	if n := rig.h.places.InUse(); n != 1 {
		t.Errorf("%d places are taken while the agent is dialled", n)
	}
	exotel.Reset()
	_ = agent.SetReadDeadline(time.Now().Add(wstest.Patience))
	if _, err := io.Copy(io.Discard, agent); errors.Is(err, io.ErrNoProgress) || isTimeout(err) {
		t.Errorf("the agent's connection is still there: %v", err)
	}
	rig.nothingLeft()
	blamed := 0.0
	for _, reason := range dialReasons() {
		blamed += value(t, rig.h.m.dials[reason])
	}
	if len(rig.rows("")) != 0 || rig.refused(reasonGone) != 1 || blamed != 0 {
		t.Errorf("sessions %+v, %v counted as gone, %v of the agent", rig.rows(""), rig.refused(reasonGone), blamed)
	}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// TestPlaces tests that handshakes whose agent hangs take a quarter of the places, that more are refused at once,
// and that the places are given back.
func TestPlaces(t *testing.T) {
	rig := newWiredRig(t, func(o *Options, _ *registry.Options) {
		o.MaxHandshakes = 12
		o.DialWithin = time.Second
	})
	var hanging []*wstest.Peer
	for range 3 {
		peer := wstest.Connect(t, rig.address)
		peer.Bytes([]byte(wstest.Request(rig.path) + "\r\n"))
		hanging = append(hanging, peer)
	}
	soon.Holds(rig.t, "the tenant's places are taken", func() bool { return rig.h.places.InUse() == 3 })
	resp, err := wstest.Connect(t, rig.address).Ask(wstest.Request(rig.path) + "\r\n")
	if err != nil || isProblem(resp, http.StatusServiceUnavailable) != nil || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one too many was answered %+v, %v", resp, err)
	}
	for _, p := range hanging {
		if resp, err := p.Ask(""); err != nil || isProblem(resp, http.StatusBadGateway) != nil {
			t.Errorf("a hanging agent's was answered %+v, %v", resp, err)
		}
	}
	rig.nothingLeft()
	if got := value(t, rig.h.m.dials[dialTimeout]); got != 3 {
		t.Errorf("%v time-outs are counted", got)
	}
	rig.audio(func(a *tenantconfig.Audio) { a.AgentURL = rig.agent.URL() })
	if _, err := rig.call(rig.url+"/"+token, nil); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

// TestNoSecrets verifies that no secret of a rejected request is in the log, a metric or an answer.
func TestNoSecrets(t *testing.T) {
	rig := newWiredRig(t, nil)
	const wrong = "a-wrong-secret-that-nobody-may-read"
	oneTimeToken := mint(rig.h.o.Key(), "globex/sales", "call", time.Now())
	var said strings.Builder
	for _, request := range []string{
		wstest.Request(PathPrefix + "acme/support/" + wrong),
		wstest.Request(PathPrefix + "acme/support?token=" + wrong),
		wstest.Request(PathPrefix + "acme/support/" + oneTimeToken),
		wstest.Request(PathPrefix + "acme/support/url/" + wrong + "?CallSid=c"),
		wstest.Request(PathPrefix+"acme/support") + "Authorization: Basic " + wrong + "\r\n",
		wstest.Request(PathPrefix + wrong + "/x/y/z/" + wrong),
	} {
		resp, err := wstest.Connect(t, rig.address).Ask(request + "\r\n")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		said.Write(body)
	}
	_ = rig.agents.Close() // an agent that is away, whose URL has a key
	if resp, err := wstest.Connect(t, rig.address).Ask(wstest.Request(rig.path) + "\r\n"); err != nil ||
		isProblem(resp, http.StatusBadGateway) != nil {
		t.Errorf("answered %+v, %v", resp, err)
	}
	said.WriteString(rig.log.String())
	families, err := rig.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		said.WriteString(f.String())
	}
	for _, secret := range []string{wrong, oneTimeToken, token, "opens the agent", "hush"} {
		if strings.Contains(said.String(), secret) {
			t.Errorf("%q is told", secret)
		}
	}
}
