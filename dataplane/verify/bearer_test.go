package verify_test

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

func TestStandardWebhooks(t *testing.T) {
	const good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	wrong := "v1," + base64.StdEncoding.EncodeToString(make([]byte, 32))
	signature := func(s string) func(*tenantconfig.Webhooks, *verify.Request) {
		return func(_ *tenantconfig.Webhooks, r *verify.Request) { r.Header.Set("webhook-signature", s) }
	}
	at := func(d time.Duration) func(*tenantconfig.Webhooks, *verify.Request) {
		return func(_ *tenantconfig.Webhooks, r *verify.Request) { r.Now = time.Unix(1614265330, 0).Add(d) }
	}
	for name, tc := range map[string]struct {
		change func(*tenantconfig.Webhooks, *verify.Request)
		want   verify.Verdict
	}{
		"second of two":           {signature(wrong + " " + good), accepted(false, true)},
		"first of two":            {signature(good + " " + wrong), accepted(false, true)},
		"next to another version": {signature("v1a,AAAA " + good), accepted(false, true)},
		"sixteen":                 {signature(strings.Repeat(wrong+" ", 15) + good), accepted(false, true)},
		"seventeen": {
			signature(strings.Repeat(wrong+" ", 16) + good),
			refused(verify.ReasonWrongStandard),
		},
		"under another version": {signature("v2" + good[2:]), refused(verify.ReasonWrongStandard)},
		"asymmetric":            {signature("v1a" + good[2:]), refused(verify.ReasonWrongStandard)},
		"without a version":     {signature(good[3:]), refused(verify.ReasonWrongStandard)},
		"without a comma":       {signature("v1" + good[3:]), refused(verify.ReasonWrongStandard)},
		"joined by a comma":     {signature(wrong + "," + good), refused(verify.ReasonWrongStandard)},
		"without padding":       {signature(strings.TrimRight(good, "=")), refused(verify.ReasonWrongStandard)},
		"cut":                   {signature(good[:20]), refused(verify.ReasonWrongStandard)},
		"other bits at its end": {signature("v1," + otherTail(good[3:])), refused(verify.ReasonWrongStandard)},
		"wrong":                 {signature(wrong), refused(verify.ReasonWrongStandard)},
		"blank":                 {signature(" "), refused(verify.ReasonWrongStandard)},
		"twice the header": {func(_ *tenantconfig.Webhooks, r *verify.Request) {
			r.Header.Add("webhook-signature", good)
		},
			refused(verify.ReasonWrongStandard)},
		"no signature": {
			func(_ *tenantconfig.Webhooks, r *verify.Request) { r.Header.Del("webhook-signature") },
			missing(verify.ReasonWrongStandard),
		},
		"no id": {
			func(_ *tenantconfig.Webhooks, r *verify.Request) { r.Header.Del("webhook-id") },
			refused(verify.ReasonWrongStandard),
		},
		"another id": {
			func(_ *tenantconfig.Webhooks, r *verify.Request) { r.Header.Set("webhook-id", "msg_other") },
			refused(verify.ReasonWrongStandard),
		},
		"no timestamp": {
			func(_ *tenantconfig.Webhooks, r *verify.Request) { r.Header.Del("webhook-timestamp") },
			refused(verify.ReasonBadTimestamp),
		},
		"another timestamp": {
			func(_ *tenantconfig.Webhooks, r *verify.Request) { r.Header.Set("webhook-timestamp", "1614265331") },
			refused(verify.ReasonWrongStandard),
		},
		"none of the three": {
			func(_ *tenantconfig.Webhooks, r *verify.Request) { r.Header = http.Header{} },
			missing(verify.ReasonMissingStandard),
		},
		"at the edge":       {at(5 * time.Minute), accepted(false, true)},
		"beyond it":         {at(5*time.Minute + time.Second), refused(verify.ReasonStaleTimestamp)},
		"at the other edge": {at(-5 * time.Minute), accepted(false, true)},
		"beyond that":       {at(-5*time.Minute - time.Second), refused(verify.ReasonStaleTimestamp)},
		"long ago and wrong": {func(_ *tenantconfig.Webhooks, r *verify.Request) {
			r.Now = time.Now()
			r.Body = nil
		}, refused(verify.ReasonWrongStandard)},
		"second secret": {func(w *tenantconfig.Webhooks, _ *verify.Request) {
			w.Standard.Secrets = append(sensitive(secondSecret), w.Standard.Secrets...)
		}, accepted(false, true)},
		"another secret": {
			func(w *tenantconfig.Webhooks, _ *verify.Request) { w.Standard.Secrets = sensitive(secondSecret) },
			refused(verify.ReasonWrongStandard),
		},
		"no secret": {
			func(w *tenantconfig.Webhooks, _ *verify.Request) { w.Standard.Secrets = nil },
			refused(verify.ReasonWrongStandard),
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, request := standardVector()
			tc.change(cfg, request)
			wantVerdict(t, tc.want, verify.Verify(cfg, request))
		})
	}
}

const (
	firstToken  = "first-token-of-acme/support+x=="
	secondToken = "second-token-of-acme"
)

func TestToken(t *testing.T) {
	const escaped = "first-token-of-acme%2Fsupport%2Bx%3D%3D"
	for name, tc := range map[string]struct {
		parameter, query, path string
		want                   verify.Verdict
	}{
		"in the query":             {"", "token=" + escaped, "", accepted(true, true)},
		"as it is":                 {"", "token=" + firstToken, "", accepted(true, true)},
		"among fields":             {"", "CallSid=c1&token=" + escaped + "&Status=completed", "", accepted(true, true)},
		"the second":               {"", "token=" + secondToken, "", accepted(true, true)},
		"in the path":              {"", "", secondToken, accepted(true, true)},
		"in both":                  {"", "token=" + secondToken, secondToken, accepted(true, true)},
		"twice the same":           {"", "token=" + secondToken + "&token=" + secondToken, "", accepted(true, true)},
		"in both, another":         {"", "token=" + escaped, secondToken, refused(verify.ReasonWrongToken)},
		"a wrong one next to it":   {"", "token=" + secondToken + "&token=x", "", refused(verify.ReasonWrongToken)},
		"an empty one next to it":  {"", "token=&token=" + secondToken, "", accepted(true, true)},
		"another parameter":        {"key", "key=" + secondToken, "", accepted(true, true)},
		"under the default's name": {"key", "token=" + secondToken, "", refused(verify.ReasonMissingToken)},
		"in upper case":            {"", "token=" + strings.ToUpper(secondToken), "", refused(verify.ReasonWrongToken)},
		"parameter in upper case":  {"", "TOKEN=" + secondToken, "", refused(verify.ReasonMissingToken)},
		"cut":                      {"", "token=" + secondToken[:15], "", refused(verify.ReasonWrongToken)},
		"with more behind":         {"", "token=" + secondToken + "x", "", refused(verify.ReasonWrongToken)},
		"with a NUL":               {"", "token=" + secondToken + "%00", "", refused(verify.ReasonWrongToken)},
		"with a blank":             {"", "token=%20" + secondToken, "", refused(verify.ReasonWrongToken)},
		"escaped twice": {
			"",
			"token=first-token-of-acme%252Fsupport%252Bx%253D%253D",
			"",
			refused(verify.ReasonWrongToken),
		},
		"broken escape":       {"", "token=%zz", "", refused(verify.ReasonWrongToken)},
		"empty":               {"", "token=", "", refused(verify.ReasonMissingToken)},
		"none":                {"", "", "", missing(verify.ReasonMissingToken)},
		"none, fields there":  {"", "CallSid=c1&Status=completed", "", missing(verify.ReasonMissingToken)},
		"the name in a value": {"", "CallSid=token=" + secondToken, "", missing(verify.ReasonMissingToken)},
		"the digest of it": {
			"",
			"token=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
			"",
			refused(verify.ReasonWrongToken),
		},
		"behind a semicolon":       {"", "a=1;token=" + secondToken, "", missing(verify.ReasonMissingToken)},
		"in the path, a wrong one": {"", "", "x", refused(verify.ReasonWrongToken)},
		"escaped name":             {"", "%74oken=" + secondToken, "", accepted(true, true)},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := &tenantconfig.Webhooks{Token: &tenantconfig.Token{
				Query:   tc.parameter,
				Secrets: sensitive(firstToken, secondToken),
			}}
			request := post(statusBody, "Content-Type", form)
			request.URL.RawQuery = tc.query
			request.PathToken = tc.path
			wantVerdict(t, tc.want, verify.Verify(cfg, request))
		})
	}
	t.Run("no token is active", func(t *testing.T) {
		cfg := &tenantconfig.Webhooks{Token: &tenantconfig.Token{}}
		for _, token := range []string{"", "x"} {
			request := post(statusBody, "Content-Type", form)
			request.PathToken = token
			if verdict := verify.Verify(cfg, request); verdict.OK {
				t.Errorf("token %q got through", token)
			}
		}
	})
}

func TestBasicAuth(t *testing.T) {
	header := func(plain string) []string {
		return []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(plain))}
	}
	for name, tc := range map[string]struct {
		values []string
		want   verify.Verdict
	}{
		"first user":           {header("exotel:first password"), accepted(true, true)},
		"second user":          {header("relay:second: password"), accepted(true, true)},
		"scheme in lower case": {[]string{"b" + header("exotel:first password")[0][1:]}, accepted(true, true)},
		"another's password":   {header("exotel:second: password"), refused(verify.ReasonWrongBasicAuth)},
		"wrong password":       {header("exotel:first passwore"), refused(verify.ReasonWrongBasicAuth)},
		"cut password":         {header("exotel:first passwor"), refused(verify.ReasonWrongBasicAuth)},
		"no password":          {header("exotel:"), refused(verify.ReasonWrongBasicAuth)},
		"no colon":             {header("exotelfirst password"), refused(verify.ReasonWrongBasicAuth)},
		"no user":              {header(":first password"), refused(verify.ReasonWrongBasicAuth)},
		"the colon moved":      {header("exotel:first: password"), refused(verify.ReasonWrongBasicAuth)},
		"user in upper case":   {header("Exotel:first password"), refused(verify.ReasonWrongBasicAuth)},
		"user with a blank":    {header(" exotel:first password"), refused(verify.ReasonWrongBasicAuth)},
		"with a line break":    {header("exotel:first password\n"), refused(verify.ReasonWrongBasicAuth)},
		"twice": {
			append(header("exotel:first password"), header("exotel:first password")...),
			refused(verify.ReasonWrongBasicAuth),
		},
		"bearer":                   {[]string{"Bearer first password"}, refused(verify.ReasonWrongBasicAuth)},
		"plain":                    {[]string{"Basic exotel:first password"}, refused(verify.ReasonWrongBasicAuth)},
		"the scheme alone":         {[]string{"Basic "}, refused(verify.ReasonWrongBasicAuth)},
		"none":                     {nil, missing(verify.ReasonMissingBasicAuth)},
		"an empty one":             {[]string{""}, missing(verify.ReasonMissingBasicAuth)},
		"a name alone, no more":    {header("exotel"), refused(verify.ReasonWrongBasicAuth)},
		"user and password change": {header("first password:exotel"), refused(verify.ReasonWrongBasicAuth)},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := &tenantconfig.Webhooks{Basic: &tenantconfig.BasicAuth{Users: []tenantconfig.User{{
				Name:     "exotel",
				Password: "first password",
			},
				{Name: "relay", Password: "second: password"}}}}
			request := post(statusBody, "Content-Type", form)
			request.Header["Authorization"] = tc.values
			wantVerdict(t, tc.want, verify.Verify(cfg, request))
			cfg.Basic.Users = nil
			if verify.Verify(cfg, request).OK {
				t.Error("without any user it got through")
			}
		})
	}
}

func TestAddress(t *testing.T) {
	allowed := []netip.Prefix{
		netip.MustParsePrefix("203.0.113.0/24"),
		netip.MustParsePrefix("198.51.100.7/32"),
		netip.MustParsePrefix("2001:db8::/32"),
	}
	for name, tc := range map[string]struct {
		addr string
		want bool
	}{
		"in the first":       {"203.0.113.255", true},
		"in the second":      {"198.51.100.7", true},
		"v6":                 {"2001:db8:1::1", true},
		"v4 in v6":           {"::ffff:203.0.113.1", true},
		"next to the first":  {"203.0.114.0", false},
		"next to the second": {"198.51.100.6", false},
		"another v6":         {"2001:db9::1", false},
		"v4 as v6 with zero": {"::203.0.113.1", false},
	} {
		t.Run(name, func(t *testing.T) {
			request := post(statusBody, "Content-Type", form)
			request.ClientIP = netip.MustParseAddr(tc.addr)
			want := accepted(true, true)
			if !tc.want {
				want = missing(verify.ReasonWrongAddress)
			}
			wantVerdict(t, want, verify.Verify(&tenantconfig.Webhooks{AllowedCIDRs: allowed}, request))
		})
	}
	t.Run("none", func(t *testing.T) {
		request := post(statusBody, "Content-Type", form)
		request.ClientIP = netip.Addr{}
		everywhere := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"), {}}
		wantVerdict(
			t,
			missing(verify.ReasonWrongAddress),
			verify.Verify(&tenantconfig.Webhooks{AllowedCIDRs: everywhere}, request),
		)
	})
}
