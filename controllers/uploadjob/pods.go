package uploadjob

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
)

const (
	// settled is how long a pod may take to end after its upload has ended, or after its grace period.
	settled = 20 * time.Second
	// scheduled is how long a pod may wait for a node. A cluster autoscaler adds one only for a pod that waits, and the
	// cloud takes one to three minutes to start it: such a wait is normal, and longer ones are reported.
	scheduled = 3 * time.Minute
	// pulled is how long the containers of a pod may take to be created once the pod has a node.
	pulled = time.Minute
)

// podState is what one pod is good for.
type podState struct {
	trouble trouble
	// works: its upload container runs.
	works bool
	// hangs: it will not end by itself, and nothing runs in it that its Job needs.
	hangs bool
	// creating: its containers have not been created for too long, and only an event says why.
	creating bool
}

// stateOfPod judges a pod by its status.
func stateOfPod(p *corev1.Pod, now time.Time) podState {
	upload := containerNamed(p, uploadContainer)
	switch {
	case p.DeletionTimestamp != nil && now.Sub(p.DeletionTimestamp.Time) > settled:
		return podState{
			hangs: true,
			trouble: trouble{
				reason: v1alpha1.ReasonUploadPodsHang,
				message: fmt.Sprintf(
					"pod %s should have ended at %s and has not: %s",
					p.Name, p.DeletionTimestamp.UTC().Format(time.RFC3339), whyStill(p)),
			},
		}
	case p.Status.Phase == corev1.PodFailed && movedAway(p):
		return podState{}
	case p.Status.Phase == corev1.PodFailed:
		return podState{trouble: failedPod(p, upload)}
	case p.Status.Phase == corev1.PodSucceeded:
		return podState{}
	case upload != nil && upload.State.Running != nil:
		return podState{works: p.DeletionTimestamp == nil}
	case upload != nil && upload.State.Terminated != nil:
		return endedUpload(p, upload.State.Terminated, now)
	}
	return pendingPod(p, now)
}

// whyStill says what keeps a pod whose grace period is over.
func whyStill(p *corev1.Pod) string {
	ended := p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded
	switch {
	case p.Spec.NodeName != "" && !ended:
		return "node " + p.Spec.NodeName + " does not answer"
	case len(p.Finalizers) > 0:
		return "its finalizers are not removed: " + strings.Join(p.Finalizers, ", ")
	}
	return "the API server has not deleted it"
}

// movedAway reports whether the cluster took the pod's place: a drained node, a preemption, a node that was removed.
// That is normal, and another pod goes on. A pod that its kubelet evicts for its own use of memory or disk is not.
func movedAway(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue &&
			c.Reason != corev1.PodReasonTerminationByKubelet
	})
}

// failedPod says why a pod failed: the node's words about the pod, else the container's.
func failedPod(p *corev1.Pod, upload *corev1.ContainerStatus) trouble {
	t := trouble{
		reason:  v1alpha1.ReasonUploadPodsFailed,
		message: fmt.Sprintf("pod %s failed", p.Name),
		at:      p.CreationTimestamp.Time,
	}
	if p.Status.Reason != "" {
		t.message = fmt.Sprintf("pod %s failed: %s: %s", p.Name, p.Status.Reason, p.Status.Message)
	}
	all := slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses)
	if upload != nil && upload.State.Terminated != nil && upload.State.Terminated.ExitCode != 0 {
		all = []corev1.ContainerStatus{*upload}
	}
	for _, c := range all {
		end := c.State.Terminated
		if end == nil || end.ExitCode == 0 {
			continue
		}
		if end.ExitCode == TerminatedExitCode && c.Name == uploadContainer {
			return trouble{} // it was told to end
		}
		t.at = end.FinishedAt.Time
		t.message += fmt.Sprintf("; container %s ended with exit code %d, %s: %s", c.Name, end.ExitCode, end.Reason,
			end.Message)
		break
	}
	return t
}

// endedUpload judges a pod that still runs although its upload container has ended.
func endedUpload(p *corev1.Pod, end *corev1.ContainerStateTerminated, now time.Time) podState {
	if now.Sub(end.FinishedAt.Time) < settled {
		return podState{}
	}
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Running != nil {
			return podState{
				hangs: true,
				trouble: trouble{
					reason: v1alpha1.ReasonUploadPodsHang,
					message: fmt.Sprintf(
						"pod %s does not end: its container %s goes on after the upload has ended. Turn the injection of such "+
							"containers off for upload pods, or make it a native sidecar",
						p.Name,
						c.Name,
					),
				},
			}
		}
	}
	return podState{}
}

// pendingPod judges a pod whose upload container has not started.
func pendingPod(p *corev1.Pod, now time.Time) podState {
	pending := func(what, why string) podState {
		return podState{trouble: trouble{
			reason:  v1alpha1.ReasonUploadPodsPending,
			message: fmt.Sprintf("pod %s %s: %s", p.Name, what, why),
		}}
	}
	since := p.CreationTimestamp.Time
	for _, c := range p.Status.Conditions {
		switch {
		case c.Type != corev1.PodScheduled:
		case c.Status == corev1.ConditionTrue: // the node may have been started for this pod
			if c.LastTransitionTime.After(since) {
				since = c.LastTransitionTime.Time
			}
		case now.Sub(since) > scheduled:
			return pending("is not scheduled", cmp.Or(c.Message, c.Reason, "the scheduler gives no reason"))
		default:
			return podState{}
		}
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := c.State.Waiting; w != nil && w.Reason != "" && w.Reason != "ContainerCreating" &&
			w.Reason != "PodInitializing" {
			return pending("does not start", fmt.Sprintf("container %s: %s: %s", c.Name, w.Reason, w.Message))
		}
	}
	if now.Sub(since) < pulled {
		return podState{}
	}
	for _, c := range p.Status.InitContainerStatuses {
		if c.State.Running != nil && (c.Started == nil || !*c.Started) {
			return pending("does not start", fmt.Sprintf("its init container %s still runs", c.Name))
		}
	}
	return podState{creating: true}
}

// containerNamed returns the status of a container, or nil if the pod does not report it yet.
func containerNamed(p *corev1.Pod, name string) *corev1.ContainerStatus {
	i := slices.IndexFunc(p.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &p.Status.ContainerStatuses[i]
}

// failedJob says why the Job controller gave a Job up.
func failedJob(j *batchv1.Job) trouble {
	for _, c := range j.Status.Conditions {
		if c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue {
			return trouble{
				reason:  v1alpha1.ReasonUploadPodsFailed,
				at:      c.LastTransitionTime.Time,
				message: fmt.Sprintf("the upload Job failed: %s: %s", c.Reason, c.Message),
			}
		}
	}
	return trouble{}
}
