package v1alpha1_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

func TestAuthDefaults(t *testing.T) {
	ns := kubetest.Get(t).NewNamespace(t)
	for name, tc := range map[string]struct{ set, want fields }{
		"no accounts": {nil, fields{"spec.auth": nil}},
		"accounts": {fields{"spec.auth": map[string]any{}}, fields{
			"spec.auth.registration":        "Closed",
			"spec.auth.accessTokenLifetime": "15m",
			"spec.auth.sessionLifetime":     "720h",
			"spec.auth.allowedEmailDomains": nil,
			"spec.auth.hosts":               nil,
			"spec.auth.allowedOrigins":      nil,
			"spec.auth.limits":              nil,
		}},
		"what is set stays": {
			fields{"spec.auth": map[string]any{
				"registration":        "Open",
				"accessTokenLifetime": "1m",
				"limits":              map[string]any{"login": limit(3, "1m")},
			}},
			fields{
				"spec.auth.registration":          "Open",
				"spec.auth.accessTokenLifetime":   "1m",
				"spec.auth.limits.login.requests": int64(3),
				"spec.auth.limits.login.window":   "1m",
				"spec.auth.limits.api":            nil,
			}},
	} {
		t.Run(name, func(t *testing.T) {
			obj := object(t, ns, minimalTenant, tc.set)
			if err := create(t, obj); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, read(obj, tc.want)); diff != "" {
				t.Errorf("fields as the server keeps them (-want +got):\n%s", diff)
			}
		})
	}
}

func limit(requests int64, window string) map[string]any {
	return map[string]any{"requests": requests, "window": window}
}

// TestAuthRules breaks one rule at a time, on either side of each bound.
func TestAuthRules(t *testing.T) {
	ns := kubetest.Get(t).NewNamespace(t)
	all := map[string]ruleCase{}
	for _, table := range []map[string]ruleCase{authRules(), originRules(), limitRules(),
		durationRules("spec.auth.accessTokenLifetime", "1m", "59s", "1h", "1h1s",
			"auth.accessTokenLifetime must be between 1m and 1h"),
		durationRules("spec.auth.sessionLifetime", "1h", "59m59s", "2160h", "2160h1s",
			"auth.sessionLifetime must be between 1h and 2160h"),
	} {
		maps.Copy(all, table)
	}
	delete(all, "spec.auth.accessTokenLifetime: several units") // an hour and a half is too long for it
	for name, tc := range all {
		t.Run(name, func(t *testing.T) { tc.want.check(t, create(t, object(t, ns, minimalTenant, tc.set))) })
	}
}

func authRules() map[string]ruleCase {
	ok := refusal{}
	const hosts, domains = "spec.auth.hosts", "spec.auth.allowedEmailDomains"
	wantHost := refusal{hosts + "[0]", "auth.hosts are names such as voice.acme.example"}
	wantDomain := refusal{domains + "[0]", "auth.allowedEmailDomains are domains such as acme.example"}
	return map[string]ruleCase{
		"unknown registration": {
			fields{"spec.auth.registration": "Invited"},
			refusal{"spec.auth.registration", `"Open", "Closed"`},
		},
		"hosts":                   {fields{hosts: []any{"voice.acme.example", "localhost"}}, ok},
		"host with a port":        {fields{hosts: []any{"voice.acme.example:443"}}, wantHost},
		"host in capitals":        {fields{hosts: []any{"Voice.acme.example"}}, wantHost},
		"host with its full stop": {fields{hosts: []any{"voice.acme.example."}}, wantHost},
		"host, a wildcard":        {fields{hosts: []any{"*.acme.example"}}, wantHost},
		"host, a URL":             {fields{hosts: []any{"https://voice.acme.example"}}, wantHost},
		"host, an empty one":      {fields{hosts: []any{""}}, refusal{hosts + "[0]", "at least 1"}},
		"host, much too long":     {fields{hosts: []any{strings.Repeat("a", 254)}}, refusal{hosts + "[0]", "253"}},
		"auth's host twice": {
			fields{hosts: []any{"a.example", "a.example"}},
			refusal{hosts + "[1]", "Duplicate value"},
		},
		"no hosts":                   {fields{hosts: []any{}}, refusal{hosts, "at least 1"}},
		"as many of hosts as may be": {fields{hosts: sourceHosts(16)}, ok},
		"more of hosts than may be":  {fields{hosts: sourceHosts(17)}, refusal{hosts, "16"}},
		"domains":                    {fields{domains: []any{"acme.example", "globex.co.in"}}, ok},
		"domain with an @":           {fields{domains: []any{"@acme.example"}}, wantDomain},
		"domain, an address":         {fields{domains: []any{"a@acme.example"}}, wantDomain},
		"domain in capitals":         {fields{domains: []any{"ACME.example"}}, wantDomain},
		"domain, a wildcard":         {fields{domains: []any{"*.acme.example"}}, wantDomain},
		"domain, much too long": {
			fields{domains: []any{strings.Repeat("a", 254)}},
			refusal{domains + "[0]", "253"},
		},
		"domain twice": {
			fields{domains: []any{"a.example", "a.example"}},
			refusal{domains + "[1]", "Duplicate value"},
		},
		"no domains":                   {fields{domains: []any{}}, refusal{domains, "at least 1"}},
		"as many of domains as may be": {fields{domains: sourceHosts(64)}, ok},
		"more of domains than may be":  {fields{domains: sourceHosts(65)}, refusal{domains, "64"}},
	}
}

func originRules() map[string]ruleCase {
	const field = "spec.auth.allowedOrigins"
	want := refusal{field + "[0]", "auth.allowedOrigins are written as browsers send them"}
	many := func(n int) (list []any) {
		for i := range n {
			list = append(list, fmt.Sprintf("https://h%d.example", i))
		}
		return list
	}
	rules := map[string]ruleCase{
		"origins": {
			fields{
				field: []any{
					"https://desk.acme.example",
					"https://desk.acme.example:8443",
					"http://localhost:5173",
					"http://localhost",
				},
			},
			refusal{},
		},
		"origin, an empty one": {fields{field: []any{""}}, refusal{field + "[0]", "at least 1"}},
		"origin, too long": {
			fields{field: []any{"https://" + strings.Repeat("a", 300)}},
			refusal{field + "[0]", "272"},
		},
		"origin twice": {
			fields{field: []any{"https://a.example", "https://a.example"}},
			refusal{field + "[1]", "Duplicate value"},
		},
		"no origins":             {fields{field: []any{}}, refusal{field, "at least 1"}},
		"as many origins as is":  {fields{field: many(32)}, refusal{}},
		"more origins than is":   {fields{field: many(33)}, refusal{field, "32"}},
		"origin, a longest host": {fields{field: []any{"https://" + strings.Repeat("a", 253) + ":8443"}}, refusal{}},
	}
	for _, bad := range []string{"*", "null", "desk.acme.example", "http://desk.acme.example",
		"https://desk.acme.example/", "https://Desk.acme.example",
		"https://desk.acme.example:443", "http://localhost:80", "https://desk.acme.example:",
		"https://desk.acme.example:0443", "https://*.acme.example",
		"https://a@desk.acme.example", "https://desk.acme.example?a", "http://localhost.evil.example",
		"http://localhost@evil.example",
		"https://desk.acme.example.", "https://desk.acme.example\n"} {
		rules["origin "+bad] = ruleCase{fields{field: []any{bad}}, want}
	}
	return rules
}

func limitRules() map[string]ruleCase {
	const field = "spec.auth.limits"
	rules := map[string]ruleCase{
		"limits of nothing": {fields{field: map[string]any{}}, refusal{field, "at least 1"}},
		"a limit's requests": {
			fields{field + ".login": map[string]any{"window": "1m"}},
			refusal{field + ".login.requests", "Required value"},
		},
		"a limit's window": {
			fields{field + ".login": map[string]any{"requests": int64(1)}},
			refusal{field + ".login.window", "Required value"},
		},
		"a limit of no requests": {
			fields{field + ".login": limit(0, "1m")},
			refusal{field + ".login.requests", "greater than or equal to 1"},
		},
		"a limit of most": {fields{field + ".login": limit(1000, "24h")}, refusal{}},
		"a limit of more": {
			fields{field + ".login": limit(1001, "1m")},
			refusal{field + ".login.requests", "less than or equal to 1000"},
		},
		"a limit's least window": {fields{field + ".login": limit(1, "1s")}, refusal{}},
	}
	// Each is there, and held to its bounds.
	for _, name := range []string{
		"login", "loginFailures", "register", "verify", "resend", "forgot", "reset", "refresh", "api",
	} {
		bad := refusal{field + "." + name + ".window", "a limit's window must be between 1s and 24h"}
		rules[name] = ruleCase{fields{field + "." + name: limit(7, "2m")}, refusal{}}
		for _, window := range []string{"999ms", "0s", "24h1s", "soon", ""} {
			rules[name+" in "+window] = ruleCase{fields{field + "." + name: limit(7, window)}, bad}
		}
	}
	return rules
}
