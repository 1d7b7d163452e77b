package tenant

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Fields of the spec that name the audio's Secrets.
const (
	fieldAudioToken   = "audio.verification.tokenSecretRef" //nolint:gosec // the name of a field
	fieldAudioBasic   = "audio.verification.basicAuthSecretRef"
	fieldAudioHeaders = "audio.headersSecretRef"
	fieldAudioCA      = "audio.caSecretRef"
)

// defaultMaxStreams and defaultProtocol are the API server's, for objects made before.
const (
	defaultMaxStreams = 200
	defaultProtocol   = v1alpha1.AudioProtocolExotel
)

// audioSecrets are the Secrets of the verifiers of audio.
func audioSecrets(a *v1alpha1.AudioSpec) (list []verifierSecret) {
	if a == nil || a.Verification == nil {
		return nil
	}
	if ref := a.Verification.TokenSecretRef; ref != nil {
		list = append(list, verifierSecret{fieldAudioToken, "token", *ref, tokenFault})
	}
	if ref := a.Verification.BasicAuthSecretRef; ref != nil {
		list = append(list, verifierSecret{fieldAudioBasic, "password", *ref, passwordFault})
	}
	return list
}

// readHeaders reads the headers that the agent is sent, and checks each of them.
func (r *Reconciler) readHeaders(ctx context.Context, s *scope) error {
	audioSpec := s.tenant.Spec.Audio
	if audioSpec == nil || audioSpec.HeadersSecretRef == nil {
		return nil
	}
	object, err := r.readSecret(ctx, s, fieldAudioHeaders, *audioSpec.HeadersSecretRef)
	if err != nil {
		return err
	}
	if n := len(object.Data); n == 0 || n > tenantconfig.MaxHeaders {
		return invalidCredentials(
			s,
			v1alpha1.ReasonSecretKeyMissing,
			"Secret %q, named by spec.%s, has %d keys and may have 1 to %d, each the name of a header",
			object.Name,
			fieldAudioHeaders,
			n,
			tenantconfig.MaxHeaders,
		)
	}
	for _, name := range slices.Sorted(maps.Keys(object.Data)) {
		value := string(object.Data[name])
		if fault := cmp.Or(tenantconfig.HeaderFault(name, value), secret.Fault(value)); fault != "" {
			return invalidValue(s, fieldAudioHeaders, object, name, fault)
		}
	}
	s.headers = object
	return nil
}

// readCA reads the authorities that sign the agent's certificate.
func (r *Reconciler) readCA(ctx context.Context, s *scope) (err error) {
	audioSpec := s.tenant.Spec.Audio
	if audioSpec == nil || audioSpec.CASecretRef == nil {
		return nil
	}
	s.agentCA, err = r.readAuthorities(ctx, s, fieldAudioCA, *audioSpec.CASecretRef)
	return err
}

// audio compiles where streams go; nil if the tenant takes none. The webhooks' verifiers are those that count without any of its own.
func audio(s *scope, webhooks *tenantconfig.Webhooks) (*tenantconfig.Audio, error) {
	spec := s.tenant.Spec.Audio
	if spec == nil {
		return nil, nil
	}
	a := &tenantconfig.Audio{
		AgentURL:   spec.AgentURL,
		Protocol:   string(orDefault(spec.Protocol, defaultProtocol)),
		Reconnect:  spec.Reconnect != nil && *spec.Reconnect,
		MaxStreams: int(spec.MaxStreams),
	}
	if a.MaxStreams == 0 {
		a.MaxStreams = defaultMaxStreams
	}
	if s.headers != nil {
		a.Headers = make(map[string]secret.Sensitive, len(s.headers.Data))
		for name := range s.headers.Data {
			a.Headers[name] = value(s.headers, name)
		}
	}
	a.CABundle = s.agentCA
	if captures(spec) {
		a.Capture = &tenantconfig.Capture{KeyTemplate: s.tenant.Spec.Recordings.KeyTemplate}
	}
	v := spec.Verification
	a.OneTimeToken = v != nil && v.OneTimeToken != nil && *v.OneTimeToken
	own, err := audioVerifiers(s, v)
	if a.Verifiers = own; own == nil {
		a.Verifiers = bodiless(webhooks)
	}
	return a, err
}

// captures tells whether streams are captured.
func captures(a *v1alpha1.AudioSpec) bool {
	return a != nil && a.Capture != nil && a.Capture.Enabled != nil && *a.Capture.Enabled
}

// audioVerifiers compiles the audio's own; nil if there is none.
func audioVerifiers(s *scope, spec *v1alpha1.AudioVerification) (*tenantconfig.Webhooks, error) {
	if spec == nil {
		return nil, nil
	}
	webhooks := &tenantconfig.Webhooks{RequireAll: spec.Require == v1alpha1.RequireAll}
	var err error
	if webhooks.AllowedCIDRs, err = ranges("audio.verification.allowedCIDRs", spec.AllowedCIDRs); err != nil {
		return nil, err
	}
	if spec.TokenSecretRef != nil {
		webhooks.Token = &tenantconfig.Token{
			Query:   tenantconfig.DefaultTokenQuery,
			Secrets: values(s.verifiers[fieldAudioToken]),
		}
	}
	if spec.BasicAuthSecretRef != nil {
		webhooks.Basic = basicAuth(s.verifiers[fieldAudioBasic])
	}
	if !webhooks.Configured() {
		return nil, nil
	}
	return webhooks, nil
}

// bodiless are the verifiers that look at no body, since streams have none; nil if none is left. Where all verifiers are required and
// one of them looks at a body, those that are left would be fewer than was asked for: then there are none.
func bodiless(w *tenantconfig.Webhooks) *tenantconfig.Webhooks {
	if w == nil || (w.RequireAll && (w.Signature != nil || w.Standard != nil)) {
		return nil
	}
	b := &tenantconfig.Webhooks{RequireAll: w.RequireAll, Token: w.Token, Basic: w.Basic, AllowedCIDRs: w.AllowedCIDRs}
	if !b.Configured() {
		return nil
	}
	return b
}
