package tenant

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/secretlabel"
)

// setLabel sets the label that Tenants' Secrets need, or another value of it.
func (r *subject) setLabel(t *testing.T, secret, value string) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, secretlabel.Default.Key, value)
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: secret}}
	if err := r.Client.Patch(
		t.Context(), s, client.RawPatch("application/merge-patch+json", []byte(patch)),
	); err != nil {
		t.Fatal(err)
	}
}

// TestSecretLabel has a Tenant name Secrets of every kind: each needs the label before any of it is compiled.
func TestSecretLabel(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.label = secretlabel.Default
	rig.start(t)
	rig.putSecrets(t, "support", rig.goodSecrets())
	rig.putVerifiers(t)
	tenant := rig.newTenant("support")
	allVerifiers(&tenant.Spec.Webhooks, "verifiers-")
	withAgent(tenant)
	rig.Create(t, tenant)
	for _, secret := range []string{
		"support-exotel", "support-bucket", "verifiers-signing", "verifiers-standard", "verifiers-tokens", "verifiers-users",
		"agent-tokens", "agent-users", "agent-headers", "agent-ca",
	} {
		command := fmt.Sprintf("kubectl -n %s label secret %s voice.caly.dev/use=tenant", rig.Namespace, secret)
		rig.until(t, tenant, both(stalledFor(v1alpha1.ReasonSecretNotLabelled, command),
			has(v1alpha1.ConditionCredentialsValid, metav1.ConditionFalse, v1alpha1.ReasonSecretNotLabelled, command)))
		rig.unpublished(t, tenant)
		rig.setLabel(t, secret, "tenant")
	}
	rig.until(t, tenant, isReady)
}

// unpublished wants no config of the tenant in the work namespace.
func (r *subject) unpublished(t *testing.T, tenant *v1alpha1.Tenant) {
	t.Helper()
	for _, prefix := range []string{"tenant", "upload"} {
		if r.secret(t, prefix, tenant) != nil {
			t.Errorf("the %s config is published", prefix)
		}
	}
}

// TestSecretOfAnotherUse has the author of a Tenant that works name a Secret that is not meant for Tenants, as the
// headers of an agent of their own. The agent is not sent it.
func TestSecretOfAnotherUse(t *testing.T) {
	rig := newSubject(t)
	rig.label = secretlabel.Default
	rig.start(t)
	rig.putSecrets(t, "support", rig.goodSecrets())
	for kind := range rig.goodSecrets() {
		rig.setLabel(t, "support-"+kind, "tenant")
	}
	tenant := rig.newTenant("support")
	rig.Create(t, tenant)
	rig.until(t, tenant, isReady)
	rig.PutSecret(t, "database-admin", map[string]string{"X-Password": "of-another-program"})
	rig.setLabel(t, "database-admin", "database")
	rig.change(t, tenant, func(t *v1alpha1.Tenant) {
		t.Spec.Audio = &v1alpha1.AudioSpec{
			AgentURL:         "wss://bot.acme.example/stream",
			HeadersSecretRef: &v1alpha1.SecretReference{Name: "database-admin"},
		}
	})
	rig.until(t, tenant, stalledFor(v1alpha1.ReasonSecretNotLabelled, "database-admin"))
	if config := rig.config(t, tenant); config.Audio != nil || config.Webhooks == nil {
		t.Errorf("not the last good config: audio %v, webhooks %v", config.Audio, config.Webhooks)
	}
}
