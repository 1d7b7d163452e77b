package tenant

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// TestAudio verifies the compiled form of spec.audio, and whether the verifiers of the audio or of the webhooks apply.
func TestAudio(t *testing.T) {
	token := &tenantconfig.Token{Query: "token", Secrets: []secret.Sensitive{"token-of-the-audio"}}
	theirs := &tenantconfig.Token{Query: "token", Secrets: []secret.Sensitive{"token-of-webhooks"}}
	ref := &v1alpha1.SecretReference{Name: "s"}
	yes := true
	for name, tc := range map[string]struct {
		verification *v1alpha1.AudioVerification
		webhooks     *tenantconfig.Webhooks
		want         *tenantconfig.Webhooks
		wantOneTime  bool
	}{
		"its own": {&v1alpha1.AudioVerification{
			TokenSecretRef: ref,
			Require:        v1alpha1.RequireAll,
		}, &tenantconfig.Webhooks{Token: theirs},
			&tenantconfig.Webhooks{RequireAll: true, Token: token}, false},
		"the webhooks'": {nil, &tenantconfig.Webhooks{
			Token:     theirs,
			Signature: &tenantconfig.Signature{},
		}, &tenantconfig.Webhooks{Token: theirs}, false},
		"with one-time only": {
			&v1alpha1.AudioVerification{OneTimeToken: &yes},
			&tenantconfig.Webhooks{Token: theirs},
			&tenantconfig.Webhooks{Token: theirs},
			true,
		},
		"signature only": {nil, &tenantconfig.Webhooks{Signature: &tenantconfig.Signature{}}, nil, false},
		"all, with a signature": {nil, &tenantconfig.Webhooks{
			RequireAll: true,
			Token:      theirs,
			Signature:  &tenantconfig.Signature{},
		}, nil, false},
		"none": {nil, nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &scope{
				tenant:  &v1alpha1.Tenant{},
				headers: &corev1.Secret{Data: map[string][]byte{"X-Key": []byte("key")}},
				verifiers: map[string]*corev1.Secret{
					fieldAudioToken: {Data: map[string][]byte{"a": []byte("token-of-the-audio")}},
				},
			}
			s.tenant.Spec.Audio = &v1alpha1.AudioSpec{AgentURL: "wss://bot.acme.example", Verification: tc.verification}
			got, err := audio(s, tc.webhooks)
			want := &tenantconfig.Audio{
				AgentURL:     "wss://bot.acme.example",
				Protocol:     "exotel",
				MaxStreams:   200,
				Verifiers:    tc.want,
				OneTimeToken: tc.wantOneTime,
				Headers:      map[string]secret.Sensitive{"X-Key": "key"},
			}
			if diff := cmp.Diff(want, got, plain); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
	if got, err := audio(&scope{tenant: &v1alpha1.Tenant{}}, nil); got != nil || err != nil {
		t.Errorf("without audio: %v, %v", got, err)
	}
}
