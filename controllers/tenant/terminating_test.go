package tenant

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// terminate deletes a namespace. No controller empties it here, so it stays in deletion until end, which makes it
// again.
func (r *subject) terminate(t *testing.T, name string) (end func()) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := r.Client.Delete(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := r.Client.Get(t.Context(), client.ObjectKeyFromObject(ns), ns); err != nil {
			t.Fatal(err)
		}
		ns.Spec.Finalizers = nil
		if err := r.Client.SubResource("finalize").Update(t.Context(), ns); err != nil {
			t.Fatal(err)
		}
		eventually.Within(soon).Succeeds(t, func(ctx context.Context) error {
			return r.Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
		})
	}
}

// TestNamespaceInDeletion has a namespace of the platform be in deletion when a Tenant is created. The Tenant reports
// the API server's words, and recovers by itself.
func TestNamespaceInDeletion(t *testing.T) {
	for name, of := range map[string]func(*subject) string{
		"tenant configs": func(r *subject) string { return r.Work },
		"upload configs": func(r *subject) string { return r.Uploads },
	} {
		t.Run(name, func(t *testing.T) {
			r := newSubject(t)
			r.start(t)
			end := r.terminate(t, of(r))
			r.putSecrets(t, "support", r.goodSecrets())
			tenant := r.newTenant("support")
			r.Create(t, tenant)
			r.until(t, tenant, reconcilingFor(v1alpha1.ReasonConfigFailed, "will be tried again",
				"is being terminated"))
			end()
			r.until(t, tenant, isReady)
		})
	}
}

// TestTenantsNamespaceInDeletion deletes the namespace of a Tenant, and with it the Tenant. It ends as always: what
// cannot be created any more, such as an event, is not needed for that.
func TestTenantsNamespaceInDeletion(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "support")
	rig.terminate(t, rig.Namespace)
	if err := rig.Client.Delete(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	eventually.Within(soon).Succeeds(t, func(ctx context.Context) error {
		err := rig.Client.Get(ctx, client.ObjectKeyFromObject(tenant), tenant)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("the Tenant is still there: %v", tenant.Status.Conditions)
	})
}
