package uploadjob

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	hooksv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/testkit/certtest"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// TestNamespaceInDeletion deletes the namespace of upload Jobs. The API server then refuses each new object in it:
// https://github.com/kubernetes/kubernetes/blob/master/plugin/pkg/admission/namespace/lifecycle/admission.go
func TestNamespaceInDeletion(t *testing.T) {
	t.Parallel()
	rig := start(t, 0)
	tenant := healthyTenant(t, rig, "support")
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: rig.Uploads}}
	if err := rig.Client.Delete(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	enqueue(t, rig, tenant.ID(), 1)
	waitForUploads(t, rig, tenant, v1alpha1.ReasonUploadPodsRejected, "cannot be created", "it is being terminated")
	if n := creates(rig); n > 5 {
		t.Errorf("%d attempts to create the Job in a few seconds", n)
	}
	if err := rig.Client.Get(t.Context(), client.ObjectKeyFromObject(ns), ns); err != nil {
		t.Fatal(err)
	}
	ns.Spec.Finalizers = nil // as the namespace controller does once all of it is deleted
	if err := rig.Client.SubResource("finalize").Update(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	again := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: rig.Uploads}}
	eventually.Succeeds(t, func(ctx context.Context) error {
		if err := rig.Client.Create(ctx, again); err != nil {
			return err
		}
		return nil
	})
	waitForPods(t, rig, tenant, 1)
	recovers(t, rig, tenant)
}

// recovers uploads what there is, and waits until the Tenant's uploads are healthy.
func recovers(t *testing.T, r *controllertest.Rig, tenant *v1alpha1.Tenant) {
	t.Helper()
	pods := r.UploadPods(t, tenant.ID())
	complete(t, pods, claim(t, pods, 1, time.Minute)[0])
	waitForUploads(t, r, tenant, v1alpha1.ReasonUploadsHealthy)
}

// creates is how often the controller has tried to create a Job.
func creates(r *controllertest.Rig) (n int) {
	for _, w := range r.Writes.All() {
		if w.String() == "create *v1.Job" {
			n++
		}
	}
	return n
}

// rejecting serves an admission webhook that rejects all objects with a message until it is told otherwise.
func rejecting(t *testing.T, message string) (config hooksv1.WebhookClientConfig, stop func()) {
	t.Helper()
	var stopped atomic.Bool
	authority := certtest.New(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(req.Body).Decode(&review); err != nil {
			t.Error(err)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{
			UID:     review.Request.UID,
			Allowed: stopped.Load(),
			Result:  &metav1.Status{Message: message},
		}
		_ = json.NewEncoder(w).Encode(review)
	}))
	certificate := authority.Sign(t, "127.0.0.1", time.Now().Add(time.Hour))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	t.Cleanup(server.Close)
	config = hooksv1.WebhookClientConfig{URL: &server.URL, CABundle: []byte(authority.PEM)}
	return config, func() { stopped.Store(true) }
}

// anyJob returns a Job that the API server accepts.
func anyJob(namespace string) *batchv1.Job {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "any"}}
	job.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	job.Spec.Template.Spec.Containers = []corev1.Container{{Name: "any", Image: "any"}}
	return job
}

// TestWebhookRejectsJobs has an admission webhook of the platform reject upload Jobs. The Tenant says so in the
// webhook's words, however long they are, and recovers by itself.
func TestWebhookRejectsJobs(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ message, want string }{
		"a sentence": {"images must come from registry.acme.example", "images must come from registry.acme.example"},
		"a long one": {"no: " + strings.Repeat("the policy is long\n", 10_000), "no: the policy is long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig := start(t, 0)
			tenant := healthyTenant(t, rig, "support")
			clientConfig, stop := rejecting(t, tc.message)
			hook := &hooksv1.ValidatingWebhookConfiguration{
				ObjectMeta: metav1.ObjectMeta{Name: rig.Uploads},
				Webhooks: []hooksv1.ValidatingWebhook{{
					Name:                    "jobs.acme.example",
					ClientConfig:            clientConfig,
					AdmissionReviewVersions: []string{"v1"},
					SideEffects:             ptr.To(hooksv1.SideEffectClassNone),
					NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{
						corev1.LabelMetadataName: rig.Uploads,
					}},
					Rules: []hooksv1.RuleWithOperations{{
						Operations: []hooksv1.OperationType{hooksv1.Create},
						Rule: hooksv1.Rule{
							APIGroups:   []string{"batch"},
							APIVersions: []string{"v1"},
							Resources:   []string{"jobs"},
						},
					}},
				}},
			}
			if err := rig.Client.Create(t.Context(), hook); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = rig.Client.Delete(t.Context(), hook) })
			eventually.Succeeds(t, func(ctx context.Context) error { // the API server asks a new webhook after a moment
				err := rig.Client.Create(ctx, anyJob(rig.Uploads), client.DryRunAll)
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					return fmt.Errorf("the webhook does not reject a Job: %w", err)
				}
				return nil
			})
			enqueue(t, rig, tenant.ID(), 1)
			waitForUploads(t, rig, tenant, v1alpha1.ReasonUploadPodsRejected, "jobs.acme.example", tc.want)
			stop()
			waitForPods(t, rig, tenant, 1)
			recovers(t, rig, tenant)
		})
	}
}
