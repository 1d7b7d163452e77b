package verify_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// proof is one verifier: how a tenant has it, how a request satisfies it or fails it, and what it covers then.
type proof struct {
	configure   func(*tenantconfig.Webhooks)
	good, bad   func(*verify.Request)
	query, body bool
	reason      string // of bad
}

const password = "password of exotel"

func proofs() []proof {
	header := func(name, value string) func(*verify.Request) {
		return func(r *verify.Request) { r.Header.Set(name, value) }
	}
	from := func(addr string) func(*verify.Request) {
		return func(r *verify.Request) { r.ClientIP = netip.MustParseAddr(addr) }
	}
	standard := func(key string) func(*verify.Request) {
		return func(r *verify.Request) {
			stamp := fmt.Sprint(r.Now.Unix())
			r.Header.Set("webhook-id", "msg_1")
			r.Header.Set("webhook-timestamp", stamp)
			r.Header.Set(
				"webhook-signature",
				"v1,"+base64.StdEncoding.EncodeToString(mac(sha256Scheme, key, "msg_1."+stamp+"."+statusBody)),
			)
		}
	}
	basic := func(p string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte("exotel:"+p)) }
	return []proof{
		{
			func(w *tenantconfig.Webhooks) { w.Signature = signatureOf(sha1Scheme, firstSecret).Signature },
			header("X-Exotel-Signature", hex.EncodeToString(mac(sha1Scheme, firstSecret, statusBody))),
			header("X-Exotel-Signature", "00"),
			false,
			true,
			verify.ReasonWrongSignature,
		},
		{func(w *tenantconfig.Webhooks) {
			w.Standard = &tenantconfig.StandardWebhooks{Tolerance: time.Minute, Secrets: sensitive(secondSecret)}
		}, standard(secondSecret), standard(firstSecret), false, true, verify.ReasonWrongStandard},
		{
			func(w *tenantconfig.Webhooks) { w.Token = &tenantconfig.Token{Secrets: sensitive(secondToken)} },
			func(r *verify.Request) { r.URL.RawQuery = "token=" + secondToken },
			func(r *verify.Request) { r.URL.RawQuery = "token=wrong" },
			true,
			true,
			verify.ReasonWrongToken,
		},
		{func(w *tenantconfig.Webhooks) {
			w.Basic = &tenantconfig.BasicAuth{Users: []tenantconfig.User{{Name: "exotel", Password: password}}}
		}, header("Authorization", basic(password)), header("Authorization", basic("wrong")), true, true, verify.ReasonWrongBasicAuth},
		{func(w *tenantconfig.Webhooks) {
			w.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
		},
			from("198.51.100.1"), from("203.0.113.1"), true, true, verify.ReasonWrongAddress},
	}
}

// TestAnyAndAll goes through every choice of verifiers, and for each of them through every choice of those that are satisfied.
func TestAnyAndAll(t *testing.T) {
	all := proofs()
	for configured := range 1 << len(all) {
		for satisfied := range 1 << len(all) {
			cfg := &tenantconfig.Webhooks{}
			request := post(statusBody, "Content-Type", form)
			wantAny := verify.Verdict{}
			wantAll := verify.Verdict{OK: configured != 0, CoversQuery: true, CoversBody: true}
			reason := ""
			for i, p := range all {
				has := configured>>i&1 == 1
				good := satisfied>>i&1 == 1
				if has {
					p.configure(cfg)
				}
				if good {
					p.good(request)
				} else {
					p.bad(request)
				}
				if has && good {
					wantAny = verify.Verdict{
						OK:          true,
						CoversQuery: wantAny.CoversQuery || p.query,
						CoversBody:  wantAny.CoversBody || p.body,
					}
					wantAll.CoversQuery = wantAll.CoversQuery && p.query
					wantAll.CoversBody = wantAll.CoversBody && p.body
				}
				if has && !good {
					wantAll.OK = false
					if reason == "" {
						reason = p.reason
					}
				}
			}
			if configured == 0 {
				reason = verify.ReasonNoVerifier
			}
			for require, want := range map[bool]verify.Verdict{false: wantAny, true: wantAll} {
				if !want.OK {
					want = refused(reason)
				}
				cfg.RequireAll = require
				got := verify.Verify(cfg, request)
				if got.SignedDigest != nil && !got.OK {
					t.Error("a refused request has a digest of signed bytes")
				}
				got.SignedDigest = nil
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf(
						"verifiers %05b, satisfied %05b, all of them %v (-want +got):\n%s",
						configured,
						satisfied,
						require,
						diff,
					)
				}
			}
		}
	}
}

// TestReason verifies that a wrong proof is reported before a missing one, and the first of equal faults before the
// others.
func TestReason(t *testing.T) {
	all := proofs()
	for name, tc := range map[string]struct {
		bad  []int // of proofs; the others are configured, and not there
		want string
	}{
		"nothing is there":        {nil, verify.ReasonMissingSignature},
		"a wrong signature":       {[]int{0}, verify.ReasonWrongSignature},
		"a wrong token":           {[]int{2}, verify.ReasonWrongToken},
		"two that are wrong":      {[]int{3, 2}, verify.ReasonWrongToken},
		"a wrong standard's":      {[]int{1}, verify.ReasonWrongStandard},
		"a wrong user's password": {[]int{3}, verify.ReasonWrongBasicAuth},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := &tenantconfig.Webhooks{}
			request := post(statusBody, "Content-Type", form)
			for _, p := range all[:4] {
				p.configure(cfg)
			}
			for _, i := range tc.bad {
				all[i].bad(request)
			}
			if got := verify.Verify(cfg, request); got.OK || got.Reason != tc.want {
				t.Errorf("%+v, want the reason %s", got, tc.want)
			}
		})
	}
	t.Run("an address tells more than what is not there", func(t *testing.T) {
		cfg := &tenantconfig.Webhooks{}
		request := post(statusBody, "Content-Type", form)
		all[0].configure(cfg)
		all[4].configure(cfg)
		wantVerdict(t, missing(verify.ReasonWrongAddress), verify.Verify(cfg, request))
	})
}

// TestFailsClosed verifies that a request with every proof is rejected if no verifier is configured.
func TestFailsClosed(t *testing.T) {
	request := post(statusBody, "Content-Type", form)
	for _, p := range proofs() {
		p.good(request)
	}
	for name, cfg := range map[string]*tenantconfig.Webhooks{
		"no config":                  nil,
		"no verifier":                {},
		"no verifier, all of them":   {RequireAll: true},
		"an empty list of ranges":    {AllowedCIDRs: []netip.Prefix{}},
		"an empty list, all of them": {RequireAll: true, AllowedCIDRs: []netip.Prefix{}},
		"verifiers without a secret": {
			Signature: &tenantconfig.Signature{Scheme: sha1Scheme},
			Token:     &tenantconfig.Token{},
			Basic:     &tenantconfig.BasicAuth{},
		},
		"a standard without a secret": {Standard: &tenantconfig.StandardWebhooks{Tolerance: time.Hour}},
		"all of those": {
			RequireAll: true,
			Signature:  &tenantconfig.Signature{Scheme: sha1Scheme},
			Token:      &tenantconfig.Token{},
		},
		"an invalid range":           {AllowedCIDRs: []netip.Prefix{{}}},
		"a signature without scheme": {Signature: &tenantconfig.Signature{Secrets: sensitive(firstSecret)}},
		"a timestamp without a bound": {Standard: &tenantconfig.StandardWebhooks{
			Tolerance: -1,
			Secrets:   sensitive(secondSecret),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []*verify.Request{request, {}, {Header: http.Header{}, Method: http.MethodGet}} {
				verdict := verify.Verify(cfg, r)
				if verdict.OK || verdict.CoversBody || verdict.CoversQuery ||
					!slices.Contains(verify.Reasons(), verdict.Reason) {
					t.Errorf("%+v", verdict)
				}
			}
		})
	}
}

// TestMissingTellsNothing verifies that OK and Missing do not depend on the configured verifiers. The answer is made
// from these two.
func TestMissingTellsNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*verify.Request)
		want   bool
	}{
		"nothing":               {func(*verify.Request) {}, true},
		"fields alone":          {func(r *verify.Request) { r.URL.RawQuery = "CallSid=c1&Status=completed" }, true},
		"an empty header":       {func(r *verify.Request) { r.Header.Set("X-Exotel-Signature", "") }, true},
		"the usual header":      {func(r *verify.Request) { r.Header.Set("X-Exotel-Signature", "x") }, false},
		"another header":        {func(r *verify.Request) { r.Header.Set("X-Relay-Signature", "x") }, false},
		"standard":              {func(r *verify.Request) { r.Header.Set("webhook-signature", "x") }, false},
		"basic":                 {func(r *verify.Request) { r.Header.Set("Authorization", "x") }, false},
		"token":                 {func(r *verify.Request) { r.URL.RawQuery = "a=1&token=x" }, false},
		"token of another name": {func(r *verify.Request) { r.URL.RawQuery = "auth_Token=x" }, false},
		"key":                   {func(r *verify.Request) { r.URL.RawQuery = "key=x" }, false},
		"token in the path":     {func(r *verify.Request) { r.PathToken = "x" }, false},
		"no URL, and no headers": {func(r *verify.Request) {
			r.URL = nil
			r.Header = nil
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			configs := []*tenantconfig.Webhooks{nil, {}}
			for i := range 1 << len(proofs()) {
				cfg := &tenantconfig.Webhooks{}
				for j, p := range proofs() {
					if i>>j&1 == 1 {
						p.configure(cfg)
					}
				}
				configs = append(configs, cfg)
			}
			for _, cfg := range configs {
				request := post(statusBody, "Content-Type", form)
				tc.change(request)
				if verdict := verify.Verify(cfg, request); verdict.OK || verdict.Missing != tc.want {
					t.Errorf("%+v with %+v, want missing %v", verdict, cfg, tc.want)
				}
			}
		})
	}
}

// TestAcceptsHead goes through every choice of verifiers and of those that are satisfied. A request is accepted
// without its body only if it is accepted whatever its body is, and always if no configured verifier reads the body.
func TestAcceptsHead(t *testing.T) {
	all := proofs()
	const readsBody = 0b00011 // the first two
	for configured := range 1 << len(all) {
		for satisfied := range 1 << len(all) {
			cfg := &tenantconfig.Webhooks{}
			request := post(statusBody, "Content-Type", form)
			for i, p := range all {
				if configured>>i&1 == 1 {
					p.configure(cfg)
				}
				if satisfied>>i&1 == 1 {
					p.good(request)
				} else {
					p.bad(request)
				}
			}
			for _, cfg.RequireAll = range []bool{false, true} {
				head := *request
				other := *request
				head.Body, other.Body = nil, []byte("another body")
				accepted := verify.AcceptsHead(cfg, &head)
				whole := verify.Verify(cfg, request).OK
				if accepted && (!whole || !verify.Verify(cfg, &other).OK) {
					t.Errorf("verifiers %05b, satisfied %05b, all %t: accepted without a body that it needs",
						configured, satisfied, cfg.RequireAll)
				}
				if configured&readsBody == 0 && accepted != whole {
					t.Errorf("verifiers %05b, satisfied %05b, all %t: %t without the body, %t with it",
						configured, satisfied, cfg.RequireAll, accepted, whole)
				}
			}
		}
	}
}
