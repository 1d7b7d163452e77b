package v1alpha1_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

// secretRef returns a verifier with its Secret and the other fields that are given in pairs.
func secretRef(more ...any) map[string]any {
	m := map[string]any{"secretRef": map[string]any{"name": "acme-verifier"}}
	for i := 0; i < len(more); i += 2 {
		m[more[i].(string)] = more[i+1]
	}
	return m
}

func TestWebhookDefaults(t *testing.T) {
	ns := kubetest.Get(t).NewNamespace(t)
	for name, tc := range map[string]struct{ set, want fields }{
		"minimal": {nil, fields{
			"spec.webhooks.require":                 "Any",
			"spec.webhooks.freshness":               "72h",
			"spec.webhooks.token":                   nil,
			"spec.webhooks.basicAuth":               nil,
			"spec.webhooks.standardWebhooks":        nil,
			"spec.webhooks.allowedCIDRs":            nil,
			"spec.webhooks.signature.scheme":        "HMACSHA1",
			"spec.webhooks.signature.encoding":      "Any",
			"spec.webhooks.signature.header":        "X-Exotel-Signature",
			"spec.webhooks.signature.signedContent": "Body",
			"spec.webhooks.signature.prefix":        nil,
			"spec.webhooks.signature.timestamp":     nil,
		}},
		"every verifier": {
			fields{"spec.webhooks": map[string]any{
				"token":            secretRef(),
				"basicAuth":        secretRef(),
				"standardWebhooks": secretRef(),
				"signature":        secretRef("signedContent", "TimestampAndBody", "timestamp", map[string]any{"header": "X-Time"}),
				"allowedCIDRs":     []any{"203.0.113.0/24"},
				"require":          "All",
			}},
			fields{
				"spec.webhooks.require":                       "All",
				"spec.webhooks.token.query":                   "token",
				"spec.webhooks.standardWebhooks.tolerance":    "5m",
				"spec.webhooks.signature.timestamp.tolerance": "5m",
				"spec.webhooks.signature.signedContent":       "TimestampAndBody",
			}},
		"what is set stays": {
			fields{
				"spec.webhooks.require":   "All",
				"spec.webhooks.freshness": "5m",
				"spec.webhooks.signature": secretRef("scheme", "HMACSHA256",
					"encoding", "Hex", "header", "X-Relay-Mac", "prefix", "v1=", "signedContent", "URLAndParameters"),
			},
			fields{
				"spec.webhooks.require":                 "All",
				"spec.webhooks.freshness":               "5m",
				"spec.webhooks.signature.scheme":        "HMACSHA256",
				"spec.webhooks.signature.encoding":      "Hex",
				"spec.webhooks.signature.header":        "X-Relay-Mac",
				"spec.webhooks.signature.prefix":        "v1=",
				"spec.webhooks.signature.signedContent": "URLAndParameters",
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

func webhooksRules() map[string]ruleCase {
	ok := refusal{}
	noVerifier := refusal{"spec.webhooks", "webhooks needs a verifier: set one or more of webhooks.token"}
	verifiers := func(more ...any) fields {
		w := map[string]any{}
		for i := 0; i < len(more); i += 2 {
			w[more[i].(string)] = more[i+1]
		}
		return fields{"spec.webhooks": w}
	}
	const query, tolerance = "spec.webhooks.token.query", "spec.webhooks.standardWebhooks.tolerance"
	wantTolerance := refusal{tolerance, "webhooks.standardWebhooks.tolerance must be between 10s and 24h"}
	return map[string]ruleCase{
		"no verifier":              {verifiers(), noVerifier},
		"no verifier, but a bound": {verifiers("require", "All", "freshness", "1h"), noVerifier},
		"a token alone":            {verifiers("token", secretRef()), ok},
		"basicAuth alone":          {verifiers("basicAuth", secretRef()), ok},
		"standardWebhooks alone":   {verifiers("standardWebhooks", secretRef()), ok},
		"ranges alone":             {verifiers("allowedCIDRs", []any{"203.0.113.0/24"}), ok},
		"no ranges": {
			verifiers("allowedCIDRs", []any{}),
			refusal{"spec.webhooks.allowedCIDRs", "at least 1"},
		},
		"unknown requirement": {
			fields{"spec.webhooks.require": "Some"},
			refusal{"spec.webhooks.require", `"Any", "All"`},
		},
		"a token without its Secret": {
			verifiers("token", map[string]any{}),
			refusal{"spec.webhooks.token.secretRef", "Required value"},
		},
		"users without their Secret": {
			verifiers("basicAuth", map[string]any{}),
			refusal{"spec.webhooks.basicAuth.secretRef", "Required value"},
		},
		"standard without its Secret": {
			verifiers("standardWebhooks", map[string]any{}),
			refusal{"spec.webhooks.standardWebhooks.secretRef", "Required value"},
		},
		"token's parameter":        {verifiers("token", secretRef("query", "auth_token")), ok},
		"token's parameter, empty": {verifiers("token", secretRef("query", "")), refusal{query, "at least 1"}},
		"token's parameter, a blank": {
			verifiers("token", secretRef("query", "a b")),
			refusal{query, "should match"},
		},
		"token's parameter, an escape": {
			verifiers("token", secretRef("query", "%74oken")),
			refusal{query, "should match"},
		},
		"token's parameter, two": {
			verifiers("token", secretRef("query", "a&b")),
			refusal{query, "should match"},
		},
		"token's parameter, too long": {
			verifiers("token", secretRef("query", strings.Repeat("a", 65))),
			refusal{query, "64"},
		},
		"standard's tolerance, least": {verifiers("standardWebhooks", secretRef("tolerance", "10s")), ok},
		"standard's tolerance, none":  {verifiers("standardWebhooks", secretRef("tolerance", "0s")), wantTolerance},
		"standard's tolerance, less":  {verifiers("standardWebhooks", secretRef("tolerance", "9s")), wantTolerance},
		"standard's tolerance, most":  {verifiers("standardWebhooks", secretRef("tolerance", "24h")), ok},
		"standard's tolerance, more": {
			verifiers("standardWebhooks", secretRef("tolerance", "24h1s")),
			wantTolerance,
		},
		"standard's tolerance, no time": {verifiers("standardWebhooks", secretRef("tolerance", "soon")), wantTolerance},
		"freshness of nothing": {
			fields{"spec.webhooks.freshness": "0s"},
			refusal{"spec.webhooks.freshness", "webhooks.freshness must be between"},
		},
	}
}

func signatureRules() map[string]ruleCase {
	ok := refusal{}
	const sig = "spec.webhooks.signature"
	timed := func(timestamp map[string]any) fields {
		return fields{sig: secretRef("signedContent", "TimestampAndBody", "timestamp", timestamp)}
	}
	both := refusal{sig, "webhooks.signature.timestamp goes with signedContent: TimestampAndBody: set both or neither"}
	wantTolerance := refusal{
		sig + ".timestamp.tolerance",
		"webhooks.signature.timestamp.tolerance must be between 10s and 24h",
	}
	return map[string]ruleCase{
		"no signing secret": {fields{sig: map[string]any{}}, refusal{sig + ".secretRef", "Required value"}},
		"SHA-256":           {fields{sig + ".scheme": "HMACSHA256"}, ok},
		"unknown scheme": {
			fields{sig + ".scheme": "MD5"},
			refusal{sig + ".scheme", `"HMACSHA1", "HMACSHA256"`},
		},
		"hex":    {fields{sig + ".encoding": "Hex"}, ok},
		"base64": {fields{sig + ".encoding": "Base64"}, ok},
		"unknown encoding": {
			fields{sig + ".encoding": "Base32"},
			refusal{sig + ".encoding", `"Any", "Hex", "Base64"`},
		},
		"header":                       {fields{sig + ".header": "x-relay-mac-2"}, ok},
		"header, empty":                {fields{sig + ".header": ""}, refusal{sig + ".header", "at least 1"}},
		"header with a colon":          {fields{sig + ".header": "X-Sig:"}, refusal{sig + ".header", "should match"}},
		"header with a line break":     {fields{sig + ".header": "X-Sig\n"}, refusal{sig + ".header", "should match"}},
		"header beginning with a dash": {fields{sig + ".header": "-x"}, refusal{sig + ".header", "should match"}},
		"header much too long": {
			fields{sig + ".header": strings.Repeat("a", 65)},
			refusal{sig + ".header", "64"},
		},
		"prefix":              {fields{sig + ".prefix": "sha1="}, ok},
		"prefix, empty":       {fields{sig + ".prefix": ""}, refusal{sig + ".prefix", "at least 1"}},
		"prefix with a blank": {fields{sig + ".prefix": "v1 "}, refusal{sig + ".prefix", "should match"}},
		"prefix much too long": {
			fields{sig + ".prefix": strings.Repeat("a", 33)},
			refusal{sig + ".prefix", "32"},
		},
		"URL and parameters": {fields{sig + ".signedContent": "URLAndParameters"}, ok},
		"unknown content": {
			fields{sig + ".signedContent": "Headers"},
			refusal{sig + ".signedContent", `"Body", "URLAndParameters", "TimestampAndBody"`},
		},
		"timestamp":                   {timed(map[string]any{"header": "X-Time"}), ok},
		"content without a timestamp": {fields{sig + ".signedContent": "TimestampAndBody"}, both},
		"timestamp without content":   {fields{sig + ".timestamp": map[string]any{"header": "X-Time"}}, both},
		"timestamp, no header": {
			timed(map[string]any{"tolerance": "1m"}),
			refusal{sig + ".timestamp.header", "Required value"},
		},
		"timestamp, header empty": {
			timed(map[string]any{"header": ""}),
			refusal{sig + ".timestamp.header", "at least 1"},
		},
		"timestamp, header too long": {
			timed(map[string]any{"header": strings.Repeat("a", 65)}),
			refusal{sig + ".timestamp.header", "64"},
		},
		"timestamp, header of blanks": {
			timed(map[string]any{"header": "a b"}),
			refusal{sig + ".timestamp.header", "should match"},
		},
		"timestamp, least tolerance": {timed(map[string]any{"header": "X-Time", "tolerance": "10s"}), ok},
		"timestamp, less tolerance":  {timed(map[string]any{"header": "X-Time", "tolerance": "9s"}), wantTolerance},
		"timestamp, no tolerance":    {timed(map[string]any{"header": "X-Time", "tolerance": "0s"}), wantTolerance},
		"timestamp, most tolerance":  {timed(map[string]any{"header": "X-Time", "tolerance": "24h"}), ok},
		"timestamp, more tolerance":  {timed(map[string]any{"header": "X-Time", "tolerance": "25h"}), wantTolerance},
	}
}

func cidrRules() map[string]ruleCase {
	const field = "spec.webhooks.allowedCIDRs"
	ranges := func(list ...any) fields { return fields{field: list} }
	want := refusal{field + "[0]", "webhooks.allowedCIDRs are ranges such as 203.0.113.0/24 or 2001:db8::/32"}
	many := func(n int) (list []any) {
		for i := range n {
			list = append(list, fmt.Sprintf("10.%d.0.0/16", i))
		}
		return list
	}
	return map[string]ruleCase{
		"ranges": {
			ranges("203.0.113.0/24", "198.51.100.7/32", "2001:db8::/32", "10.0.0.0/8"),
			refusal{},
		},
		"range, an address":            {ranges("203.0.113.7"), want},
		"range, bits behind the slash": {ranges("203.0.113.7/24"), want},
		"range of v6, bits behind it":  {ranges("2001:db8::1/32"), want},
		"range, all of v4":             {ranges("0.0.0.0/0"), want},
		"range, all of v6":             {ranges("::/0"), want},
		"range, half of all":           {ranges("128.0.0.0/1"), want},
		"range, v4 in v6":              {ranges("::ffff:203.0.113.0/120"), want},
		"range, a name":                {ranges("exotel.com"), want},
		"range, an empty one":          {ranges(""), refusal{field + "[0]", "at least 1"}},
		"range, much too long":         {ranges(strings.Repeat("1", 44)), refusal{field + "[0]", "43"}},
		"range twice": {
			ranges("203.0.113.0/24", "203.0.113.0/24"),
			refusal{field + "[1]", "Duplicate value"},
		},
		"as many ranges as may be": {ranges(many(64)...), refusal{}},
		"more ranges than may be":  {ranges(many(65)...), refusal{field, "64"}},
	}
}
