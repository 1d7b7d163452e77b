package uploadjob

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// TestUncommonPods has statuses that clusters write less often.
func TestUncommonPods(t *testing.T) {
	now := time.Now()
	runs := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	disrupted := func(reason string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodFailed
			p.Status.ContainerStatuses = []corev1.ContainerStatus{container("upload", ended(now, 137, "Error", ""))}
			p.Status.Conditions = []corev1.PodCondition{
				{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason}}
		}
	}
	waits := func(reason string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{container("upload", waiting(reason, "why"))}
		}
	}
	failed := func(reason, message string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: reason, Message: message}
		}
	}
	deleted := func(node string, finalizers ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.DeletionTimestamp = &metav1.Time{Time: now.Add(-time.Minute)}
			p.Spec.NodeName = node
			p.Finalizers = finalizers
		}
	}
	for name, tc := range map[string]struct {
		change func(*corev1.Pod)
		want   string // reason
		saying string
	}{
		"drained node":      {disrupted("EvictionByEvictionAPI"), "", ""},
		"preempted":         {disrupted(corev1.PodReasonPreemptionByScheduler), "", ""},
		"node with a taint": {disrupted("DeletionByTaintManager"), "", ""},
		"node removed":      {disrupted("DeletionByPodGC"), "", ""},
		"evicted for its own use": {disrupted(corev1.PodReasonTerminationByKubelet),
			"UploadPodsFailed", "exit code 137"},
		"rejected by the kubelet":  {failed("OutOfcpu", "not enough resource"), "UploadPodsFailed", "OutOfcpu"},
		"wrong affinity":           {failed("NodeAffinity", "Pod was rejected"), "UploadPodsFailed", "NodeAffinity"},
		"failed without a word":    {failed("", ""), "UploadPodsFailed", "pod p failed"},
		"waits without a reason":   {waits(""), "", ""},
		"wrong name of an image":   {waits("InvalidImageName"), "UploadPodsPending", "InvalidImageName: why"},
		"a Secret without the key": {waits("CreateContainerConfigError"), "UploadPodsPending", "ConfigError: why"},
		"the runtime fails":        {waits("RunContainerError"), "UploadPodsPending", "RunContainerError: why"},
		"finalizer, no node": {deleted("", "example.com/keep"),
			"UploadPodsHang", "finalizers are not removed: example.com/keep"},
		"no node, no finalizer": {deleted(""), "UploadPodsHang", "the API server has not deleted it"},
		"ended, with a finalizer": {func(p *corev1.Pod) {
			deleted("n3", batchv1.JobTrackingFinalizer)(p)
			p.Status.Phase = corev1.PodSucceeded
		}, "UploadPodsHang", "finalizers are not removed: batch.kubernetes.io/job-tracking"},
		"gated": {func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{
				Type:    corev1.PodScheduled,
				Status:  corev1.ConditionFalse,
				Reason:  corev1.PodReasonSchedulingGated,
				Message: "blocked due to non-empty scheduling gates",
			}}
		}, "UploadPodsPending", "non-empty scheduling gates"},
		"created in the future": {func(p *corev1.Pod) {
			p.CreationTimestamp = metav1.NewTime(now.Add(time.Hour))
		}, "", ""},
		"native sidecar that started": {func(p *corev1.Pod) {
			proxy := container("istio-proxy", runs)
			proxy.Started = ptr.To(true)
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{proxy}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{container("upload", runs)}
			p.Status.Phase = corev1.PodRunning
		}, "", ""},
		"init container in a loop": {func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{
				container("init", waiting("CrashLoopBackOff", "back-off 5m0s"))}
		}, "UploadPodsPending", "container init: CrashLoopBackOff"},
	} {
		t.Run(name, func(t *testing.T) {
			got := stateOfPod(pod(now, tc.change), now)
			if got.trouble.reason != tc.want || !strings.Contains(got.trouble.message, tc.saying) {
				t.Errorf("got %+v, want %q with %q", got.trouble, tc.want, tc.saying)
			}
		})
	}
}

// TestSuspendedJob has a Job that a queue of Jobs holds back: it is not replaced, and is reported after a while.
func TestSuspendedJob(t *testing.T) {
	now := time.Now()
	for age, want := range map[time.Duration]string{
		time.Minute:     "",
		4 * time.Minute: "UploadPodsPending",
		time.Hour:       "UploadPodsPending",
	} {
		job := &batchv1.Job{Spec: batchv1.JobSpec{Suspend: ptr.To(true)}}
		job.Name, job.CreationTimestamp = "upload-acme", metav1.NewTime(now.Add(-age))
		got, err := (&Reconciler{}).judge(t.Context(), findings{at: now}, job, nil)
		if err != nil || got.stuck || got.trouble.reason != want {
			t.Errorf("after %s: %+v, %v; want %q", age, got, err, want)
		}
		if want != "" && !strings.Contains(got.trouble.message, "spec.suspend of the upload Job upload-acme") {
			t.Errorf("the message is %q", got.trouble.message)
		}
	}
}

// TestRestartKeepsTheCondition starts an operator whose Tenant has pods that hang after their uploads. An upload alone
// does not make it healthy: the next Job may hang too.
func TestRestartKeepsTheCondition(t *testing.T) {
	t.Parallel()
	rig := start(t, 0)
	tenant := rig.Tenant(t, "support")
	base := tenant.DeepCopy()
	conditions.Set(tenant, v1alpha1.ConditionUploadsHealthy, metav1.ConditionFalse, v1alpha1.ReasonUploadPodsHang,
		"hangs")
	if err := rig.Client.Status().Patch(t.Context(), tenant, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
	controllertest.NextSecond(t)
	enqueue(t, rig, tenant.ID(), 1)
	waitForPods(t, rig, tenant, 1)
	pods := rig.UploadPods(t, tenant.ID())
	complete(t, pods, claim(t, pods, 1, time.Minute)[0])
	eventually.For(10*time.Second).Stays(t, func(ctx context.Context) error {
		var now v1alpha1.Tenant
		if err := rig.Client.Get(ctx, client.ObjectKeyFromObject(tenant), &now); err != nil {
			return err
		}
		if apimeta.IsStatusConditionTrue(now.Status.Conditions, v1alpha1.ConditionUploadsHealthy) {
			return errors.New("the condition is True after the restart")
		}
		return nil
	})
}
