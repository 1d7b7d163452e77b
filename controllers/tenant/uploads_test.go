package tenant

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
)

// TestReadyReflectsUploads : a Tenant whose recordings are not uploaded is not Ready, with the words of the
// condition that the upload Job's controller writes, keeps its webhooks, and is Ready again with it.
func TestReadyReflectsUploads(t *testing.T) {
	r := newRig(t)
	r.start(t)
	tenant := r.ready(t, "support")
	r.until(t, tenant, has(v1alpha1.ConditionUploadsHealthy, metav1.ConditionTrue, v1alpha1.ReasonUploadsHealthy))
	write := func(f func()) {
		t.Helper()
		base := tenant.DeepCopy()
		f()
		if err := r.Client.Status().Patch(t.Context(), tenant, client.MergeFrom(base)); err != nil {
			t.Fatal(err)
		}
	}
	fails := func(reason, message string) func() {
		return func() {
			conditions.Set(tenant, v1alpha1.ConditionUploadsHealthy, metav1.ConditionFalse, reason, message)
		}
	}
	write(fails(v1alpha1.ReasonUploadPodsRejected, "exceeded quota: compute"))
	r.until(t, tenant, reconcilingFor(v1alpha1.ReasonUploadPodsRejected, "webhooks are accepted",
		"exceeded quota: compute"))
	r.config(t, tenant)
	write(fails(v1alpha1.ReasonUploadPodsRejected, "exceeded quota: another"))
	r.until(t, tenant, reconcilingFor(v1alpha1.ReasonUploadPodsRejected, "exceeded quota: another"))
	write(func() { conditions.SetUploadsHealthy(tenant) })
	r.until(t, tenant, isReady)
}
