package stream

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// TestToken verifies what a one-time token opens, and for how long.
func TestToken(t *testing.T) {
	key := []byte("key")
	now := time.Unix(1700000000, 0)
	good := mint(key, "acme/support", "call1", now)
	for name, tc := range map[string]struct {
		key           string
		tenant, token string
		at            time.Duration
		want          string
	}{
		"good":               {"key", "acme/support", good, 0, ""},
		"at the last moment": {"key", "acme/support", good, tokenLifetime - 1, ""},
		"too late":           {"key", "acme/support", good, tokenLifetime, reasonExpiredToken},
		"other tenant":       {"key", "globex/sales", good, 0, reasonWrongToken},
		"other key":          {"yek", "acme/support", good, 0, reasonWrongToken},
		"no key":             {"", "acme/support", mint(nil, "acme/support", "call1", now), 0, reasonWrongToken},
		"cut":                {"key", "acme/support", good[:len(good)-2], 0, reasonWrongToken},
		"longer":             {"key", "acme/support", good + "AAAA", 0, reasonWrongToken},
		"much too long":      {"key", "acme/support", good + strings.Repeat("A", 4096), 0, reasonWrongToken},
		"no base64":          {"key", "acme/support", tokenPrefix + "%%%", 0, reasonWrongToken},
		"empty":              {"key", "acme/support", "", 0, reasonWrongToken},
	} {
		t.Run(name, func(t *testing.T) {
			got, fault := openToken([]byte(tc.key), tc.tenant, tc.token, now.Add(tc.at))
			if fault != tc.want || (fault == "") != (got.callSID == "call1" && len(got.id) == 2*nonceSize) {
				t.Errorf("got %+v, %q, want %q", got, fault, tc.want)
			}
		})
	}
	if mint(key, "acme/support", "call1", now) == good {
		t.Error("two tokens are one")
	}
}

func FuzzOpenToken(f *testing.F) {
	now := time.Unix(1700000000, 0)
	good := mint([]byte("key"), "acme/support", "call1", now)
	f.Add(good)
	f.Add(tokenPrefix)
	f.Fuzz(func(t *testing.T, token string) {
		if got, fault := openToken([]byte("key"), "acme/support", token, now); fault == "" &&
			(token != good && got.callSID != "call1") {
			t.Errorf("%q opens %+v", token, got)
		}
	})
}

// TestDynamicURL verifies the answers of the dynamic URL for each form of request.
func TestDynamicURL(t *testing.T) {
	rig := newRig(t, agentsim.Options{}, nil)
	const form = "application/x-www-form-urlencoded"
	for name, tc := range map[string]struct {
		method, suffix, body, contentType string
		want                              int
	}{
		"get":              {"GET", "/url?CallSid=call1&token=" + token, "", "", 200},
		"token in path":    {"GET", "/url/" + token + "?call_sid=call1", "", "", 200},
		"form":             {"POST", "/url/" + token, "CallSid=call1", form, 200},
		"form broken":      {"POST", "/url/" + token, "CallSid=%zz", form, 400},
		"json":             {"POST", "/url/" + token, `{"CallSid":"call1"}`, "application/json", 400},
		"call id too long": {"GET", "/url/" + token + "?CallSid=" + strings.Repeat("c", 129), "", "", 400},
		"too large":        {"POST", "/url/" + token, strings.Repeat("a", maxBody+1), form, 413},
		"wrong token":      {"GET", "/url/" + token[1:] + "?CallSid=call1", "", "", 401},
		"a one-time token": {"GET", "/url/" + mint(rig.h.o.Key(), "acme/support", "call1", time.Now()) + "?CallSid=call1", "", "", 401},
	} {
		t.Run(name, func(t *testing.T) {
			resp := rig.get(tc.method, rig.url+tc.suffix, tc.body, tc.contentType)
			if resp.StatusCode != tc.want {
				t.Fatalf("answered %d, want %d", resp.StatusCode, tc.want)
			}
			if tc.want != http.StatusOK {
				return
			}
			var answer map[string]string
			if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
				t.Fatal(err)
			}
			token, ours := strings.CutPrefix(answer["url"], rig.url+"/")
			got, fault := openToken(rig.h.o.Key(), "acme/support", token, time.Now())
			if diff := cmp.Diff("call1", got.callSID); !ours || fault != "" || diff != "" || len(answer) != 1 {
				t.Errorf("answered %v, %s %s", answer, fault, diff)
			}
		})
	}
}

// TestPublicURL asks for the URL of a stream with headers that name other hosts. The answer has the public URL.
func TestPublicURL(t *testing.T) {
	for public, want := range map[string]string{
		"https://voice.example":           "wss://voice.example/audio/exotel/acme/support/ot1.",
		"http://10.0.0.1:30080":           "ws://10.0.0.1:30080/audio/exotel/acme/support/ot1.",
		"https://voice.example/below/":    "wss://voice.example/below/audio/exotel/acme/support/ot1.",
		"https://[2001:db8::1]:8443/a/b/": "wss://[2001:db8::1]:8443/a/b/audio/exotel/acme/support/ot1.",
	} {
		base, err := url.Parse(public)
		if err != nil {
			t.Fatal(err)
		}
		rig := newRig(t, agentsim.Options{}, func(o *Options, _ *registry.Options) {
			o.PublicURL = base
			o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		})
		question := strings.Replace(rig.url, "ws", "http", 1) + "/url?sample-rate=16000&CallSid=call1&token=" + token
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, question, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "attacker.example"
		req.Header.Set("X-Forwarded-Host", "other.example")
		req.Header.Set("X-Forwarded-Proto", "http")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var answer map[string]string
		err = json.NewDecoder(resp.Body).Decode(&answer)
		_ = resp.Body.Close()
		got := answer["url"]
		if err != nil || !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "?sample-rate=16000") {
			t.Errorf("%s: answered %q, %v; want %s", public, got, err, want)
		}
	}
}

// TestOneTime verifies that a token opens one stream, of its call and its tenant, within its minute.
func TestOneTime(t *testing.T) {
	rig := newRig(t, agentsim.Options{RefuseTimes: 1, Refuse: 503}, nil)
	rig.audio(func(a *tenantconfig.Audio) { a.OneTimeToken = true })
	mintNow := func() string { return mint(rig.h.o.Key(), "acme/support", "call1", time.Now()) }
	try := func(url string, want int) {
		t.Helper()
		report, err := rig.call(url, nil)
		var refused *exotelsim.HandshakeError
		switch {
		case want == 0 && (err != nil || !report.Echo.Whole()):
			t.Errorf("%v, %+v", err, report.Echo)
		case want != 0 && (!errors.As(err, &refused) || refused.Status != want):
			t.Errorf("got %v, want %d", err, want)
		}
	}
	first := rig.url + "/" + mintNow()
	try(first, 0) // the agent refuses once, and it is still good for Exotel's second try
	if n := value(t, rig.h.m.dials[dialRejected]); n != 1 {
		t.Errorf("%v refusals of the agent are counted", n)
	}
	try(first, 401)
	if rig.refused(reasonUsedToken) < 1 {
		t.Error("the second use is not counted")
	}
	try(strings.Replace(rig.url, "acme/support", "globex/sales", 1)+"/"+mintNow(), 401)
	try(strings.Replace(rig.url, "ws", "http", 1)+"/url?token="+token+"&CallSid=call1", 0)
	late := mintNow()
	later := time.Now().Add(2 * time.Minute)
	rig.now.Store(&later)
	try(rig.url+"/"+late, 401)
	rig.now.Store(nil)
	if rig.refused(reasonExpiredToken) < 1 {
		t.Error("the late use is not counted")
	}
	report, err := rig.call(rig.url+"/"+mintNow(), func(s *exotelsim.Stream) {
		s.CallSID = "call2"
		s.Duration = 10 * time.Second
	})
	if err != nil || report.Code != 1008 || rig.refused(reasonOtherCall) != 1 {
		t.Errorf("another call's stream ended with %v, code %d", err, report.Code)
	}
}

// TestTokenOfAnotherPod verifies that a token of one pod opens one stream at any pod, and then no other at any.
func TestTokenOfAnotherPod(t *testing.T) {
	rig := newRig(t, agentsim.Options{}, nil)
	another := rig.another()
	resp := rig.get("GET", rig.url+"/url?token="+token+"&CallSid=call1", "", "")
	var answer struct{ URL string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	there := strings.Replace(answer.URL, rig.url, another, 1)
	if report, err := rig.call(there, nil); err != nil || !report.Echo.Whole() || there == answer.URL {
		t.Errorf("%v, echo %+v", err, report.Echo)
	}
	for _, url := range []string{answer.URL, there} {
		var refused *exotelsim.HandshakeError
		if _, err := rig.call(url, nil); !errors.As(err, &refused) || refused.Status != 401 {
			t.Errorf("the second time: %v", err)
		}
	}
}
