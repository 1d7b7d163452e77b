package v1alpha1_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

const minimalTenant = `
apiVersion: voice.caly.dev/v1alpha1
kind: Tenant
metadata: {name: support}
spec:
  exotel:
    accountSID: acme1
    credentialsSecretRef: {name: acme-exotel}
  webhooks:
    signature:
      secretRef: {name: acme-webhook}
  recordings:
    bucket: acme-recordings
    endpoint: https://s3.ap-southeast-1.wasabisys.com
    region: ap-southeast-1
    credentialsSecretRef: {name: acme-wasabi}
`

func TestTenantDefaults(t *testing.T) {
	ns := kubetest.Get(t).NewNamespace(t)
	for name, tc := range map[string]struct{ set, want fields }{
		"minimal": {nil, fields{
			"spec.suspend":                       nil,
			"spec.audio":                         nil,
			"spec.exotel.backfill":               nil,
			"spec.exotel.region":                 nil,
			"spec.deletionPolicy":                "Retain",
			"spec.exotel.timeZone":               "Asia/Kolkata",
			"spec.recordings.keyTemplate":        "{{.CallSID}}-{{.RecordingID}}",
			"spec.recordings.maxParallelism":     int64(4),
			"spec.recordings.resources":          "All",
			"spec.recordings.ttlAfterFinished":   "1h",
			"spec.recordings.allowedSourceHosts": nil,
		}},
		"backfill": {fields{"spec.exotel.backfill": map[string]any{}},
			fields{"spec.exotel.backfill.interval": "15m", "spec.exotel.backfill.lookback": "24h"}},
		"audio": {fields{"spec.audio.agentURL": "wss://bot.acme.example/stream"}, fields{"spec.audio.maxStreams": int64(200)}},
		"what is set stays": {
			fields{
				"spec.deletionPolicy":              "Delete",
				"spec.recordings.maxParallelism":   int64(1),
				"spec.recordings.ttlAfterFinished": "0s",
			},
			fields{
				"spec.deletionPolicy":              "Delete",
				"spec.recordings.maxParallelism":   int64(1),
				"spec.recordings.ttlAfterFinished": "0s",
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

// TestTenantRules breaks one rule at a time, on either side of each bound.
func TestTenantRules(t *testing.T) {
	ns := kubetest.Get(t).NewNamespace(t)
	ok := refusal{}
	tables := []map[string]ruleCase{
		identityRules(),
		tenantRules(),
		exotelRules(),
		recordingsRules(),
		webhooksRules(),
		signatureRules(),
		cidrRules(),
		secretNameRules("spec.exotel.credentialsSecretRef"),
		secretNameRules("spec.webhooks.signature.secretRef"),
		secretNameRules("spec.recordings.credentialsSecretRef"),
		secretNameRules("spec.webhooks.token.secretRef"),
		secretNameRules("spec.webhooks.basicAuth.secretRef"),
		secretNameRules("spec.webhooks.standardWebhooks.secretRef"),
		durationRules(
			"spec.webhooks.freshness",
			"5m",
			"4m59s",
			"720h",
			"720h1s",
			"webhooks.freshness must be between 5m and 720h",
		),
		durationRules(
			"spec.exotel.backfill.interval",
			"1m",
			"59s",
			"24h",
			"24h1s",
			"exotel.backfill.interval must be between 1m and 24h",
		),
		durationRules(
			"spec.exotel.backfill.lookback",
			"5m",
			"4m59s",
			"720h",
			"720h1s",
			"exotel.backfill.lookback must be between 5m and 720h",
		),
		durationRules(
			"spec.recordings.ttlAfterFinished",
			"0s",
			"-1s",
			"168h",
			"168h1s",
			"recordings.ttlAfterFinished must be between 0s and 168h",
		),
	}
	all := map[string]ruleCase{"minimal": {nil, ok}}
	for _, table := range tables {
		maps.Copy(all, table)
	}
	for name, tc := range all {
		t.Run(name, func(t *testing.T) { tc.want.check(t, create(t, object(t, ns, minimalTenant, tc.set))) })
	}
}

type ruleCase struct {
	set  fields
	want refusal
}

func tenantRules() map[string]ruleCase {
	ok := refusal{}
	return map[string]ruleCase{
		"name as long as may be": {fields{"metadata.name": strings.Repeat("a", 40)}, ok},
		"name too long": {
			fields{"metadata.name": strings.Repeat("a", 41)},
			refusal{"<nil>", "metadata.name of a Tenant must be at most 40 characters"},
		},
		"no exotel":     {fields{"spec.exotel": nil}, refusal{"spec.exotel", "Required value"}},
		"no recordings": {fields{"spec.recordings": nil}, refusal{"spec.recordings", "Required value"}},
		"no webhooks":   {fields{"spec.webhooks": nil}, refusal{"spec.webhooks", "Required value"}},
		"unknown deletion policy": {
			fields{"spec.deletionPolicy": "Keep"},
			refusal{"spec.deletionPolicy", `"Retain", "Delete"`},
		},
		"audio without an agent": {
			fields{"spec.audio.maxStreams": int64(1)},
			refusal{"spec.audio.agentURL", "Required value"},
		},
		"capture": {fields{
			"spec.audio.agentURL":        "wss://bot.acme.example",
			"spec.audio.capture.enabled": true,
		}, ok},
		"capture of nothing": {fields{
			"spec.audio.agentURL": "wss://bot.acme.example",
			"spec.audio.capture":  map[string]any{},
		}, refusal{"spec.audio.capture.enabled", "Required value"}},
		"agent over plain ws": {fields{"spec.audio.agentURL": "ws://bot.acme.example"}, ok},
		"agent over http": {
			fields{"spec.audio.agentURL": "https://bot.acme.example"},
			refusal{"spec.audio.agentURL", "audio.agentURL must be an absolute ws(s) URL"},
		},
		"agent without a host": {
			fields{"spec.audio.agentURL": "wss:///stream"},
			refusal{"spec.audio.agentURL", "such as wss://bot.acme.example/stream"},
		},
		"an invalid URL of an agent": {
			fields{"spec.audio.agentURL": "bot"},
			refusal{"spec.audio.agentURL", "audio.agentURL must be an absolute ws(s) URL"},
		},
		"agent's URL with credentials": {
			fields{"spec.audio.agentURL": "wss://key:token@bot.acme.example"},
			refusal{"spec.audio.agentURL", "audio.agentURL must not carry credentials"},
		},
		"agent's URL empty": {
			fields{"spec.audio.agentURL": ""},
			refusal{"spec.audio.agentURL", "at least 1"},
		},
		"agent's URL much too long": {
			fields{"spec.audio.agentURL": "wss://h/" + strings.Repeat("a", 2048)},
			refusal{"spec.audio.agentURL", "2048"},
		},
		"agent's CA": {fields{"spec.audio": map[string]any{
			"agentURL":    "wss://bot.acme.example",
			"caSecretRef": map[string]any{"name": "ca"},
		}}, ok},
		"agent's CA over plain ws": {fields{"spec.audio": map[string]any{
			"agentURL":    "ws://bot.acme.example",
			"caSecretRef": map[string]any{"name": "ca"},
		}},
			refusal{"spec.audio", "audio.caSecretRef is for an agent whose audio.agentURL is a wss URL"}},
		"unknown agent's protocol": {fields{"spec.audio": map[string]any{
			"agentURL": "wss://bot.acme.example",
			"protocol": "sip",
		}}, refusal{"spec.audio.protocol", `"exotel", "twilio", "pcm"`}},
		"audio verified by nothing": {
			audioVerification(map[string]any{"require": "All"}),
			refusal{"spec.audio.verification", "needs one or more of tokenSecretRef"},
		},
		"audio without one-time token": {
			audioVerification(map[string]any{"oneTimeToken": false}),
			refusal{"spec.audio.verification", "needs one or more of tokenSecretRef"},
		},
		"audio with one-time token": {audioVerification(map[string]any{"oneTimeToken": true}), ok},
		"audio from everywhere": {
			audioVerification(map[string]any{"allowedCIDRs": []any{"0.0.0.0/0"}}),
			refusal{"spec.audio.verification.allowedCIDRs[0]", "/8 at the widest"},
		},
		"most audio streams": {audio(100000), ok},
		"no audio streams":   {audio(0), refusal{"spec.audio.maxStreams", "greater than or equal to 1"}},
		"more audio streams than is so": {
			audio(100001),
			refusal{"spec.audio.maxStreams", "less than or equal to 100000"},
		},
	}
}

func audio(streams int64) fields {
	return fields{"spec.audio": map[string]any{"agentURL": "wss://bot.acme.example", "maxStreams": streams}}
}

func audioVerification(v map[string]any) fields {
	return fields{"spec.audio": map[string]any{"agentURL": "wss://bot.acme.example", "verification": v}}
}

func exotelRules() map[string]ruleCase {
	ok := refusal{}
	const base, numbers = "spec.exotel.apiBaseURL", "spec.exotel.phoneNumbers"
	wantURL := refusal{base, "exotel.apiBaseURL must be an absolute http(s) URL"}
	return map[string]ruleCase{
		"no account": {
			fields{"spec.exotel.accountSID": nil},
			refusal{"spec.exotel.accountSID", "Required value"},
		},
		"empty account": {
			fields{"spec.exotel.accountSID": ""},
			refusal{"spec.exotel.accountSID", "at least 1"},
		},
		"account with a slash": {
			fields{"spec.exotel.accountSID": "a/b"},
			refusal{"spec.exotel.accountSID", "should match"},
		},
		"account much too long": {
			fields{"spec.exotel.accountSID": strings.Repeat("a", 65)},
			refusal{"spec.exotel.accountSID", "64"},
		},
		"no Exotel credentials": {
			fields{"spec.exotel.credentialsSecretRef": nil},
			refusal{"spec.exotel.credentialsSecretRef", "Required value"},
		},
		"region":         {fields{"spec.exotel.region": "sg"}, ok},
		"unknown region": {fields{"spec.exotel.region": "us"}, refusal{"spec.exotel.region", `"in", "sg"`}},
		"base URL":       {fields{base: "http://simulator.test:8080"}, ok},
		"base URL and region": {fields{
			base:                 "https://api.exotel.com",
			"spec.exotel.region": "sg",
		}, refusal{"spec.exotel", "set exotel.region or exotel.apiBaseURL, not both"}},
		"base URL of another scheme": {fields{base: "ftp://api.exotel.com"}, wantURL},
		"base URL without a scheme":  {fields{base: "api.exotel.com"}, wantURL},
		"base URL without a host":    {fields{base: "https:///v1"}, wantURL},
		"base URL with credentials": {
			fields{base: "https://key:token@api.exotel.com"},
			refusal{base, "exotel.apiBaseURL must not carry credentials"},
		},
		"base URL much too long": {
			fields{base: "https://h/" + strings.Repeat("a", 2048)},
			refusal{base, "2048"},
		},
		"phone numbers": {fields{numbers: []any{"+918047491899", "+6531290000"}}, ok},
		"phone number without a plus": {
			fields{numbers: []any{"918047491899"}},
			refusal{numbers + "[0]", "should match"},
		},
		"phone number with a blank": {
			fields{numbers: []any{"+91 8047491899"}},
			refusal{numbers + "[0]", "should match"},
		},
		"phone number much too long": {fields{numbers: []any{"+9180474918990000"}}, refusal{numbers + "[0]", "16"}},
		"phone number twice": {
			fields{numbers: []any{"+918047491899", "+918047491899"}},
			refusal{numbers + "[1]", "Duplicate value"},
		},
		"empty list of phone numbers":   {fields{numbers: []any{}}, refusal{numbers, "at least 1"}},
		"as many numbers as may be":     {fields{numbers: phoneNumbers(256)}, ok},
		"more phone numbers than is so": {fields{numbers: phoneNumbers(257)}, refusal{numbers, "256"}},
		"empty time zone": {
			fields{"spec.exotel.timeZone": ""},
			refusal{"spec.exotel.timeZone", "at least 1"},
		},
		"time zone much too long": {
			fields{"spec.exotel.timeZone": strings.Repeat("a", 65)},
			refusal{"spec.exotel.timeZone", "64"},
		},
	}
}

func phoneNumbers(n int) []any {
	list := make([]any, n)
	for i := range list {
		list[i] = fmt.Sprintf("+9180%08d", i)
	}
	return list
}

func recordingsRules() map[string]ruleCase {
	ok := refusal{}
	const bucket, endpoint, hosts = "spec.recordings.bucket", "spec.recordings.endpoint", "spec.recordings.allowedSourceHosts"
	const template, pods = "spec.recordings.keyTemplate", "spec.recordings.maxParallelism"
	const public = "spec.recordings.publicEndpoint"
	wantPublic := refusal{public, "should match"}
	wantURL := refusal{
		endpoint,
		"recordings.endpoint must be an http(s) URL of a host without a path, such as https://s3.ap-southeast-1.wasabisys.com",
	}
	wantID := refusal{
		template,
		"recordings.keyTemplate must contain {{.RecordingID}}: one call may have several recordings",
	}
	return map[string]ruleCase{
		"no bucket":                  {fields{bucket: nil}, refusal{bucket, "Required value"}},
		"bucket of two letters":      {fields{bucket: "ab"}, refusal{bucket, "at least 3"}},
		"bucket in upper case":       {fields{bucket: "Recordings"}, refusal{bucket, "should match"}},
		"bucket with a slash":        {fields{bucket: "a/b"}, refusal{bucket, "should match"}},
		"bucket much too long":       {fields{bucket: strings.Repeat("a", 64)}, refusal{bucket, "63"}},
		"no endpoint":                {fields{endpoint: nil}, refusal{endpoint, "Required value"}},
		"endpoint with a slash":      {fields{endpoint: "http://s3.test:9000/"}, ok},
		"endpoint with a path":       {fields{endpoint: "https://s3.test/bucket"}, wantURL},
		"endpoint without a scheme":  {fields{endpoint: "s3.test"}, wantURL},
		"endpoint of another scheme": {fields{endpoint: "s3://s3.test"}, wantURL},
		"endpoint without a host":    {fields{endpoint: "https://"}, wantURL},
		"endpoint with credentials": {
			fields{endpoint: "https://key:secret@s3.test"},
			refusal{endpoint, "recordings.endpoint must not carry credentials"},
		},
		"endpoint much too long": {
			fields{endpoint: "https://" + strings.Repeat("a", 2048)},
			refusal{endpoint, "2048"},
		},
		"public endpoint":             {fields{public: "https://media.example.com:8443/"}, ok},
		"public endpoint of an IPv6":  {fields{public: "https://[2001:db8::1]:9000"}, ok},
		"public endpoint of no port":  {fields{public: "https://media.example.com:s3"}, wantPublic},
		"public endpoint of no host":  {fields{public: "https://:9000"}, wantPublic},
		"public endpoint of dashes":   {fields{public: "https://[-]"}, wantPublic},
		"public endpoint with a path": {fields{public: "https://media.example.com/x"}, wantPublic},
		"no bucket region": {
			fields{"spec.recordings.region": nil},
			refusal{"spec.recordings.region", "Required value"},
		},
		"bucket region in upper case": {
			fields{"spec.recordings.region": "EU"},
			refusal{"spec.recordings.region", "should match"},
		},
		"bucket region too long": {
			fields{"spec.recordings.region": strings.Repeat("a", 65)},
			refusal{"spec.recordings.region", "64"},
		},
		"key by day":                 {fields{template: "{{ .Date }}/{{ .RecordingID }}"}, ok},
		"key without the recording":  {fields{template: "{{.CallSID}}"}, wantID},
		"key names it as plain text": {fields{template: ".RecordingID"}, wantID},
		"key with another's field":   {fields{template: "{{.RecordingIDs}}"}, wantID},
		"empty key":                  {fields{template: ""}, refusal{template, "at least 1"}},
		"key much too long": {
			fields{template: "{{.RecordingID}}" + strings.Repeat("a", 256)},
			refusal{template, "256"},
		},
		"hosts": {
			fields{hosts: []any{"recordings.exotel.com", "*.example.com", "10.0.0.7:8080"}},
			ok,
		},
		"host as a URL": {
			fields{hosts: []any{"https://a.example"}},
			refusal{hosts + "[0]", "should match"},
		},
		"host is any host":   {fields{hosts: []any{"*"}}, refusal{hosts + "[0]", "should match"}},
		"star in the middle": {fields{hosts: []any{"a.*.example"}}, refusal{hosts + "[0]", "should match"}},
		"host much too long": {fields{hosts: []any{strings.Repeat("a", 256)}}, refusal{hosts + "[0]", "255"}},
		"host twice": {
			fields{hosts: []any{"a.example", "a.example"}},
			refusal{hosts + "[1]", "Duplicate value"},
		},
		"empty list of hosts":     {fields{hosts: []any{}}, refusal{hosts, "at least 1"}},
		"more hosts than may be":  {fields{hosts: sourceHosts(33)}, refusal{hosts, "32"}},
		"as many hosts as may be": {fields{hosts: sourceHosts(32)}, ok},
		"no upload pods":          {fields{pods: int64(0)}, refusal{pods, "greater than or equal to 1"}},
		"most upload pods":        {fields{pods: int64(64)}, ok},
		"too many upload pods":    {fields{pods: int64(65)}, refusal{pods, "less than or equal to 64"}},
		"unknown resources": {
			fields{"spec.recordings.resources": "Some"},
			refusal{"spec.recordings.resources", `"All", "Failed", "None"`},
		},
	}
}

func sourceHosts(n int) []any {
	list := make([]any, n)
	for i := range list {
		list[i] = fmt.Sprintf("h%d.example", i)
	}
	return list
}

func secretNameRules(ref string) map[string]ruleCase {
	name := ref + ".name"
	return map[string]ruleCase{
		name + ": none":  {fields{ref: map[string]any{}}, refusal{name, "Required value"}},
		name + ": empty": {fields{name: ""}, refusal{name, "at least 1"}},
		name + ": in upper case": {
			fields{name: "Secret"},
			refusal{name, "name must be the name of a Secret: lower-case letters, digits, '-' and '.'"},
		},
		name + ": with a slash": {fields{name: "other/secret"}, refusal{name, "name must be the name of a Secret"}},
		name + ": too long":     {fields{name: strings.Repeat("a", 254)}, refusal{name, "253"}},
		name + ": longest": {
			fields{name: strings.Repeat("a", 63) + strings.Repeat("."+strings.Repeat("a", 62), 3)},
			refusal{},
		},
	}
}

func durationRules(field, least, less, most, more, message string) map[string]ruleCase {
	want := refusal{field, message}
	return map[string]ruleCase{
		field + ": least":         {fields{field: least}, refusal{}},
		field + ": less":          {fields{field: less}, want},
		field + ": most":          {fields{field: most}, refusal{}},
		field + ": more":          {fields{field: more}, want},
		field + ": not a time":    {fields{field: "soon"}, want},
		field + ": without unit":  {fields{field: "3600"}, want},
		field + ": in days":       {fields{field: "1d"}, want},
		field + ": empty":         {fields{field: ""}, want},
		field + ": beyond int64":  {fields{field: "9999999999h"}, want},
		field + ": several units": {fields{field: "1h30m"}, refusal{}},
		field + ": without end":   {fields{field: strings.Repeat("0", 100) + "1h"}, want},
	}
}

// TestSplitTenantID checks that SplitTenantID is the inverse of ID.
func TestSplitTenantID(t *testing.T) {
	tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: "acme", Name: "support"}}
	for id, want := range map[string][2]string{
		tenant.ID(): {"acme", "support"},
		"acme":      {"acme", ""},
		"":          {"", ""},
	} {
		namespace, name := v1alpha1.SplitTenantID(id)
		if got := [2]string{namespace, name}; got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
}
