package backfill

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/secretlabel"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

// TestCredentialsNeedTheLabel reads Exotel credentials for a run: those of a Secret without the required label are
// not used, even if the Tenant is Ready by a spec that named another Secret.
func TestCredentialsNeedTheLabel(t *testing.T) {
	env := kubetest.Get(t)
	ns := env.NewNamespace(t)
	data := map[string]string{"apiKey": "key", "apiToken": "token"}
	for name, labels := range map[string]map[string]string{"plain": nil, "labelled": {"voice.caly.dev/use": "tenant"}} {
		meta := metav1.ObjectMeta{Namespace: ns, Name: name, Labels: labels}
		if err := env.Client.Create(t.Context(), &corev1.Secret{ObjectMeta: meta, StringData: data}); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		label  secretlabel.Label
		secret string
		want   bool
	}{
		"required, without the label": {label: secretlabel.Default, secret: "plain"},
		"required, with the label":    {label: secretlabel.Default, secret: "labelled", want: true},
		"not required":                {secret: "plain", want: true},
	} {
		tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "support"}}
		tenant.Spec.Exotel.CredentialsSecretRef.Name = tc.secret
		reconciler := &Reconciler{APIReader: env.Client, SecretLabel: tc.label}
		got, err := reconciler.readCredentials(t.Context(), tenant)
		if err != nil || (got != nil) != tc.want {
			t.Errorf("%s: credentials %v, %v, want %v", name, got != nil, err, tc.want)
		}
	}
}
