package tenant

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// allVerifiers names a Secret for each verifier that needs one, the names with a prefix.
func allVerifiers(w *v1alpha1.WebhooksSpec, prefix string) {
	ref := func(name string) v1alpha1.SecretReference { return v1alpha1.SecretReference{Name: prefix + name} }
	w.Require = v1alpha1.RequireAll
	w.Signature = &v1alpha1.SignatureSpec{
		SecretRef:     ref("signing"),
		Scheme:        v1alpha1.SignatureSchemeHMACSHA256,
		Encoding:      v1alpha1.SignatureEncodingHex,
		Header:        "X-Sig",
		Prefix:        "v1=",
		SignedContent: v1alpha1.SignedContentTimestampAndBody,
		Timestamp:     &v1alpha1.TimestampSpec{Header: "X-Time"},
	}
	w.StandardWebhooks = &v1alpha1.StandardWebhooksSpec{
		SecretRef: ref("standard"),
		Tolerance: &metav1.Duration{Duration: time.Minute},
	}
	w.Token = &v1alpha1.TokenSpec{SecretRef: ref("tokens")}
	w.BasicAuth = &v1alpha1.BasicAuthSpec{SecretRef: ref("users")}
	w.AllowedCIDRs = []string{"203.0.113.0/24", "2001:db8::/32"}
}

const standardKey = "a key of Standard Webhooks"

// whsec writes a key as Standard Webhooks does.
func whsec(key string) string { return "whsec_" + base64.StdEncoding.EncodeToString([]byte(key)) }

// verifierData are good contents of the Secrets that allVerifiers names.
func verifierData() map[string]map[string]string {
	return map[string]map[string]string{
		"signing":  {"a": "signing-secret-0123456789", "b": "\xff\xfe\x80 sixteen bytes \x00"},
		"standard": {"current": whsec(standardKey)},
		"tokens":   {"current": "token-0123456789abcdef"},
		"users":    {"exotel": "password-of-exotel", "relay": "password of a relay"},
	}
}

// wantWebhooks is what they compile to.
func wantWebhooks() *tenantconfig.Webhooks {
	return &tenantconfig.Webhooks{
		RequireAll: true,
		Signature: &tenantconfig.Signature{
			Scheme:          "HMACSHA256",
			Encoding:        "Hex",
			Header:          "X-Sig",
			Prefix:          "v1=",
			SignedContent:   "TimestampAndBody",
			TimestampHeader: "X-Time",
			Tolerance:       5 * time.Minute,
			Secrets:         []secret.Sensitive{"signing-secret-0123456789", "\xff\xfe\x80 sixteen bytes \x00"},
		},
		Standard: &tenantconfig.StandardWebhooks{Tolerance: time.Minute, Secrets: []secret.Sensitive{standardKey}},
		Token:    &tenantconfig.Token{Query: "token", Secrets: []secret.Sensitive{"token-0123456789abcdef"}},
		Basic: &tenantconfig.BasicAuth{Users: []tenantconfig.User{{Name: "exotel", Password: "password-of-exotel"},
			{Name: "relay", Password: "password of a relay"}}},
		AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32")},
	}
}

var plain = cmp.Options{cmpopts.EquateComparable(netip.Prefix{}), cmp.Transformer("reveal", secret.Sensitive.Reveal)}

// TestVerifiers takes a Tenant with every verifier to a config that a pod reads, then rotates each Secret, and nothing else.
func TestVerifiers(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.start(t)
	for name, data := range verifierData() {
		rig.PutSecret(t, "verifiers-"+name, data)
	}
	tenant := rig.ready(t, "support", func(t *v1alpha1.Tenant) { allVerifiers(&t.Spec.Webhooks, "verifiers-") })
	want := wantWebhooks()
	if diff := cmp.Diff(want, rig.config(t, tenant).Webhooks, plain); diff != "" {
		t.Fatalf("as compiled (-want +got):\n%s", diff)
	}
	for _, step := range []struct {
		secret string
		data   map[string]string
		change func(*tenantconfig.Webhooks)
	}{
		{"signing", map[string]string{"c": "signing-secret-next-00000"}, func(w *tenantconfig.Webhooks) {
			w.Signature.Secrets = []secret.Sensitive{"signing-secret-next-00000"}
		}},
		{"standard", map[string]string{
			"current": whsec(standardKey),
			"next":    whsec("the next key of it"),
		}, func(w *tenantconfig.Webhooks) {
			w.Standard.Secrets = []secret.Sensitive{standardKey, "the next key of it"}
		}},
		{"tokens", map[string]string{
			"current": "token-0123456789abcdef",
			"a":       "token-next-0123456789",
		}, func(w *tenantconfig.Webhooks) {
			w.Token.Secrets = []secret.Sensitive{"token-next-0123456789", "token-0123456789abcdef"}
		}},
		{"users", map[string]string{"exotel": "another password"}, func(w *tenantconfig.Webhooks) {
			w.Basic.Users = []tenantconfig.User{{Name: "exotel", Password: "another password"}}
		}},
	} {
		digest := rig.config(t, tenant).Digest()
		rig.PutSecret(t, "verifiers-"+step.secret, step.data)
		step.change(want)
		eventually.Within(tenantconfig.RefreshDelay).Succeeds(t, func(context.Context) error {
			if diff := cmp.Diff(want, rig.config(t, tenant).Webhooks, plain); diff != "" {
				return fmt.Errorf("%s (-want +got):\n%s", step.secret, diff)
			}
			return nil
		})
		rig.until(t, tenant, func(t *v1alpha1.Tenant) error {
			if t.Status.ConfigDigest == digest {
				return fmt.Errorf("%s: the digest is the one before", step.secret)
			}
			return isReady(t)
		})
	}
}

// TestVerifierStalls checks that a bad Secret of a verifier stalls the Tenant and leaves the last good config in
// force. A corrected Secret is live.
func TestVerifierStalls(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.start(t)
	for name, data := range verifierData() {
		rig.PutSecret(t, "verifiers-"+name, data)
	}
	tenant := rig.ready(t, "support", func(t *v1alpha1.Tenant) { allVerifiers(&t.Spec.Webhooks, "verifiers-") })
	for secret, field := range map[string]string{
		"signing":  fieldSignature,
		"standard": fieldStandard,
		"tokens":   fieldToken,
		"users":    fieldBasic,
	} {
		name := "verifiers-" + secret
		parts := []string{"spec." + field, fmt.Sprintf("%q", name), `"bad"`, "shorter than"}
		if secret == "standard" {
			parts[3] = "whsec_"
		}
		rig.PutSecret(t, name, map[string]string{"bad": "too-sh0rt"})
		rig.until(t, tenant, both(stalledFor(v1alpha1.ReasonSecretKeyMissing, parts...),
			has(v1alpha1.ConditionCredentialsValid, metav1.ConditionFalse, v1alpha1.ReasonSecretKeyMissing, parts...)))
		if diff := cmp.Diff(wantWebhooks(), rig.config(t, tenant).Webhooks, plain); diff != "" {
			t.Errorf("%s: not the last good config (-want +got):\n%s", secret, diff)
		}
		rig.PutSecret(t, name, verifierData()[secret])
		rig.until(t, tenant, isReady)
	}
}

// TestVerifierSecrets gives each verifier each kind of value.
func TestVerifierSecrets(t *testing.T) {
	long := strings.Repeat("x", 1025)
	many := map[string]string{}
	for i := range 17 {
		many[fmt.Sprintf("key%02d", i)] = whsec("a key that is long enough, and a password")
	}
	for name, tc := range map[string]struct {
		secret string
		data   map[string]string
		want   []string // of the message; nil: it is good
	}{
		"signing, text":      {"signing", map[string]string{"a": "sixteen bytes ok"}, nil},
		"signing, any bytes": {"signing", map[string]string{"a": "\x00\xff\x80sixteen bytes\n"}, nil},
		"signing, empty":     {"signing", nil, []string{"add a signing secret"}},
		"signing, too short": {
			"signing",
			map[string]string{"a": "fifteen bytes x"},
			[]string{`key "a"`, "shorter than 16 bytes"},
		},
		"signing, a line break": {
			"signing",
			map[string]string{"a": "sixteen bytes ok\n"},
			[]string{`key "a"`, "line break", "--from-literal"},
		},
		"signing, a DOS line break": {
			"signing",
			map[string]string{"a": "sixteen bytes ok\r\n"},
			[]string{"line break"},
		},
		"signing, too long": {"signing", map[string]string{"a": long}, []string{"longer than 1024"}},
		"signing, too many": {"signing", many, []string{"has 17 keys and may have 16", "remove the old ones"}},
		"signing, the first of two": {"signing", map[string]string{
			"b": "short",
			"a": "fifteen bytes x",
			"c": "x",
		}, []string{`key "a"`}},
		"standard": {"standard", map[string]string{"a": whsec("sixteen bytes ok")}, nil},
		"standard, without prefix": {
			"standard",
			map[string]string{"a": "c2l4dGVlbiBieXRlcyBoZXJl"},
			[]string{`key "a"`, "does not begin with whsec_"},
		},
		"standard, no base64": {
			"standard",
			map[string]string{"a": "whsec_!!!!!!!!!!!!!!!!!!!!"},
			[]string{"no base64"},
		},
		"standard, too short": {
			"standard",
			map[string]string{"a": whsec("fifteen bytes x")},
			[]string{"shorter than 16 bytes behind whsec_"},
		},
		"standard, a line break": {
			"standard",
			map[string]string{"a": whsec("sixteen bytes ok") + "\n"},
			[]string{"line break"},
		},
		"standard, too long": {"standard", map[string]string{"a": whsec(long)}, []string{"longer than 1024"}},
		"standard, empty":    {"standard", nil, []string{"add a Standard Webhooks secret"}},
		"token":              {"tokens", map[string]string{"a": "0123456789abcdef/+=~"}, nil},
		"token, too short": {
			"tokens",
			map[string]string{"a": "0123456789abcde"},
			[]string{"shorter than 16 characters", "openssl rand"},
		},
		"token, a blank":         {"tokens", map[string]string{"a": "0123456789 abcdef"}, []string{"has a blank"}},
		"token, beyond ASCII":    {"tokens", map[string]string{"a": "0123456789abcdéf"}, []string{"beyond ASCII"}},
		"token, no text":         {"tokens", map[string]string{"a": "0123456789abcdef\xff"}, []string{"not text"}},
		"token, a line break":    {"tokens", map[string]string{"a": "0123456789abcdef\n"}, []string{"line break"}},
		"token, too long":        {"tokens", map[string]string{"a": long}, []string{"longer than 1024"}},
		"token, empty":           {"tokens", nil, []string{"add a token"}},
		"password":               {"users", map[string]string{"exotel": "twelve bytes"}, nil},
		"password, beyond ASCII": {"users", map[string]string{"exotel": "zwölf Bytes"}, nil},
		"password, too short": {
			"users",
			map[string]string{"exotel": "eleven byte"},
			[]string{`key "exotel"`, "shorter than 12 bytes"},
		},
		"password, a control":    {"users", map[string]string{"exotel": "twelve\abytes"}, []string{"control"}},
		"password, no text":      {"users", map[string]string{"exotel": "twelve bytes\xff"}, []string{"not text"}},
		"password, a line break": {"users", map[string]string{"exotel": "twelve bytes\n"}, []string{"line break"}},
		"password, too long":     {"users", map[string]string{"exotel": long}, []string{"longer than 1024"}},
		"password, as kubectl makes": {"users", map[string]string{
			"username": "exotel",
			"password": "twelve bytes",
		}, []string{`key "username"`, "shorter than 12"}},
		"users, none": {"users", nil, []string{"add a password"}},
	} {
		t.Run(name, func(t *testing.T) {
			scope := newScope()
			allVerifiers(&scope.tenant.Spec.Webhooks, "")
			for _, v := range verifierSecrets(&scope.tenant.Spec) {
				if v.ref.Name != tc.secret {
					continue
				}
				secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: v.ref.Name}, Data: map[string][]byte{}}
				for k, value := range tc.data {
					secret.Data[k] = []byte(value)
				}
				err := v.check(scope, secret)
				if tc.want == nil && err != nil {
					t.Errorf("refused: %v", err)
				}
				for _, part := range append(tc.want, "spec."+v.field, fmt.Sprintf("%q", tc.secret)) {
					if tc.want != nil {
						wantStalled(t, err, v1alpha1.ReasonSecretKeyMissing, part)
					}
				}
				for _, value := range tc.data {
					if err != nil && len(value) > 5 && strings.Contains(err.Error(), strings.TrimSpace(value)) &&
						value != "exotel" {
						t.Errorf("the message tells a secret: %v", err)
					}
				}
			}
		})
	}
}
