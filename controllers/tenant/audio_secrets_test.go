package tenant

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/certtest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// withAgent names every Secret that audio may have.
func withAgent(t *v1alpha1.Tenant) {
	ref := func(name string) *v1alpha1.SecretReference { return &v1alpha1.SecretReference{Name: "agent-" + name} }
	t.Spec.Audio = &v1alpha1.AudioSpec{
		AgentURL:         "wss://bot.acme.example/stream",
		HeadersSecretRef: ref("headers"),
		CASecretRef:      ref("ca"),
		Verification:     &v1alpha1.AudioVerification{TokenSecretRef: ref("tokens"), BasicAuthSecretRef: ref("users")},
	}
}

func agentSecrets(t *testing.T) map[string]map[string]string {
	t.Helper()
	return map[string]map[string]string{
		"headers": {"X-Agent-Key": "opens-the-agent", "Authorization": "Bearer of-the-agent"},
		"ca":      {"ca.crt": certtest.New(t).PEM},
		"tokens":  {"current": "token-of-the-audio-01"},
		"users":   {"exotel": "password-of-the-audio"},
	}
}

// TestAudioStalls checks that a bad audio Secret stalls the Tenant with a message that says what to do. The last good
// config stays in force. A corrected Secret is live without another change.
func TestAudioStalls(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.start(t)
	good := agentSecrets(t)
	for name, data := range good {
		rig.PutSecret(t, "agent-"+name, data)
	}
	tenant := rig.ready(t, "support", withAgent)
	inForce := rig.config(t, tenant).Audio
	if inForce == nil || inForce.CABundle != good["ca"]["ca.crt"] ||
		inForce.Headers["X-Agent-Key"].Reveal() != "opens-the-agent" {
		t.Fatalf("as compiled: %+v", inForce)
	}
	many := map[string]string{}
	for i := range tenantconfig.MaxHeaders + 1 {
		many[fmt.Sprintf("X-%02d", i)] = "x"
	}
	for _, step := range []struct {
		secret string
		data   map[string]string
		want   []string
	}{
		{"headers", map[string]string{}, []string{"has 0 keys and may have 1 to 16"}},
		{"headers", many, []string{"has 17 keys"}},
		{
			"headers",
			map[string]string{"Sec-WebSocket-Key": "key-of-the-handshake"},
			[]string{`key "Sec-WebSocket-Key"`, "belongs to the handshake"},
		},
		{"headers", map[string]string{"Host": "elsewhere.example"}, []string{`key "Host"`, "belongs to the handshake"}},
		{"headers", map[string]string{"X-Key": "key-with-a-break\n"}, []string{`key "X-Key"`, "--from-literal"}},
		{"headers", map[string]string{"X-Key": "two\r\nX-More: lines"}, []string{"control character"}},
		{"headers", map[string]string{"X-Key": " key-with-a-blank"}, []string{`key "X-Key"`, "ends with a blank"}},
		{"headers", map[string]string{"X-Key": `"key-in-quotes"`}, []string{`key "X-Key"`, "in quotes"}},
		{
			"ca",
			map[string]string{"ca.crt": "\ufeff" + good["ca"]["ca.crt"]},
			[]string{`"ca.crt"`, "whole certificates"},
		},
		{"ca", map[string]string{"ca.crt": `"` + good["ca"]["ca.crt"] + `"`}, []string{"not whole certificates"}},
		{"tokens", map[string]string{"current": "token-of-the-audio-01\n"}, []string{`key "current"`, "line break"}},
		{"users", map[string]string{"exotel": "password-of-the-audio "}, []string{`key "exotel"`, "ends with a blank"}},
		{"ca", map[string]string{"tls.crt": "of-the-wrong-key"}, []string{`"ca.crt"`}},
		{
			"ca",
			map[string]string{"ca.crt": "no-certificate-at-all"},
			[]string{`"ca.crt"`, "-----BEGIN CERTIFICATE-----"},
		},
		{
			"ca",
			map[string]string{"ca.crt": good["ca"]["ca.crt"] + "-----BEGIN CERTIFICATE-----\nhalf-of-another"},
			[]string{"not whole certificates"},
		},
		{"tokens", map[string]string{"current": "too-sh0rt"}, []string{`key "current"`, "shorter than 16"}},
		{"users", map[string]string{"exotel": "too-sh0rt"}, []string{`key "exotel"`, "shorter than 12"}},
	} {
		rig.PutSecret(t, "agent-"+step.secret, step.data)
		parts := slices.Concat(step.want, []string{fmt.Sprintf("%q", "agent-"+step.secret), "spec.audio."})
		rig.until(t, tenant, both(stalledFor(v1alpha1.ReasonSecretKeyMissing, parts...),
			has(v1alpha1.ConditionCredentialsValid, metav1.ConditionFalse, v1alpha1.ReasonSecretKeyMissing, parts...)))
		if now := rig.config(t, tenant).Audio; now == nil || now.CABundle != inForce.CABundle ||
			!maps.Equal(now.Headers, inForce.Headers) {
			t.Errorf("%s: not the last good config", step.secret)
		}
		rig.PutSecret(t, "agent-"+step.secret, good[step.secret])
		rig.until(t, tenant, isReady)
	}
}

// TestAudioRotates verifies that a new header and a new authority reach the config of the pods soon after their Secrets
// change.
func TestAudioRotates(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.start(t)
	for name, data := range agentSecrets(t) {
		rig.PutSecret(t, "agent-"+name, data)
	}
	tenant := rig.ready(t, "support", withAgent)
	ca := certtest.New(t).PEM
	rig.PutSecret(t, "agent-headers", map[string]string{"X-Agent-Key": "opens-the-agent-next"})
	rig.PutSecret(t, "agent-ca", map[string]string{"ca.crt": ca})
	eventually.Within(tenantconfig.RefreshDelay).Succeeds(t, func(context.Context) error {
		audio := rig.config(t, tenant).Audio
		if got := audio.Headers["X-Agent-Key"].Reveal(); got != "opens-the-agent-next" || len(audio.Headers) != 1 ||
			audio.CABundle != ca {
			return fmt.Errorf(
				"the config has %d headers, the old ones: %t, the old authority: %t",
				len(audio.Headers),
				strings.HasSuffix(got, "agent"),
				audio.CABundle != ca,
			)
		}
		return nil
	})
}

// TestAudioSecretMissing verifies that a Tenant names the missing Secret of its agent, and is ready once all of them
// exist.
func TestAudioSecretMissing(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	rig.putSecrets(t, "support", rig.goodSecrets())
	tenant := rig.newTenant("support")
	withAgent(tenant)
	rig.Create(t, tenant)
	for _, name := range []string{"tokens", "users", "headers", "ca"} {
		rig.until(
			t, tenant,
			has(
				v1alpha1.ConditionCredentialsValid, metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound, "spec.audio.",
			),
		)
		rig.PutSecret(t, "agent-"+name, agentSecrets(t)[name])
	}
	rig.until(t, tenant, isReady)
}
