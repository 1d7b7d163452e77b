package stream

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/admission"
	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// TestCalls verifies a call through the endpoint to an agent that echoes, for each protocol and sample rate.
func TestCalls(t *testing.T) {
	for name, tc := range map[string]struct {
		protocol agent.Protocol
		rate     int
	}{
		"exotel":           {agent.Exotel, 0},
		"exotel at 16 kHz": {agent.Exotel, 16000},
		"pcm":              {agent.PCM, 0},
		"pcm at 24 kHz":    {agent.PCM, 24000},
		"twilio":           {agent.Twilio, 0},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRig(t, agentsim.Options{Protocol: tc.protocol}, nil)
			report, err := rig.call(rig.url+"/"+token, func(s *exotelsim.Stream) {
				s.Rate = tc.rate
				if tc.protocol == agent.Twilio { // mu-law loses what the codec's own tests look at
					s.Expect = nil
				}
			})
			if err != nil || !report.Echo.Whole() || report.Invalid != 0 {
				t.Fatalf("%v, echo %+v, %s", err, report.Echo, report.Problem)
			}
			soon.Holds(rig.t, "the session has ended", func() bool { return rig.live.Live() == 0 })
			soon.Holds(rig.t, "the agent has seen the call", func() bool { return len(rig.agent.Calls()) == 1 })
			call := rig.agent.Calls()[0]
			if call.Header.Get("X-Agent-Key") != "opens the agent" || call.Problem != "" ||
				call.Start.CallID != "call1" {
				t.Errorf("the agent saw %+v", call)
			}
			if n := value(t, rig.h.m.handshake); n != 1 {
				t.Errorf("%v handshakes are measured", n)
			}
			if strings.Contains(rig.log.String(), token) {
				t.Error("the token is in the log")
			}
		})
	}
}

// TestVerifiers verifies that each verifier accepts and rejects, with its reason.
func TestVerifiers(t *testing.T) {
	basic := &tenantconfig.BasicAuth{Users: []tenantconfig.User{{Name: "exotel", Password: password}}}
	withUser := func(user, pass string) func(string) string {
		return func(u string) string {
			parsed, _ := url.Parse(u)
			parsed.User = url.UserPassword(user, pass)
			return parsed.String()
		}
	}
	as := func(suffix string) func(string) string { return func(u string) string { return u + suffix } }
	onlyBasic := func(a *tenantconfig.Audio) { a.Verifiers = &tenantconfig.Webhooks{Basic: basic} }
	from := func(cidr string) func(*tenantconfig.Audio) {
		return func(a *tenantconfig.Audio) {
			a.Verifiers = &tenantconfig.Webhooks{AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix(cidr)}}
		}
	}
	rig := newRig(t, agentsim.Options{}, nil)
	original := rig.tenant
	for name, tc := range map[string]struct {
		audio      func(*tenantconfig.Audio)
		url        func(string) string
		wantReason string // empty: let in
	}{
		"token in the path":  {nil, as("/" + token), ""},
		"token in the query": {nil, as("?token=" + token), ""},
		"no token":           {nil, as(""), "missing_token"},
		"wrong token":        {nil, as("/" + strings.Repeat("x", 32)), "wrong_token"},
		"password":           {onlyBasic, withUser("exotel", password), ""},
		"wrong password":     {onlyBasic, withUser("exotel", "another password"), "wrong_basic_auth"},
		"no password":        {onlyBasic, as(""), "missing_basic_auth"},
		"address":            {from("127.0.0.0/8"), as(""), ""},
		"another address":    {from("203.0.113.0/24"), as(""), "address_not_allowed"},
		"no verifier":        {func(a *tenantconfig.Audio) { a.Verifiers = nil }, as("/" + token), "no_verifier"},
		"one-time required": {
			func(a *tenantconfig.Audio) { a.OneTimeToken = true },
			as("/" + token),
			"no_one_time_token",
		},
		"unknown tenant": {
			nil,
			func(u string) string { return strings.Replace(u, "acme", "nobody", 1) + "/" + token },
			"unknown_tenant",
		},
		"unknown and one-time": {
			nil,
			func(u string) string { return strings.Replace(u, "acme", "nobody", 1) + "/ot1.abc" },
			"unknown_tenant",
		},
		"forged one-time": {nil, as("/ot1." + strings.Repeat("A", 80)), "wrong_one_time_token"},
	} {
		t.Run(name, func(t *testing.T) {
			rig.set(original)
			if tc.audio != nil {
				rig.audio(tc.audio)
			}
			before := 0.0
			if tc.wantReason != "" {
				before = rig.refused(tc.wantReason)
			}
			_, err := rig.call(tc.url(rig.url), nil)
			var refused *exotelsim.HandshakeError
			switch {
			case tc.wantReason == "" && err != nil:
				t.Error(err)
			case tc.wantReason != "" && (!errors.As(err, &refused) || refused.Status != http.StatusUnauthorized):
				t.Errorf("got %v, want 401", err)
			case tc.wantReason != "" && rig.refused(tc.wantReason) <= before: // Exotel tries twice
				t.Errorf("%s is not counted", tc.wantReason)
			}
		})
	}
}

// TestRefusals verifies the answer and the reason of each request that is not a stream or for which there is no room.
func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		agent      agentsim.Options
		change     func(*Options, *registry.Options)
		audio      func(*tenantconfig.Audio)
		prepare    func(*rig)
		wantStatus int
		wantReason string
	}{
		"suspended": {
			prepare:    func(r *rig) { t := r.tenant; t.Suspended = true; r.set(t) },
			wantStatus: 403,
			wantReason: reasonSuspended,
		},
		"tenants not read": {
			prepare:    func(r *rig) { r.tenants.Store(tenantconfig.NewIncompleteSnapshot()) },
			wantStatus: 503,
			wantReason: reasonNotYetKnown,
		},
		"draining": {prepare: func(r *rig) { r.h.Drain() }, wantStatus: 503, wantReason: reasonDraining},
		"over the pod's limit": {
			change: func(_ *Options, l *registry.Options) { l.MaxStreams = 1 },
			prepare: func(r *rig) {
				session, err := r.live.Admit(r.t.Context(), &r.tenant, 10, registry.Stream{})
				if err != nil {
					r.t.Fatal(err)
				}
				r.t.Cleanup(func() { session.End(r.t.Context(), nil) })
			},
			wantStatus: 503,
			wantReason: reasonPodLimit,
		},
		"agent refuses": {agent: agentsim.Options{Refuse: 403}, wantStatus: 502, wantReason: reasonAgent},
		"agent is away": {prepare: func(r *rig) { r.agent.Close() }, wantStatus: 502, wantReason: reasonAgent},
		"agent is slow": {
			agent:      agentsim.Options{HandshakeDelay: 3 * time.Second},
			change:     func(o *Options, _ *registry.Options) { o.DialWithin = 100 * time.Millisecond },
			wantStatus: 502,
			wantReason: reasonAgent,
		},
		"agent's address": {
			change:     func(o *Options, _ *registry.Options) { o.AllowedAgents = nil },
			wantStatus: http.StatusBadGateway,
			wantReason: reasonAgent,
		},
		"too many at once": {
			prepare:    func(r *rig) { r.h.places = admission.New(admission.Options{}) },
			wantStatus: http.StatusServiceUnavailable,
			wantReason: reasonBusy,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, tc.agent, tc.change)
			if tc.audio != nil {
				r.audio(tc.audio)
			}
			if tc.prepare != nil {
				tc.prepare(r)
			}
			_, err := r.call(r.url+"/"+token, nil)
			var refused *exotelsim.HandshakeError
			if !errors.As(err, &refused) || refused.Status != tc.wantStatus || r.refused(tc.wantReason) < 1 {
				t.Errorf("got %v, want %d for %s", err, tc.wantStatus, tc.wantReason)
			}
		})
	}
}

// TestTenantLimit verifies that a stream over its tenant's limit gets a close code, from any kind of peer. It leaves no
// session and no place.
func TestTenantLimit(t *testing.T) {
	rig := newWiredRig(t, nil)
	rig.audio(func(a *tenantconfig.Audio) { a.MaxStreams = 0 })
	for name, tc := range map[string]struct {
		peer func(*wstest.Peer) closed
		want closed
	}{
		"one that answers": {closedWith, closed{1013, "tenant_limit"}},
		"one that has begun to talk": {func(p *wstest.Peer) closed {
			p.Text(connected, startOf("c"), media(1), media(2))
			return closedWith(p)
		}, closed{1013, "tenant_limit"}},
		"one that says nothing": {func(p *wstest.Peer) closed {
			frame, _ := p.Read()
			_, err := p.Read() // until it is closed
			return closed{int(frame.First), strconv.FormatBool(err != nil)}
		}, closed{0x88, "true"}},
		"one that goes": {func(p *wstest.Peer) closed { p.Reset(); return closed{} }, closed{}},
	} {
		t.Run(name, func(t *testing.T) {
			rig.t = t
			before := rig.refused(reasonTenantLimit)
			dialled := make(chan *wstest.Peer, 1)
			go func() { dialled <- rig.answer() }()
			peer := wstest.Dial(t, rig.address, rig.path)
			if diff := cmp.Diff(tc.want, tc.peer(peer)); diff != "" {
				t.Errorf("it was told (-want +got):\n%s", diff)
			}
			if _, err := (<-dialled).Read(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the agent heard of it, or is still connected: %v", err)
			}
			rig.nothingLeft()
			if n := rig.refused(reasonTenantLimit) - before; n != 1 || len(rig.rows("")) != 0 {
				t.Errorf("%v refusals are counted, and %d rows written", n, len(rig.rows("")))
			}
		})
	}
}

// TestHostile checks that invalid handshakes are answered, and that nothing is redirected.
func TestHostile(t *testing.T) {
	rig := newRig(t, agentsim.Options{}, nil)
	base := strings.TrimSuffix(rig.url, "acme/support")
	for name, tc := range map[string]struct {
		method, url string
		want        int
	}{
		"no upgrade":        {"GET", rig.url + "/" + token, http.StatusUpgradeRequired},
		"post":              {"POST", rig.url + "/" + token, http.StatusMethodNotAllowed},
		"no tenant":         {"GET", base + "acme", http.StatusNotFound},
		"empty parts":       {"GET", base + "//x", http.StatusNotFound},
		"too long a path":   {"GET", rig.url + "/a/b", http.StatusNotFound},
		"trailing slash":    {"GET", rig.url + "/", http.StatusNotFound},
		"delete the url":    {"DELETE", rig.url + "/url", http.StatusMethodNotAllowed},
		"url without token": {"GET", rig.url + "/url?CallSid=c", http.StatusUnauthorized},
		"url without call":  {"GET", rig.url + "/url?token=" + token, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			resp := rig.get(tc.method, tc.url, "", "")
			if resp.StatusCode != tc.want || resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("answered %d %s, want %d", resp.StatusCode, resp.Header.Get("Content-Type"), tc.want)
			}
		})
	}
}

// TestCutInTheMidst verifies that a live call ends when its tenant is suspended, and when the pod drains beyond its
// grace.
func TestCutInTheMidst(t *testing.T) {
	for name, tc := range map[string]struct {
		do       func(*rig)
		wantCode int
	}{
		"suspended": {func(r *rig) { t := r.tenant; t.Suspended = true; r.set(t) }, 1008},
		"drained":   {func(r *rig) { r.h.Drain(); r.live.Drain(50 * time.Millisecond) }, 1001},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, agentsim.Options{}, nil)
			var report exotelsim.Report
			var err error
			var calling sync.WaitGroup
			calling.Go(func() {
				report, err = r.call(r.url+"/"+token, func(s *exotelsim.Stream) {
					s.Duration = 20 * time.Second
					s.Linger = 0
					s.Expect = nil
				})
			})
			soon.Holds(
				r.t, "the call is live", func() bool { return value(t, r.h.m.handshake) == 1 && r.agent.Live() == 1 },
			)
			tc.do(r)
			calling.Wait()
			if err != nil || report.Code != tc.wantCode {
				t.Errorf("it ended with %v, code %d, want %d", err, report.Code, tc.wantCode)
			}
			soon.Holds(r.t, "nothing is left", func() bool {
				return r.live.Live() == 0 && r.agent.Live() == 0
			})
		})
	}
}
