package tenant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// names lists the verifiers of a config with the number of their values; "nothing" refuses everything.
func names(w *tenantconfig.Webhooks) string {
	if w == nil {
		return "nothing"
	}
	var list []string
	if w.Signature != nil {
		list = append(list, fmt.Sprint("signature ", len(w.Signature.Secrets)))
	}
	if w.Standard != nil {
		list = append(list, fmt.Sprint("standard ", len(w.Standard.Secrets)))
	}
	if w.Token != nil {
		list = append(list, fmt.Sprint("token ", len(w.Token.Secrets)))
	}
	if w.Basic != nil {
		list = append(list, fmt.Sprint("basic ", len(w.Basic.Users)))
	}
	if len(w.AllowedCIDRs) > 0 {
		list = append(list, "ranges")
	}
	return strings.Join(list, ", ")
}

func isStalled(t *v1alpha1.Tenant) error {
	if find(t, v1alpha1.ConditionStalled) == nil {
		return errors.New("not stalled")
	}
	return nil
}

func removeSecret(t *testing.T, r *subject, name string) {
	t.Helper()
	r.Delete(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: name}})
}

// TestVerifierCloses deletes or empties the Secret of a verifier and looks at what the data plane accepts after the
// grace period.
func TestVerifierCloses(t *testing.T) {
	t.Parallel()
	requireAny := func(t *v1alpha1.Tenant) { t.Spec.Webhooks.Require = v1alpha1.RequireAny }
	for name, tc := range map[string]struct {
		spec         func(*v1alpha1.Tenant)
		revoke       func(*testing.T, *subject)
		wantField    string
		wantWebhooks string
		wantAudio    string
	}{
		"the only verifier": {
			spec: func(t *v1alpha1.Tenant) {
				token := &v1alpha1.TokenSpec{SecretRef: v1alpha1.SecretReference{Name: "verifiers-tokens"}}
				t.Spec.Webhooks = v1alpha1.WebhooksSpec{Token: token}
			},
			revoke:       func(t *testing.T, r *subject) { removeSecret(t, r, "verifiers-tokens") },
			wantField:    fieldToken,
			wantWebhooks: "nothing",
			wantAudio:    "token 1, basic 1",
		},
		"a verifier next to others, require Any": {
			spec:         requireAny,
			revoke:       func(t *testing.T, r *subject) { removeSecret(t, r, "verifiers-signing") },
			wantField:    fieldSignature,
			wantWebhooks: "standard 1, token 1, basic 2, ranges",
			wantAudio:    "token 1, basic 1",
		},
		"a verifier next to others, require All": {
			revoke:       func(t *testing.T, r *subject) { removeSecret(t, r, "verifiers-users") },
			wantField:    fieldBasic,
			wantWebhooks: "nothing",
			wantAudio:    "token 1, basic 1",
		},
		"an emptied Secret": {
			spec: requireAny,
			revoke: func(t *testing.T, r *subject) {
				r.PutSecret(t, "verifiers-standard", map[string]string{"current": ""})
			},
			wantField:    fieldStandard,
			wantWebhooks: "signature 2, token 1, basic 2, ranges",
			wantAudio:    "token 1, basic 1",
		},
		"an emptied key next to a value": {
			revoke: func(t *testing.T, r *subject) {
				r.PutSecret(t, "verifiers-signing", map[string]string{"a": "", "b": verifierData()["signing"]["b"]})
			},
			wantField:    fieldSignature,
			wantWebhooks: "signature 1, standard 1, token 1, basic 2, ranges",
			wantAudio:    "token 1, basic 1",
		},
		"a verifier of audio": {
			revoke:       func(t *testing.T, r *subject) { removeSecret(t, r, "agent-users") },
			wantField:    fieldAudioBasic,
			wantWebhooks: "signature 2, standard 1, token 1, basic 2, ranges",
			wantAudio:    "token 1",
		},
		"the webhooks' verifier, which counts for audio too": {
			spec: func(t *v1alpha1.Tenant) {
				requireAny(t)
				t.Spec.Audio.Verification = nil
			},
			revoke:       func(t *testing.T, r *subject) { removeSecret(t, r, "verifiers-tokens") },
			wantField:    fieldToken,
			wantWebhooks: "signature 2, standard 1, basic 2, ranges",
			wantAudio:    "basic 2, ranges",
		},
		"every Secret of the Tenant at once": {
			spec: requireAny,
			revoke: func(t *testing.T, r *subject) {
				removeSecret(t, r, "support-exotel")
				removeSecret(t, r, "support-bucket")
				for name := range verifierData() {
					removeSecret(t, r, "verifiers-"+name)
				}
			},
			wantField:    fieldSignature,
			wantWebhooks: "ranges",
			wantAudio:    "token 1, basic 1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSubject(t)
			r.grace = time.Millisecond
			r.start(t)
			tenant := r.allVerified(t, tc.spec)
			tc.revoke(t, r)
			r.until(t, tenant, both(
				isStalled,
				has(
					v1alpha1.ConditionVerifierMissing,
					metav1.ConditionTrue,
					v1alpha1.ReasonVerifierClosed,
					"spec."+tc.wantField,
				),
			))
			eventually.Within(soon).Succeeds(t, func(context.Context) error {
				config := r.config(t, tenant)
				got := names(config.Webhooks)
				audio := names(config.Audio.Verifiers)
				if got != tc.wantWebhooks || audio != tc.wantAudio {
					return fmt.Errorf(
						"webhooks accept %q and audio %q, want %q and %q", got, audio, tc.wantWebhooks, tc.wantAudio,
					)
				}
				return nil
			})
			r.putSecrets(t, "support", r.goodSecrets())
			r.putVerifiers(t)
			r.until(t, tenant, both(isReady, noMissingVerifier))
		})
	}
}

// allVerified makes a Tenant with every verifier of webhooks and audio.
func (r *subject) allVerified(t *testing.T, change func(*v1alpha1.Tenant)) *v1alpha1.Tenant {
	t.Helper()
	r.putVerifiers(t)
	return r.ready(t, "support", func(t *v1alpha1.Tenant) {
		allVerifiers(&t.Spec.Webhooks, "verifiers-")
		withAgent(t)
		if change != nil {
			change(t)
		}
	})
}

func (r *subject) putVerifiers(t *testing.T) {
	t.Helper()
	for name, data := range verifierData() {
		r.PutSecret(t, "verifiers-"+name, data)
	}
	for name, data := range agentSecrets(t) {
		r.PutSecret(t, "agent-"+name, data)
	}
}

func noMissingVerifier(t *v1alpha1.Tenant) error {
	if condition := find(t, v1alpha1.ConditionVerifierMissing); condition != nil {
		return fmt.Errorf("condition %v must be absent", *condition)
	}
	return nil
}

// TestVerifierGrace deletes a Secret and creates it again, as some rotations do: nothing is closed in the grace period.
func TestVerifierGrace(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.grace = time.Hour
	rig.start(t)
	tenant := rig.allVerified(t, nil)
	removeSecret(t, rig, "verifiers-signing")
	waits := has(v1alpha1.ConditionVerifierMissing, metav1.ConditionTrue, v1alpha1.ReasonVerifierGracePeriod,
		`"verifiers-signing"`, "1h0m0s")
	rig.until(t, tenant, both(stalledFor(v1alpha1.ReasonSecretNotFound, `"verifiers-signing"`), waits))
	if diff := cmp.Diff(wantWebhooks(), rig.config(t, tenant).Webhooks, plain); diff != "" {
		t.Errorf("in the grace period (-want +got):\n%s", diff)
	}
	rig.PutSecret(t, "verifiers-signing", map[string]string{"new": "signing-secret-next-00000"})
	rig.until(t, tenant, both(isReady, noMissingVerifier))
	got := rig.config(t, tenant).Webhooks.Signature.Secrets
	if !slices.Equal(got, []secret.Sensitive{"signing-secret-next-00000"}) {
		t.Errorf("after the rotation the config has %d secrets", len(got))
	}
}

// failingReader returns an error for one Secret.
type failingReader struct {
	client.Reader
	name string
}

func (f failingReader) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if key.Name == f.name {
		return errors.New("the API server does not answer")
	}
	return f.Reader.Get(ctx, key, o, opts...)
}

// TestVerifierUnreadable verifies that an API server that does not answer leaves the last good verifiers in force,
// although a Secret is missing.
func TestVerifierUnreadable(t *testing.T) {
	rig := newSubject(t)
	stop := rig.start(t)
	tenant := rig.allVerified(t, nil)
	stop()
	operator := rig.direct()
	operator.VerifierGrace = time.Nanosecond
	operator.APIReader = failingReader{Reader: operator.APIReader, name: "verifiers-signing"}
	removeSecret(t, rig, "support-exotel")
	req := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(tenant)}
	_, err := operator.Reconcile(log.IntoContext(t.Context(), rig.Logger()), req)
	if err == nil || !strings.Contains(err.Error(), "verifiers-signing") {
		t.Errorf("got %v, want the error of the API server", err)
	}
	if diff := cmp.Diff(wantWebhooks(), rig.config(t, tenant).Webhooks, plain); diff != "" {
		t.Errorf("not the last good config (-want +got):\n%s", diff)
	}
}
