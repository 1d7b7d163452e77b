package auth_test

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/auth"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

func TestStandardWebhooks(t *testing.T) {
	const good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	wrong := "v1," + base64.StdEncoding.EncodeToString(make([]byte, 32))
	signature := func(s string) func(*tenantconfig.Webhooks, *auth.Request) {
		return func(_ *tenantconfig.Webhooks, r *auth.Request) { r.Header.Set("webhook-signature", s) }
	}
	at := func(d time.Duration) func(*tenantconfig.Webhooks, *auth.Request) {
		return func(_ *tenantconfig.Webhooks, r *auth.Request) { r.Now = time.Unix(1614265330, 0).Add(d) }
	}
	for name, tc := range map[string]struct {
		change func(*tenantconfig.Webhooks, *auth.Request)
		want   auth.Verdict
	}{
		"second of two":          {signature(wrong + " " + good), accepted(false, true)},
		"first of two":           {signature(good + " " + wrong), accepted(false, true)},
		"beside another version": {signature("v1a,AAAA " + good), accepted(false, true)},
		"sixteen":                {signature(strings.Repeat(wrong+" ", 15) + good), accepted(false, true)},
		"seventeen":              {signature(strings.Repeat(wrong+" ", 16) + good), refused(auth.ReasonWrongStandard)},
		"under another version":  {signature("v2" + good[2:]), refused(auth.ReasonWrongStandard)},
		"asymmetric":             {signature("v1a" + good[2:]), refused(auth.ReasonWrongStandard)},
		"without a version":      {signature(good[3:]), refused(auth.ReasonWrongStandard)},
		"without a comma":        {signature("v1" + good[3:]), refused(auth.ReasonWrongStandard)},
		"joined by a comma":      {signature(wrong + "," + good), refused(auth.ReasonWrongStandard)},
		"without padding":        {signature(strings.TrimRight(good, "=")), refused(auth.ReasonWrongStandard)},
		"cut":                    {signature(good[:20]), refused(auth.ReasonWrongStandard)},
		"other bits at its end":  {signature("v1," + otherTail(good[3:])), refused(auth.ReasonWrongStandard)},
		"wrong":                  {signature(wrong), refused(auth.ReasonWrongStandard)},
		"blank":                  {signature(" "), refused(auth.ReasonWrongStandard)},
		"twice the header": {func(_ *tenantconfig.Webhooks, r *auth.Request) { r.Header.Add("webhook-signature", good) },
			refused(auth.ReasonWrongStandard)},
		"no signature":       {func(_ *tenantconfig.Webhooks, r *auth.Request) { r.Header.Del("webhook-signature") }, missing(auth.ReasonWrongStandard)},
		"no id":              {func(_ *tenantconfig.Webhooks, r *auth.Request) { r.Header.Del("webhook-id") }, refused(auth.ReasonWrongStandard)},
		"another id":         {func(_ *tenantconfig.Webhooks, r *auth.Request) { r.Header.Set("webhook-id", "msg_other") }, refused(auth.ReasonWrongStandard)},
		"no timestamp":       {func(_ *tenantconfig.Webhooks, r *auth.Request) { r.Header.Del("webhook-timestamp") }, refused(auth.ReasonBadTimestamp)},
		"another timestamp":  {func(_ *tenantconfig.Webhooks, r *auth.Request) { r.Header.Set("webhook-timestamp", "1614265331") }, refused(auth.ReasonWrongStandard)},
		"none of the three":  {func(_ *tenantconfig.Webhooks, r *auth.Request) { r.Header = http.Header{} }, missing(auth.ReasonMissingStandard)},
		"at the edge":        {at(5 * time.Minute), accepted(false, true)},
		"beyond it":          {at(5*time.Minute + time.Second), refused(auth.ReasonStaleTimestamp)},
		"at the other edge":  {at(-5 * time.Minute), accepted(false, true)},
		"beyond that":        {at(-5*time.Minute - time.Second), refused(auth.ReasonStaleTimestamp)},
		"long ago and wrong": {func(_ *tenantconfig.Webhooks, r *auth.Request) { r.Now, r.Body = time.Now(), nil }, refused(auth.ReasonWrongStandard)},
		"second secret": {func(w *tenantconfig.Webhooks, _ *auth.Request) {
			w.Standard.Secrets = append(sensitive(secondSecret), w.Standard.Secrets...)
		}, accepted(false, true)},
		"another secret": {func(w *tenantconfig.Webhooks, _ *auth.Request) { w.Standard.Secrets = sensitive(secondSecret) }, refused(auth.ReasonWrongStandard)},
		"no secret":      {func(w *tenantconfig.Webhooks, _ *auth.Request) { w.Standard.Secrets = nil }, refused(auth.ReasonWrongStandard)},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, r := standardVector()
			tc.change(cfg, r)
			wantVerdict(t, tc.want, auth.Verify(cfg, r))
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
		want                   auth.Verdict
	}{
		"in the query":             {"", "token=" + escaped, "", accepted(true, true)},
		"as it is":                 {"", "token=" + firstToken, "", accepted(true, true)},
		"among fields":             {"", "CallSid=c1&token=" + escaped + "&Status=completed", "", accepted(true, true)},
		"the second":               {"", "token=" + secondToken, "", accepted(true, true)},
		"in the path":              {"", "", secondToken, accepted(true, true)},
		"in both":                  {"", "token=" + secondToken, secondToken, accepted(true, true)},
		"twice the same":           {"", "token=" + secondToken + "&token=" + secondToken, "", accepted(true, true)},
		"in both, another":         {"", "token=" + escaped, secondToken, refused(auth.ReasonWrongToken)},
		"a wrong one beside it":    {"", "token=" + secondToken + "&token=x", "", refused(auth.ReasonWrongToken)},
		"an empty one beside it":   {"", "token=&token=" + secondToken, "", accepted(true, true)},
		"another parameter":        {"key", "key=" + secondToken, "", accepted(true, true)},
		"under the default's name": {"key", "token=" + secondToken, "", refused(auth.ReasonMissingToken)},
		"in upper case":            {"", "token=" + strings.ToUpper(secondToken), "", refused(auth.ReasonWrongToken)},
		"parameter in upper case":  {"", "TOKEN=" + secondToken, "", refused(auth.ReasonMissingToken)},
		"cut":                      {"", "token=" + secondToken[:15], "", refused(auth.ReasonWrongToken)},
		"with more behind":         {"", "token=" + secondToken + "x", "", refused(auth.ReasonWrongToken)},
		"with a NUL":               {"", "token=" + secondToken + "%00", "", refused(auth.ReasonWrongToken)},
		"with a blank":             {"", "token=%20" + secondToken, "", refused(auth.ReasonWrongToken)},
		"escaped twice":            {"", "token=first-token-of-acme%252Fsupport%252Bx%253D%253D", "", refused(auth.ReasonWrongToken)},
		"broken escape":            {"", "token=%zz", "", refused(auth.ReasonWrongToken)},
		"empty":                    {"", "token=", "", refused(auth.ReasonMissingToken)},
		"none":                     {"", "", "", missing(auth.ReasonMissingToken)},
		"none, fields there":       {"", "CallSid=c1&Status=completed", "", missing(auth.ReasonMissingToken)},
		"the name in a value":      {"", "CallSid=token=" + secondToken, "", missing(auth.ReasonMissingToken)},
		"the digest of it":         {"", "token=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "", refused(auth.ReasonWrongToken)},
		"behind a semicolon":       {"", "a=1;token=" + secondToken, "", missing(auth.ReasonMissingToken)},
		"in the path, a wrong one": {"", "", "x", refused(auth.ReasonWrongToken)},
		"escaped name":             {"", "%74oken=" + secondToken, "", accepted(true, true)},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := &tenantconfig.Webhooks{Token: &tenantconfig.Token{Query: tc.parameter, Secrets: sensitive(firstToken, secondToken)}}
			r := post(statusBody, "Content-Type", form)
			r.URL.RawQuery, r.PathToken = tc.query, tc.path
			wantVerdict(t, tc.want, auth.Verify(cfg, r))
		})
	}
	t.Run("no token is active", func(t *testing.T) {
		cfg := &tenantconfig.Webhooks{Token: &tenantconfig.Token{}}
		for _, token := range []string{"", "x"} {
			r := post(statusBody, "Content-Type", form)
			r.PathToken = token
			if v := auth.Verify(cfg, r); v.OK {
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
		want   auth.Verdict
	}{
		"first user":               {header("exotel:first password"), accepted(true, true)},
		"second user":              {header("relay:second: password"), accepted(true, true)},
		"scheme in lower case":     {[]string{"b" + header("exotel:first password")[0][1:]}, accepted(true, true)},
		"another's password":       {header("exotel:second: password"), refused(auth.ReasonWrongBasicAuth)},
		"wrong password":           {header("exotel:first passwore"), refused(auth.ReasonWrongBasicAuth)},
		"cut password":             {header("exotel:first passwor"), refused(auth.ReasonWrongBasicAuth)},
		"no password":              {header("exotel:"), refused(auth.ReasonWrongBasicAuth)},
		"no colon":                 {header("exotelfirst password"), refused(auth.ReasonWrongBasicAuth)},
		"no user":                  {header(":first password"), refused(auth.ReasonWrongBasicAuth)},
		"the colon moved":          {header("exotel:first: password"), refused(auth.ReasonWrongBasicAuth)},
		"user in upper case":       {header("Exotel:first password"), refused(auth.ReasonWrongBasicAuth)},
		"user with a blank":        {header(" exotel:first password"), refused(auth.ReasonWrongBasicAuth)},
		"with a line break":        {header("exotel:first password\n"), refused(auth.ReasonWrongBasicAuth)},
		"twice":                    {append(header("exotel:first password"), header("exotel:first password")...), refused(auth.ReasonWrongBasicAuth)},
		"bearer":                   {[]string{"Bearer first password"}, refused(auth.ReasonWrongBasicAuth)},
		"plain":                    {[]string{"Basic exotel:first password"}, refused(auth.ReasonWrongBasicAuth)},
		"the scheme alone":         {[]string{"Basic "}, refused(auth.ReasonWrongBasicAuth)},
		"none":                     {nil, missing(auth.ReasonMissingBasicAuth)},
		"an empty one":             {[]string{""}, missing(auth.ReasonMissingBasicAuth)},
		"a name alone, no more":    {header("exotel"), refused(auth.ReasonWrongBasicAuth)},
		"user and password change": {header("first password:exotel"), refused(auth.ReasonWrongBasicAuth)},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := &tenantconfig.Webhooks{Basic: &tenantconfig.BasicAuth{Users: []tenantconfig.User{{Name: "exotel", Password: "first password"},
				{Name: "relay", Password: "second: password"}}}}
			r := post(statusBody, "Content-Type", form)
			r.Header["Authorization"] = tc.values
			wantVerdict(t, tc.want, auth.Verify(cfg, r))
			cfg.Basic.Users = nil
			if auth.Verify(cfg, r).OK {
				t.Error("without any user it got through")
			}
		})
	}
}

func TestAddress(t *testing.T) {
	allowed := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("198.51.100.7/32"), netip.MustParsePrefix("2001:db8::/32")}
	for name, tc := range map[string]struct {
		addr string
		want bool
	}{
		"in the first":       {"203.0.113.255", true},
		"in the second":      {"198.51.100.7", true},
		"v6":                 {"2001:db8:1::1", true},
		"v4 in v6":           {"::ffff:203.0.113.1", true},
		"beside the first":   {"203.0.114.0", false},
		"beside the second":  {"198.51.100.6", false},
		"another v6":         {"2001:db9::1", false},
		"v4 as v6 with zero": {"::203.0.113.1", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := post(statusBody, "Content-Type", form)
			r.ClientIP = netip.MustParseAddr(tc.addr)
			want := accepted(true, true)
			if !tc.want {
				want = missing(auth.ReasonWrongAddress)
			}
			wantVerdict(t, want, auth.Verify(&tenantconfig.Webhooks{AllowedCIDRs: allowed}, r))
		})
	}
	t.Run("none", func(t *testing.T) {
		r := post(statusBody, "Content-Type", form)
		r.ClientIP = netip.Addr{}
		everywhere := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"), {}}
		wantVerdict(t, missing(auth.ReasonWrongAddress), auth.Verify(&tenantconfig.Webhooks{AllowedCIDRs: everywhere}, r))
	})
}
