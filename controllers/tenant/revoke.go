package tenant

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// defaultVerifierGrace is the time during which a verifier still accepts its last secrets after its Secret was
// deleted or emptied. A rotation that deletes the Secret and creates it again loses no webhook in that time.
const defaultVerifierGrace = time.Minute

// revoked is a verifier whose Secret does not exist or has an empty value.
type revoked struct {
	verifierSecret
	held  map[string][]byte // what the Secret still holds
	fault string            // what is wrong with the Secret
}

// closeVerifiers removes the secrets of deleted and emptied Secrets from the published config. Reconcile calls it
// when the steps wrote no new config: then the last good config stays in force, and would accept the deleted secrets
// without an end.
func (r *Reconciler) closeVerifiers(ctx context.Context, s *scope) error {
	list, err := r.revokedVerifiers(ctx, s.tenant)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		conditions.Delete(s.tenant, v1alpha1.ConditionVerifierMissing)
		return nil
	}
	if wait := r.graceLeft(s.tenant); wait > 0 {
		s.ComeBack(wait)
		setMissing(
			s.tenant, v1alpha1.ReasonVerifierGracePeriod, list,
			fmt.Sprintf(
				"%s after the deletion Caly rejects every request that only the deleted values prove", r.grace(),
			),
		)
		return nil
	}
	setMissing(s.tenant, v1alpha1.ReasonVerifierClosed, list,
		"Caly rejects every request that only the deleted values prove")
	return r.changeConfig(ctx, s, func(config *tenantconfig.Tenant) bool {
		return closeConfig(config, &s.tenant.Spec, list)
	})
}

// revokedVerifiers reads the Secrets of all verifiers. Only the answer that a Secret does not exist counts as its
// deletion, never an error.
func (r *Reconciler) revokedVerifiers(ctx context.Context, t *v1alpha1.Tenant) (list []revoked, err error) {
	for _, v := range verifierSecrets(&t.Spec) {
		var secret corev1.Secret
		err := r.APIReader.Get(ctx, client.ObjectKey{Namespace: t.Namespace, Name: v.ref.Name}, &secret)
		switch {
		case apierrors.IsNotFound(err):
			list = append(list, revoked{verifierSecret: v, fault: "does not exist: create it"})
		case err != nil:
			return nil, fmt.Errorf("read Secret %s/%s: %w", t.Namespace, v.ref.Name, err)
		case emptied(&secret):
			list = append(list, revoked{
				verifierSecret: v,
				held:           secret.Data,
				fault:          "has no value or an empty one: add it or remove the key",
			})
		}
	}
	return list, nil
}

// emptied reports whether a Secret has no value, or an empty one.
func emptied(secret *corev1.Secret) bool {
	return len(secret.Data) == 0 || anyValue(secret.Data, func(b []byte) bool { return len(b) == 0 })
}

// anyValue reports whether one of the values satisfies is.
func anyValue(data map[string][]byte, is func([]byte) bool) bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(data)), is)
}

// grace returns how long a verifier whose Secret is missing stays in force.
func (r *Reconciler) grace() time.Duration {
	if r.VerifierGrace > 0 {
		return r.VerifierGrace
	}
	return defaultVerifierGrace
}

// graceLeft returns how much of the grace period is left. The condition holds its start, so that a restart of the
// operator does not begin another one.
func (r *Reconciler) graceLeft(t *v1alpha1.Tenant) time.Duration {
	if condition := find(t, v1alpha1.ConditionVerifierMissing); condition != nil {
		return r.grace() - time.Since(condition.LastTransitionTime.Time)
	}
	return r.grace()
}

// setMissing sets the condition for verifiers whose Secrets are missing or emptied.
func setMissing(t *v1alpha1.Tenant, reason string, list []revoked, consequence string) {
	var faults []string
	for _, v := range list {
		faults = append(faults, fmt.Sprintf("Secret %q, named by spec.%s, %s", v.ref.Name, v.field, v.fault))
	}
	message := strings.Join(faults, "; ") + ". " + consequence
	conditions.Set(t, v1alpha1.ConditionVerifierMissing, metav1.ConditionTrue, reason, message)
}

// closeConfig removes the values that no Secret holds any more from a config, and reports whether it changed it.
func closeConfig(config *tenantconfig.Tenant, spec *v1alpha1.TenantSpec, list []revoked) (changed bool) {
	for _, v := range list {
		ofAudio := strings.HasPrefix(v.field, "audio.")
		if !ofAudio {
			changed = closeVerifier(&config.Webhooks, v) || changed
		}
		if config.Audio != nil && (ofAudio || !ownVerifiers(spec.Audio)) {
			changed = closeVerifier(&config.Audio.Verifiers, v) || changed
		}
	}
	return changed
}

// ownVerifiers reports whether the audio has verifiers of its own. Without them the webhooks' verifiers count for it.
func ownVerifiers(a *v1alpha1.AudioSpec) bool {
	if a == nil || a.Verification == nil {
		return false
	}
	v := a.Verification
	return v.TokenSecretRef != nil || v.BasicAuthSecretRef != nil || len(v.AllowedCIDRs) > 0
}

// closeVerifier removes the values of one verifier that its Secret does not hold. A verifier without a value is
// removed. Where all verifiers are required, and where none is left, the verifiers become nil, which refuses
// everything.
func closeVerifier(verifiers **tenantconfig.Webhooks, v revoked) bool {
	webhooks := *verifiers
	if webhooks == nil {
		return false
	}
	before, left := retain(webhooks, v)
	if before == left {
		return false
	}
	if !webhooks.Configured() || (left == 0 && webhooks.RequireAll) {
		*verifiers = nil
	}
	return true
}

// retain keeps the held values of the verifier of a field, and returns how many values it had and has.
func retain(w *tenantconfig.Webhooks, v revoked) (before, left int) {
	switch {
	case v.field == fieldSignature && w.Signature != nil:
		before, left = retainHeld(&w.Signature.Secrets, v.holds)
		w.Signature = unlessEmpty(w.Signature, left)
	case v.field == fieldStandard && w.Standard != nil:
		before, left = retainHeld(&w.Standard.Secrets, v.holdsStandard)
		w.Standard = unlessEmpty(w.Standard, left)
	case (v.field == fieldToken || v.field == fieldAudioToken) && w.Token != nil:
		before, left = retainHeld(&w.Token.Secrets, v.holds)
		w.Token = unlessEmpty(w.Token, left)
	case (v.field == fieldBasic || v.field == fieldAudioBasic) && w.Basic != nil:
		before, left = retainHeld(&w.Basic.Users, v.holdsUser)
		w.Basic = unlessEmpty(w.Basic, left)
	}
	return before, left
}

// retainHeld drops the values that holds rejects, and returns the numbers before and after.
func retainHeld[T any](list *[]T, holds func(T) bool) (before, left int) {
	before = len(*list)
	*list = slices.DeleteFunc(*list, func(value T) bool { return !holds(value) })
	return before, len(*list)
}

// unlessEmpty returns nil for a verifier without values. A verifier without values would refuse all webhooks.
func unlessEmpty[T any](verifier *T, values int) *T {
	if values == 0 {
		return nil
	}
	return verifier
}

// holds reports whether the Secret still had this value when it was last read.
func (v revoked) holds(secret secret.Sensitive) bool {
	return anyValue(v.held, func(b []byte) bool { return string(b) == secret.Reveal() })
}

// holdsStandard reports whether a value stands for a key of Standard Webhooks.
func (v revoked) holdsStandard(key secret.Sensitive) bool {
	return anyValue(v.held, func(b []byte) bool {
		decoded, err := tenantconfig.DecodeStandardSecret(string(b))
		return err == nil && decoded == key
	})
}

// holdsUser reports whether the Secret still had this user and password when it was last read.
func (v revoked) holdsUser(u tenantconfig.User) bool {
	return string(v.held[u.Name]) == u.Password.Reveal()
}
