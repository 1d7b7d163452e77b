package uploadjob

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// withCondition is a tenant as the tenant controller leaves it.
func healthyTenant(t *testing.T, r *controllertest.Rig, name string) *v1alpha1.Tenant {
	t.Helper()
	tenant := r.Tenant(t, name)
	base := tenant.DeepCopy()
	conditions.SetUploadsHealthy(tenant)
	if err := r.Client.Status().Patch(t.Context(), tenant, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
	return tenant
}

// waitForUploads waits until the condition is as wanted and says all parts.
func waitForUploads(t *testing.T, r *controllertest.Rig, tenant *v1alpha1.Tenant, reason string, parts ...string) {
	t.Helper()
	eventually.Succeeds(t, func(ctx context.Context) error {
		var o v1alpha1.Tenant
		if err := r.Client.Get(ctx, client.ObjectKeyFromObject(tenant), &o); err != nil {
			return err
		}
		condition := apimeta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionUploadsHealthy)
		if condition == nil || condition.Reason != reason ||
			(condition.Status == metav1.ConditionTrue) != (reason == v1alpha1.ReasonUploadsHealthy) {
			return fmt.Errorf("the condition is %+v, want %s", condition, reason)
		}
		for _, p := range parts {
			if !strings.Contains(condition.Message, p) {
				return fmt.Errorf("the message is %q, want %q in it", condition.Message, p)
			}
		}
		return nil
	})
}

// podOf makes a pod of a Job, as the Job controller does, with a status of its kubelet.
func podOf(t *testing.T, r *controllertest.Rig, j *batchv1.Job, name string, change func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: r.Uploads,
			Name:      name,
			Labels: map[string]string{
				batchv1.ControllerUidLabel: string(j.UID)},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "upload", Image: "caly:test"}}},
	}
	if err := r.Client.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	change(pod)
	if err := r.Client.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// TestRejectedPodsAreReported has a warning of the Job controller, and no pod.
func TestRejectedPodsAreReported(t *testing.T) {
	t.Parallel()
	rig := start(t, 0)
	tenant := healthyTenant(t, rig, "support")
	enqueue(t, rig, tenant.ID(), 1)
	j := waitForPods(t, rig, tenant, 1)
	for i, why := range []string{"an older warning",
		`Error creating: pods "upload-x" is forbidden: exceeded quota: compute`} {
		event := &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Namespace: rig.Uploads, GenerateName: "e-"},
			Type:           corev1.EventTypeWarning,
			Reason:         "FailedCreate",
			Message:        why,
			LastTimestamp:  metav1.NewTime(time.Now().Add(time.Duration(i) * time.Minute)),
			InvolvedObject: corev1.ObjectReference{Kind: "Job", Namespace: rig.Uploads, Name: j.Name, UID: j.UID},
		}
		if err := rig.Client.Create(t.Context(), event); err != nil {
			t.Fatal(err)
		}
	}
	waitForUploads(t, rig, tenant, v1alpha1.ReasonUploadPodsRejected, "exceeded quota: compute")
}

// TestRejectedJobIsReported has a quota of the upload namespace that allows no Job.
func TestRejectedJobIsReported(t *testing.T) {
	t.Parallel()
	rig := start(t, 0)
	tenant := healthyTenant(t, rig, "support")
	none := corev1.ResourceList{"count/jobs.batch": resource.MustParse("0")}
	resourceQuota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: rig.Uploads, Name: "no-jobs"},
		Spec:       corev1.ResourceQuotaSpec{Hard: none},
	}
	if err := rig.Client.Create(t.Context(), resourceQuota); err != nil {
		t.Fatal(err)
	}
	resourceQuota.Status = corev1.ResourceQuotaStatus{Hard: none, Used: none}
	if err := rig.Client.Status().Update(t.Context(), resourceQuota); err != nil {
		t.Fatal(err)
	}
	enqueue(t, rig, tenant.ID(), 1)
	waitForUploads(t, rig, tenant, v1alpha1.ReasonUploadPodsRejected, "cannot be created", "exceeded quota: no-jobs")
	if err := rig.Client.Delete(t.Context(), resourceQuota); err != nil {
		t.Fatal(err)
	}
	waitForPods(t, rig, tenant, 1)
	pods := rig.UploadPods(t, tenant.ID())
	complete(t, pods, claim(t, pods, 1, time.Minute)[0])
	waitForUploads(t, rig, tenant, v1alpha1.ReasonUploadsHealthy)
}

func complete(t *testing.T, pods *store.Upload, id string) {
	t.Helper()
	result := store.Result{Bucket: "acme", Key: "k", SHA256: strings.Repeat("0", 64)}
	if err := pods.Complete(t.Context(), "pod", id, result); err != nil {
		t.Fatal(err)
	}
}

// judgedAfter has pods judged as if they were older.
func judgedAfter(age time.Duration) func(*Reconciler) { return func(r *Reconciler) { r.ahead = age } }

// TestUnschedulablePodIsReported verifies that the condition holds the messages of the scheduler and of the kubelet.
func TestUnschedulablePodIsReported(t *testing.T) {
	t.Parallel()
	rig := start(t, 0, judgedAfter(4*time.Minute))
	tenant := healthyTenant(t, rig, "support")
	enqueue(t, rig, tenant.ID(), 1)
	pod := podOf(t, rig, waitForPods(t, rig, tenant, 1), "upload-a", func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{
			Type:    corev1.PodScheduled,
			Status:  corev1.ConditionFalse,
			Reason:  corev1.PodReasonUnschedulable,
			Message: "0/1 nodes are available: 1 Insufficient memory.",
		}}
	})
	waitForUploads(t, rig, tenant, v1alpha1.ReasonUploadPodsPending, "upload-a", "1 Insufficient memory")
	pod.Status.Conditions = nil
	pod.Status.Phase = corev1.PodFailed
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{
		container("upload", ended(time.Now(), 137, "OOMKilled", "")),
	}
	if err := rig.Client.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	waitForUploads(t, rig, tenant, v1alpha1.ReasonUploadPodsFailed, "upload-a", "OOMKilled")
}

// TestHangingPodIsReplaced has a sidecar that never ends: the Job is made again, since it would keep recordings waiting
// until its deadline, and the condition names the container.
func TestHangingPodIsReplaced(t *testing.T) {
	t.Parallel()
	rig := start(t, 0)
	tenant := healthyTenant(t, rig, "support")
	enqueue(t, rig, tenant.ID(), 1)
	first := waitForPods(t, rig, tenant, 1)
	podOf(t, rig, first, "upload-a", func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodRunning
		p.Status.ContainerStatuses = []corev1.ContainerStatus{
			container("upload", ended(time.Now().Add(-time.Minute), 0, "Completed", "")),
			container("istio-proxy", corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})}
	})
	waitForUploads(t, rig, tenant, v1alpha1.ReasonUploadPodsHang, "upload-a", "istio-proxy")
	waitForAnother(t, rig, tenant, first)
}

func waitForAnother(t *testing.T, r *controllertest.Rig, tenant *v1alpha1.Tenant, than *batchv1.Job) {
	t.Helper()
	eventually.Succeeds(t, func(context.Context) error {
		if j := jobOf(t, r, tenant); j == nil || j.UID == than.UID {
			return errors.New("the Job is not replaced")
		}
		return nil
	})
}

// TestPodOnADeadNodeIsReplaced has a pod that was deleted and does not end, as its node does not answer. The Job
// controller makes no other one, since its Job has a pod failure policy.
func TestPodOnADeadNodeIsReplaced(t *testing.T) {
	t.Parallel()
	rig := start(t, 0)
	tenant := healthyTenant(t, rig, "support")
	enqueue(t, rig, tenant.ID(), 1)
	first := waitForPods(t, rig, tenant, 1)
	pod := podOf(t, rig, first, "upload-a", func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodRunning
		p.Status.ContainerStatuses = []corev1.ContainerStatus{
			container("upload", corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})}
	})
	if err := rig.Client.SubResource("binding").Create(t.Context(), pod,
		&corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "n3"}}); err != nil {
		t.Fatal(err)
	}
	if err := rig.Client.Delete(t.Context(), pod, client.GracePeriodSeconds(1)); err != nil {
		t.Fatal(err)
	}
	waitForUploads(t, rig, tenant, v1alpha1.ReasonUploadPodsHang, "upload-a", "node n3 does not answer")
	waitForAnother(t, rig, tenant, first)
}

// TestFailedUploadIsReported verifies that the condition holds the store's message at once, and that the next upload
// removes it.
func TestFailedUploadIsReported(t *testing.T) {
	t.Parallel()
	rig := start(t, 0)
	tenant := healthyTenant(t, rig, "support")
	enqueue(t, rig, tenant.ID(), 2)
	waitForPods(t, rig, tenant, 1)
	pods := rig.UploadPods(t, tenant.ID())
	ids := claim(t, pods, 2, time.Minute)
	if err := pods.RetryLater(t.Context(), "pod", ids[0], store.LaterAttempt{
		At:      time.Now().Add(time.Hour),
		Code:    "StorageUnavailable",
		Message: "QuotaExceeded: the bucket is full",
		Counted: true,
	}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	waitForUploads(t, rig, tenant, v1alpha1.ReasonUploadsFailing, "QuotaExceeded: the bucket is full")
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("reported after %s", took)
	}
	controllertest.NextSecond(t)
	complete(t, pods, ids[1])
	waitForUploads(t, rig, tenant, v1alpha1.ReasonUploadsHealthy)
}

// TestSuspensionRemovesTheCondition verifies that a suspended Tenant does not have the condition, because its uploads
// wait on purpose.
func TestSuspensionRemovesTheCondition(t *testing.T) {
	t.Parallel()
	rig := start(t, 0)
	tenant := healthyTenant(t, rig, "support")
	enqueue(t, rig, tenant.ID(), 1)
	waitForPods(t, rig, tenant, 1)
	base := tenant.DeepCopy()
	yes := true
	tenant.Spec.Suspend = &yes
	if err := rig.Client.Patch(t.Context(), tenant, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
	eventually.Succeeds(t, func(ctx context.Context) error {
		var o v1alpha1.Tenant
		if err := rig.Client.Get(ctx, client.ObjectKeyFromObject(tenant), &o); err != nil {
			return err
		}
		if apimeta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionUploadsHealthy) != nil {
			return errors.New("the condition is there still")
		}
		return nil
	})
}
