package tenant

import (
	"fmt"
	"net"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// uploadPod makes an upload pod of the Tenant on a node.
func (r *subject) uploadPod(t *testing.T, tenant *v1alpha1.Tenant, name, node string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: r.Uploads,
			Name:      name,
			Labels: map[string]string{
				v1alpha1.LabelTenant:          tenant.Name,
				v1alpha1.LabelTenantNamespace: tenant.Namespace,
				v1alpha1.LabelComponent:       "upload",
			},
		},
		Spec: podSpec(),
	}
	pod.Spec.NodeName = node
	r.Create(t, pod)
	return pod
}

// TestDeletionGoesOnWithoutADeadNode has a pod that never ends, as its node does not answer: the Tenant names
// both, takes the leases of the pod back, and is deleted all the same. Before, it waited for ever and named
// neither.
func TestDeletionGoesOnWithoutADeadNode(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.abandon = 5 * time.Second
	rig.start(t)
	tenant := rig.ready(
		t, "support", func(t *v1alpha1.Tenant) { t.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete },
	)
	rig.fill(t, tenant)
	queued := store.NewRecording{ID: "00000000000000f1", SourceURL: "https://recordings.exotel.com/f1.mp3"}
	if _, err := rig.DB.Enqueue(t.Context(), tenant.ID(), "f1", queued); err != nil {
		t.Fatal(err)
	}
	worker := storetest.Open(t, rig.upload(t, tenant).DatabaseURL.Reveal(), store.OpenUpload)
	held, err := worker.Claim(t.Context(), "dead-pod", 10, time.Hour)
	if err != nil || len(held) == 0 {
		t.Fatalf("claimed %d, %v", len(held), err)
	}
	pod := rig.uploadPod(t, tenant, "upload-1", "n3")
	ended := rig.uploadPod(t, tenant, "upload-2", "n4")
	ended.Status.Phase = corev1.PodSucceeded // its Job is not there to take its finalizer off
	if err := rig.Client.Status().Update(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	id := tenant.DeepCopy()
	rig.Delete(t, tenant)
	rig.until(t, tenant, reconcilingFor(v1alpha1.ReasonDeleting, "waiting for the last upload pod to end",
		rig.Uploads+"/upload-1", `node "n3"`))
	if err := rig.Client.Delete(t.Context(), pod, client.GracePeriodSeconds(1)); err != nil {
		t.Fatal(err)
	}
	rig.until(t, tenant, reconcilingFor(v1alpha1.ReasonDeleting, "should have ended at", "goes on without it at"))
	if still, err := worker.Heartbeat(t.Context(), "dead-pod", []string{held[0].ID}, time.Hour); err != nil ||
		len(still) != 0 {
		t.Errorf("the pod still holds %v, %v", still, err)
	}
	rig.UntilDeleted(t, tenant)
	rig.nothingLeft(t, id)
	if n := rig.countObjects(t, id.ID()); n != 0 {
		t.Errorf("%d objects, want none", n)
	}
}

// TestDeletionReadsTheSpec breaks what the deletion needs and then does what the condition asks for.
func TestDeletionReadsTheSpec(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + listener.Addr().String()
	_ = listener.Close()
	for name, tc := range map[string]struct {
		breaks, corrects func(*testing.T, *subject, *v1alpha1.Tenant)
	}{
		"endpoint": {
			breaks: func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
				r.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Recordings.Endpoint = closed })
			},
			corrects: func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
				r.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Recordings.Endpoint = r.s3.Endpoint })
			},
		},
		"Secret": {
			breaks: func(t *testing.T, r *subject, _ *v1alpha1.Tenant) {
				r.PutSecret(t, "support-bucket", map[string]string{
					"accessKeyID":     r.s3.AccessKey,
					"secretAccessKey": "of-another",
				})
			},
			corrects: func(t *testing.T, r *subject, _ *v1alpha1.Tenant) {
				r.PutSecret(t, "support-bucket", r.goodSecrets()["bucket"])
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSubject(t)
			r.start(t)
			tenant := r.ready(t, "support",
				func(t *v1alpha1.Tenant) { t.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete })
			r.fill(t, tenant)
			tc.breaks(t, r, tenant)
			r.until(t, tenant, func(t *v1alpha1.Tenant) error {
				if condition := find(t, v1alpha1.ConditionReady); condition.Status == metav1.ConditionTrue {
					return fmt.Errorf("it is Ready still")
				}
				return nil
			})
			id := tenant.DeepCopy()
			r.Delete(t, tenant)
			r.until(t, tenant, reconcilingFor(v1alpha1.ReasonDeleting, "could not be deleted",
				"correct spec.recordings or the Secret"))
			tc.corrects(t, r, tenant)
			r.UntilDeleted(t, tenant)
			r.nothingLeft(t, id)
			if n := r.countObjects(t, id.ID()); n != 0 {
				t.Errorf("%d objects, want none", n)
			}
		})
	}
}
