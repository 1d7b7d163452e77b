package tenant

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// verifierSecret is a Secret that a verifier needs. Every key of it is one active secret.
type verifierSecret struct {
	field, what string // of the spec, such as "webhooks.token.secretRef"; and what each value is
	ref         v1alpha1.SecretReference
	fault       func(value string) string // why a value will not do; empty: it will
}

// verifierSecrets are the Secrets of the verifiers that the spec names, in a fixed order.
func verifierSecrets(spec *v1alpha1.TenantSpec) (list []verifierSecret) {
	webhooksSpec := &spec.Webhooks
	if webhooksSpec.Signature != nil {
		list = append(
			list, verifierSecret{fieldSignature, "signing secret", webhooksSpec.Signature.SecretRef, signingFault},
		)
	}
	if webhooksSpec.StandardWebhooks != nil {
		list = append(list, verifierSecret{
			fieldStandard,
			"Standard Webhooks secret",
			webhooksSpec.StandardWebhooks.SecretRef,
			standardFault,
		})
	}
	if webhooksSpec.Token != nil {
		list = append(list, verifierSecret{fieldToken, "token", webhooksSpec.Token.SecretRef, tokenFault})
	}
	if webhooksSpec.BasicAuth != nil {
		list = append(list, verifierSecret{fieldBasic, "password", webhooksSpec.BasicAuth.SecretRef, passwordFault})
	}
	return append(list, audioSecrets(spec.Audio)...)
}

// Fields of the spec that name the verifiers' Secrets.
const (
	fieldSignature = "webhooks.signature.secretRef"
	fieldStandard  = "webhooks.standardWebhooks.secretRef"
	fieldToken     = "webhooks.token.secretRef" //nolint:gosec // the name of a field
	fieldBasic     = "webhooks.basicAuth.secretRef"
)

// readVerifiers reads the Secrets of the verifiers and checks every value in them.
func (r *Reconciler) readVerifiers(ctx context.Context, s *scope) error {
	s.verifiers = map[string]*corev1.Secret{}
	for _, v := range verifierSecrets(&s.tenant.Spec) {
		secret, err := r.readSecret(ctx, s, v.field, v.ref)
		if err != nil {
			return err
		}
		if err := v.check(s, secret); err != nil {
			return err
		}
		s.verifiers[v.field] = secret
	}
	return nil
}

// check stalls the Tenant if the Secret is empty, has too many keys, or has a value with a fault.
func (v verifierSecret) check(s *scope, secret *corev1.Secret) error {
	const reason = v1alpha1.ReasonSecretKeyMissing
	switch n := len(secret.Data); {
	case n == 0:
		return invalidCredentials(
			s, reason, "Secret %q, named by spec.%s, is empty: add a %s under any key", secret.Name, v.field, v.what,
		)
	case n > tenantconfig.MaxSecrets:
		return invalidCredentials(
			s,
			reason,
			"Secret %q, named by spec.%s, has %d keys and may have %d, each an active %s: remove the old ones",
			secret.Name,
			v.field,
			n,
			tenantconfig.MaxSecrets,
			v.what,
		)
	}
	// In the order of the keys, so that of several faults always the same one is told of.
	for _, k := range slices.Sorted(maps.Keys(secret.Data)) {
		if fault := v.fault(string(secret.Data[k])); fault != "" {
			return invalidValue(s, v.field, secret, k, fault)
		}
	}
	return nil
}

// signingFault takes any bytes, and holds those that are text to what text must be.
func signingFault(value string) string {
	switch {
	case len(value) < tenantconfig.MinSecretLength:
		return fmt.Sprintf(
			"is shorter than %d bytes: a signing secret must be too long to guess", tenantconfig.MinSecretLength,
		)
	case len(value) > tenantconfig.MaxSecretLength:
		return tooLong
	case plainText(strings.Trim(value, " \t\r\n\x00")):
		return secret.Fault(value)
	}
	return ""
}

// plainText reports whether s is valid UTF-8 without control characters.
func plainText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// standardFault returns what is wrong with a Standard Webhooks secret, or the empty string.
func standardFault(value string) string {
	if fault := secret.Fault(value); fault != "" {
		return fault
	}
	key, err := tenantconfig.DecodeStandardSecret(value)
	switch {
	case err != nil:
		return fmt.Sprintf(
			"%v: a Standard Webhooks secret is whsec_ and at least %d bytes in base64",
			err,
			tenantconfig.MinSecretLength,
		)
	case len(key) < tenantconfig.MinSecretLength:
		return fmt.Sprintf(
			"is shorter than %d bytes behind whsec_, once decoded: it must be too long to guess",
			tenantconfig.MinSecretLength,
		)
	case len(value) > tenantconfig.MaxSecretLength:
		return tooLong
	}
	return ""
}

// tokenFault returns what is wrong with a URL token, or the empty string. A token must survive in a URL unchanged.
func tokenFault(value string) string {
	if fault := secret.Fault(value); fault != "" {
		return fault
	}
	switch {
	case len(value) < tenantconfig.MinSecretLength:
		return fmt.Sprintf("is shorter than %d characters: a token must be too long to guess, "+
			"such as openssl rand -hex 32 makes it", tenantconfig.MinSecretLength)
	case len(value) > tenantconfig.MaxSecretLength:
		return tooLong
	case strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c > '~' }):
		return "has a blank or a character beyond ASCII, which a URL does not carry as it is: make one with openssl rand -hex 32"
	}
	return ""
}

// passwordFault returns what is wrong with a password, or the empty string.
func passwordFault(value string) string {
	if fault := secret.Fault(value); fault != "" {
		return fault
	}
	switch {
	case len(value) < tenantconfig.MinPasswordLength:
		return fmt.Sprintf(
			"is shorter than %d bytes: a password must be too long to guess", tenantconfig.MinPasswordLength,
		)
	case len(value) > tenantconfig.MaxSecretLength:
		return tooLong
	}
	return ""
}

var tooLong = fmt.Sprintf("is longer than %d bytes: take a shorter one", tenantconfig.MaxSecretLength)
