package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

func newTenant(ns, name string, webhooks v1alpha1.WebhooksSpec) *v1alpha1.Tenant {
	return tenanttest.New(ns, name, func(tenant *v1alpha1.Tenant) { tenant.Spec.Webhooks = webhooks })
}

// reachable creates a Tenant whose webhooks go to an address.
func reachable(t *testing.T, c client.Client, tenant *v1alpha1.Tenant, prefix string) {
	t.Helper()
	if err := c.Create(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	for _, event := range []string{"passthru", "status"} {
		tenant.Status.WebhookURLs = append(tenant.Status.WebhookURLs, v1alpha1.WebhookURL{
			Event: event,
			URL:   prefix + tenant.ID() + "/" + event,
		})
	}
	if err := c.Status().Update(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
}

func keep(t *testing.T, c client.Client, ns, name string, data map[string]string) v1alpha1.SecretReference {
	t.Helper()
	if err := c.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		StringData: data,
	}); err != nil {
		t.Fatal(err)
	}
	return v1alpha1.SecretReference{Name: name}
}

// The first secrets of the verifiers. The second one of each Secret is not known to the data plane.
const (
	aToken    = "a+token/of=acme%26=="
	aPassword = "pass:word & more"
	aKey      = "0123456789abcdefghijklmn"
	aWhsec    = "whsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u"
	forgotten = "forgotten, not active here"
)

type verifierCase struct {
	spec   v1alpha1.WebhooksSpec
	config tenantconfig.Webhooks
}

// verifierCases are every verifier that a Tenant may have, as its spec and as what the data plane verifies by.
func verifierCases(t *testing.T, c client.Client, ns string) map[string]verifierCase {
	t.Helper()
	signing := keep(t, c, ns, "signing", map[string]string{"a": calytest.SigningSecret, "b": forgotten})
	whsec := keep(t, c, ns, "whsec", map[string]string{"a": aWhsec, "b": forgotten})
	token := keep(t, c, ns, "token", map[string]string{"a": aToken, "b": forgotten})
	basic := keep(t, c, ns, "basic", map[string]string{"alice": aPassword, "bob": forgotten})
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	signed := func(spec v1alpha1.SignatureSpec) verifierCase {
		spec.SecretRef = signing
		config := &tenantconfig.Signature{
			Scheme:        tenantconfig.SchemeHMACSHA1,
			Encoding:      string(spec.Encoding),
			Header:        spec.Header,
			Prefix:        spec.Prefix,
			SignedContent: string(spec.SignedContent),
			Secrets:       []secret.Sensitive{calytest.SigningSecret},
		}
		if spec.Scheme != "" {
			config.Scheme = string(spec.Scheme)
		}
		if spec.Timestamp != nil {
			config.TimestampHeader = spec.Timestamp.Header
			config.Tolerance = time.Minute
		}
		return verifierCase{v1alpha1.WebhooksSpec{Signature: &spec}, tenantconfig.Webhooks{Signature: config}}
	}
	standard := &tenantconfig.StandardWebhooks{Tolerance: time.Minute, Secrets: []secret.Sensitive{aKey}}
	tokens := &tenantconfig.Token{Query: "t", Secrets: []secret.Sensitive{aToken}}
	users := &tenantconfig.BasicAuth{Users: []tenantconfig.User{{Name: "alice", Password: aPassword}}}
	everything := signed(v1alpha1.SignatureSpec{SignedContent: v1alpha1.SignedContentURLAndParameters})
	everything.spec.StandardWebhooks = &v1alpha1.StandardWebhooksSpec{SecretRef: whsec}
	everything.spec.Token = &v1alpha1.TokenSpec{SecretRef: token, Query: "t"}
	everything.spec.BasicAuth = &v1alpha1.BasicAuthSpec{SecretRef: basic}
	everything.spec.AllowedCIDRs = []string{"127.0.0.0/8"}
	everything.spec.Require = v1alpha1.RequireAll
	everything.config = tenantconfig.Webhooks{
		RequireAll:   true,
		Signature:    everything.config.Signature,
		Standard:     standard,
		Token:        tokens,
		Basic:        users,
		AllowedCIDRs: loopback,
	}
	return map[string]verifierCase{
		"signature": signed(v1alpha1.SignatureSpec{}),
		"sha256":    signed(v1alpha1.SignatureSpec{Scheme: v1alpha1.SignatureSchemeHMACSHA256}),
		"hex":       signed(v1alpha1.SignatureSpec{Encoding: v1alpha1.SignatureEncodingHex}),
		"base64": signed(v1alpha1.SignatureSpec{
			Encoding: v1alpha1.SignatureEncodingBase64,
			Scheme:   v1alpha1.SignatureSchemeHMACSHA256,
		}),
		"header": signed(v1alpha1.SignatureSpec{Header: "X-Relay-Signature", Prefix: "v1="}),
		"url":    signed(v1alpha1.SignatureSpec{SignedContent: v1alpha1.SignedContentURLAndParameters}),
		"timestamp": signed(v1alpha1.SignatureSpec{
			SignedContent: v1alpha1.SignedContentTimestampAndBody,
			Timestamp:     &v1alpha1.TimestampSpec{Header: "X-Relay-Time"},
		}),
		"standard": {
			v1alpha1.WebhooksSpec{StandardWebhooks: everything.spec.StandardWebhooks},
			tenantconfig.Webhooks{Standard: standard},
		},
		"token": {v1alpha1.WebhooksSpec{Token: everything.spec.Token}, tenantconfig.Webhooks{Token: tokens}},
		"basic": {
			v1alpha1.WebhooksSpec{BasicAuth: everything.spec.BasicAuth},
			tenantconfig.Webhooks{Basic: users},
		},
		"address": {
			v1alpha1.WebhooksSpec{AllowedCIDRs: []string{"127.0.0.0/8"}},
			tenantconfig.Webhooks{AllowedCIDRs: loopback},
		},
		"all-of-them": everything,
	}
}

// TestSimulateCallForEveryVerifier sends every event, each twice, to tenants of every verifier. The data plane knows the first secret of
// each alone.
func TestSimulateCallForEveryVerifier(t *testing.T) {
	env := kubetest.Get(t)
	t.Setenv("KUBECONFIG", calytest.Kubeconfig(t))
	ns := env.NewNamespace(t)
	cases := verifierCases(t, env.Client, ns)
	var tenants []*tenantconfig.Tenant
	for name, tc := range cases {
		tenants = append(tenants, &tenantconfig.Tenant{
			ID:                 ns + "/" + name,
			TimeZone:           "Asia/Singapore",
			Freshness:          5 * time.Minute,
			AllowedSourceHosts: []string{"127.0.0.1:1"},
			Webhooks:           &tc.config,
		})
	}
	prefix, count := dataPlaneOf(t, tenants...)
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tenant := newTenant(ns, name, tc.spec)
			tenant.Spec.Exotel.TimeZone = "Asia/Singapore"
			reachable(t, env.Client, tenant, prefix)
			of := " WHERE tenant = '" + tenant.ID() + "'"
			for event, want := range map[string]struct {
				events, recordings int
				kind               string
			}{
				"status":   {8, 4, "status"}, // in all four spellings
				"passthru": {4, 4, "passthru"},
				"stream":   {4, 4, "passthru"},
				"leg":      {4, 0, "leg"},
			} {
				before := count("call_events" + of + " AND kind = '" + want.kind + "'")
				recordings := count("recordings" + of)
				result := execute(
					t,
					"simulate",
					"call",
					"--tenant="+tenant.ID(),
					"--event="+event,
					"--replay=2",
					"--calls=4",
					"--retry-interval=1ms",
					"--recordings-base-url=http://127.0.0.1:1",
				)
				if result.err != nil || !strings.HasPrefix(result.out, "4 of 4 calls were accepted by "+prefix) {
					t.Fatalf("%s: %v, %q", event, result.err, result.out)
				}
				if got := count("call_events"+of+" AND kind = '"+want.kind+"'") - before; got != want.events {
					t.Errorf("%s: %d events, want %d", event, got, want.events)
				}
				if got := count("recordings"+of) - recordings; got != want.recordings {
					t.Errorf("%s: %d recordings, want %d", event, got, want.recordings)
				}
			}
			for sql, want := range map[string]int{
				"call_events" + of + " AND dead_reason IS NOT NULL": 0,
				"call_streams" + of: 4,
				"calls" + of:        16,
			} {
				if got := count(sql); got != want {
					t.Errorf("%d %s, want %d", got, sql, want)
				}
			}
		})
	}
}

// TestSimulateCallOfTenantFails verifies that the command reports each fault in one line, which does not hold a secret.
func TestSimulateCallOfTenantFails(t *testing.T) {
	env := kubetest.Get(t)
	t.Setenv("KUBECONFIG", calytest.Kubeconfig(t))
	ns := env.NewNamespace(t)
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	cases := verifierCases(t, env.Client, ns)
	signing := cases["signature"].spec.Signature.SecretRef
	token := cases["all-of-them"].spec.Token
	basic := cases["all-of-them"].spec.BasicAuth
	none := keep(t, env.Client, ns, "none", nil)
	at := func(header string) *v1alpha1.SignatureSpec {
		return &v1alpha1.SignatureSpec{SecretRef: signing, Header: header}
	}
	timed := at("Webhook-Timestamp")
	timed.SignedContent = v1alpha1.SignedContentTimestampAndBody
	timed.Timestamp = &v1alpha1.TimestampSpec{Header: "webhook-timestamp"}
	prefix, _ := dataPlaneOf(t, &tenantconfig.Tenant{
		ID:       ns + "/elsewhere",
		Webhooks: &tenantconfig.Webhooks{AllowedCIDRs: elsewhere},
	},
		&tenantconfig.Tenant{
			ID: ns + "/rotated",
			Webhooks: &tenantconfig.Webhooks{Token: &tenantconfig.Token{
				Query:   "t",
				Secrets: []secret.Sensitive{forgotten},
			}},
		})
	for name, tc := range map[string]struct {
		spec v1alpha1.WebhooksSpec
		at   string
		says string
	}{
		"elsewhere": {
			v1alpha1.WebhooksSpec{AllowedCIDRs: []string{"192.0.2.0/24"}},
			prefix,
			"answered 401: tenant " + ns + "/elsewhere takes webhooks from 192.0.2.0/24",
		},
		"rotated": {v1alpha1.WebhooksSpec{Token: token}, prefix, "the webhook was answered 401"},
		"nobody": {
			v1alpha1.WebhooksSpec{Token: token},
			"http://" + calytest.FreeAddress(t) + "/",
			"connection refused",
		},
		"no-secret": {
			v1alpha1.WebhooksSpec{Token: &v1alpha1.TokenSpec{SecretRef: v1alpha1.SecretReference{Name: "nowhere"}}},
			prefix,
			`"nowhere" not found`,
		},
		"empty-secret": {
			v1alpha1.WebhooksSpec{BasicAuth: &v1alpha1.BasicAuthSpec{SecretRef: none}},
			prefix,
			"the Secret " + ns + "/none holds no password",
		},
		"no-whsec": {
			v1alpha1.WebhooksSpec{StandardWebhooks: &v1alpha1.StandardWebhooksSpec{SecretRef: signing}},
			prefix,
			"signing does not begin with whsec_",
		},
		"one-header": {v1alpha1.WebhooksSpec{
			Signature: at("authorization"),
			BasicAuth: basic,
		}, prefix, "header Authorization, which carries something else"},
		"header-of-own": {
			v1alpha1.WebhooksSpec{Signature: at("host")},
			prefix,
			"header Host, which carries something else",
		},
		"time-in-it": {
			v1alpha1.WebhooksSpec{Signature: timed},
			prefix,
			"header Webhook-Timestamp, which carries something else",
		},
	} {
		t.Run(name, func(t *testing.T) {
			reachable(t, env.Client, newTenant(ns, name, tc.spec), tc.at)
			result := execute(t, "simulate", "call", "--tenant="+ns+"/"+name, "--retry-interval=1ms")
			checkFailure(t, result, tc.says)
			for _, secret := range []string{aToken, "a%2Btoken", aPassword, calytest.SigningSecret, forgotten} {
				if said := fmt.Sprint(result.err, result.out, result.errs); strings.Contains(said, secret) {
					t.Errorf("a secret is told: %s", said)
				}
			}
		})
	}
}

// TestSimulateCallOfTenant reads address and secret from a real API server.
func TestSimulateCallOfTenant(t *testing.T) {
	env := kubetest.Get(t)
	t.Setenv("KUBECONFIG", calytest.Kubeconfig(t))
	ns := env.NewNamespace(t)
	hook, count := dataPlane(t, "http://127.0.0.1:1")
	call := func() result { return execute(t, "simulate", "call", "--tenant="+ns+"/support") }
	checkFailure(t, call(), `"support" not found`)

	tenant := newTenant(
		ns,
		"support",
		v1alpha1.WebhooksSpec{Signature: &v1alpha1.SignatureSpec{SecretRef: v1alpha1.SecretReference{Name: "webhook"}}},
	)
	if err := env.Client.Create(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	checkFailure(t, call(), "has no webhook address yet: see kubectl describe tenant -n "+ns+" support")
	tenant.Status.WebhookURLs = []v1alpha1.WebhookURL{{
		Event: "passthru",
		URL:   "http://127.0.0.1:1/",
	}, {
		Event: "status",
		URL:   hook,
	}}
	if err := env.Client.Status().Update(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	checkFailure(t, call(), `"webhook" not found`)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "webhook"}}
	if err := env.Client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	checkFailure(t, call(), "holds no signing secret")
	secret.Data = map[string][]byte{
		"b-old": []byte("topsecret, not active any more"),
		"a-new": []byte(calytest.SigningSecret),
	}
	if err := env.Client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if r := call(); r.err != nil {
		t.Fatal(r.err)
	}
	if n := count("calls"); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}
