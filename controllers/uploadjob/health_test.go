package uploadjob

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
)

func TestOfQueue(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	failed := func(code string, queued, at time.Duration) store.UploadState {
		return store.UploadState{
			FailedAt:     ago(at),
			FailedQueued: ago(queued),
			FailedCode:   code,
			FailedError:  "507: no room",
		}
	}
	uploaded := func(s store.UploadState, at time.Duration) store.UploadState {
		s.UploadedAt = ago(at)
		return s
	}
	for name, tc := range map[string]struct {
		state        store.UploadState
		want, saying string
	}{
		"nothing":              {store.UploadState{}, "", ""},
		"due this moment":      {store.UploadState{DueSince: now}, "", ""},
		"due for nine minutes": {store.UploadState{DueSince: ago(9 * time.Minute)}, "", ""},
		"due for eleven minutes": {store.UploadState{DueSince: ago(11 * time.Minute)}, "UploadsOverdue",
			"has waited since"},
		"due, though others go": {uploaded(store.UploadState{DueSince: ago(time.Hour)}, time.Second),
			"UploadsOverdue", ""},
		"the store refused": {failed("StorageAccessDenied", time.Minute, time.Second), "UploadsFailing",
			"507: no room"},
		"the store is full": {failed("StorageQuotaExceeded", time.Minute, time.Second), "UploadsFailing",
			"StorageQuotaExceeded"},
		"a code of a later version": {failed("SomethingNew", time.Minute, time.Second), "UploadsFailing", ""},
		"Exotel refused": {failed("SourceCredentialsRefused", time.Minute, time.Second),
			"UploadsFailing", ""},
		"the store works again": {uploaded(failed("StorageUnavailable", time.Hour, time.Minute), time.Second),
			"", ""},
		"uploaded before the failure": {uploaded(failed("StorageUnavailable", time.Hour, time.Minute), time.Hour),
			"UploadsFailing", ""},
		"one is not published yet": {failed("SourceNotReady", time.Minute, time.Second), "", ""},
		"one is not published at all": {failed("SourceNotReady", time.Hour, time.Second), "UploadsFailing",
			"SourceNotReady"},
		"one of many": {uploaded(failed("SourceNotReady", time.Hour, time.Minute), time.Second), "",
			""},
		"one that kills its pods": {failed(reason.LeaseExpired, time.Hour, time.Second), "UploadsFailing",
			"LeaseExpired"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ofQueue(tc.state, now)
			if got.reason != tc.want || !strings.Contains(got.message, tc.saying) {
				t.Errorf("got %+v, want %s with %q", got, tc.want, tc.saying)
			}
		})
	}
}

// pod is one of a Job, created an hour ago.
func pod(now time.Time, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", CreationTimestamp: metav1.NewTime(now.Add(-time.Hour))},
		Spec:       corev1.PodSpec{NodeName: "n3"},
		Status:     corev1.PodStatus{Phase: corev1.PodPending},
	}
	change(p)
	return p
}

func container(name string, state corev1.ContainerState) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: state}
}

func ended(at time.Time, code int32, reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		FinishedAt: metav1.NewTime(at),
		ExitCode:   code,
		Reason:     reason,
		Message:    message,
	}}
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

// TestStateOfPod has the statuses that kubelets and schedulers write.
func TestStateOfPod(t *testing.T) {
	now := time.Now()
	runs := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	containers := func(phase corev1.PodPhase, list ...corev1.ContainerStatus) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.Phase = phase
			p.Status.ContainerStatuses = list
		}
	}
	aged := func(age time.Duration, change func(*corev1.Pod)) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.CreationTimestamp = metav1.NewTime(now.Add(-age))
			change(p)
		}
	}
	young := func(change func(*corev1.Pod)) func(*corev1.Pod) { return aged(5*time.Second, change) }
	unschedulable := func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{
			Type:    corev1.PodScheduled,
			Status:  corev1.ConditionFalse,
			Reason:  "Unschedulable",
			Message: "0/3 nodes are available: 3 Insufficient cpu.",
		}}
	}
	creating := containers(corev1.PodPending, container("upload", waiting("ContainerCreating", "")))
	for name, tc := range map[string]struct {
		change func(*corev1.Pod)
		want   podState
		saying string
	}{
		"no node": {unschedulable, podState{trouble: trouble{reason: "UploadPodsPending"}},
			"3 Insufficient cpu"},
		"no node yet":                 {young(unschedulable), podState{}, ""},
		"an autoscaler starts a node": {aged(2*time.Minute, unschedulable), podState{}, ""},
		"an autoscaler cannot": {aged(4*time.Minute, unschedulable),
			podState{trouble: trouble{reason: "UploadPodsPending"}}, "is not scheduled: 0/3 nodes are available"},
		"no node, without a word": {func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse}}
		}, podState{trouble: trouble{reason: "UploadPodsPending"}}, "the scheduler gives no reason"},
		"the node has just started": {func(p *corev1.Pod) {
			creating(p)
			p.Status.Conditions = []corev1.PodCondition{{
				Type:               corev1.PodScheduled,
				Status:             corev1.ConditionTrue,
				LastTransitionTime: metav1.NewTime(now.Add(-30 * time.Second)),
			}}
		}, podState{}, ""},
		"the node started a while ago": {func(p *corev1.Pod) {
			creating(p)
			p.Status.Conditions = []corev1.PodCondition{{
				Type:               corev1.PodScheduled,
				Status:             corev1.ConditionTrue,
				LastTransitionTime: metav1.NewTime(now.Add(-2 * time.Minute)),
			}}
		}, podState{creating: true}, ""},
		"its containers are created":    {young(creating), podState{}, ""},
		"they are not created for long": {creating, podState{creating: true}, ""},
		"no image": {containers(corev1.PodPending, container("upload",
			waiting("ImagePullBackOff", "Back-off pulling image x"))),
			podState{trouble: trouble{reason: "UploadPodsPending"}}, "ImagePullBackOff: Back-off pulling image x"},
		"no image, at once": {young(containers(corev1.PodPending,
			container("upload", waiting("ErrImageNeverPull", "never")))),
			podState{trouble: trouble{reason: "UploadPodsPending"}}, "ErrImageNeverPull"},
		"an init container that runs for ever": {func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{container("wait-for-mesh", runs)}
		}, podState{trouble: trouble{reason: "UploadPodsPending"}}, "init container wait-for-mesh"},
		"works": {containers(corev1.PodRunning, container("upload", runs)), podState{works: true}, ""},
		"works with a sidecar": {containers(corev1.PodRunning, container("istio-proxy", runs),
			container("upload", runs)), podState{works: true}, ""},
		"ended": {containers(corev1.PodSucceeded, container("upload", ended(now, 0, "Completed", ""))),
			podState{}, ""},
		"a sidecar that ends in a moment": {containers(corev1.PodRunning, container("istio-proxy", runs),
			container("upload", ended(now, 0, "Completed", ""))), podState{}, ""},
		"a sidecar that never ends": {containers(corev1.PodRunning, container("istio-proxy", runs),
			container("upload", ended(now.Add(-time.Minute), 0, "Completed", ""))),
			podState{hangs: true, trouble: trouble{reason: "UploadPodsHang"}}, "its container istio-proxy goes on"},
		"out of memory": {containers(corev1.PodFailed, container("upload", ended(now, 137, "OOMKilled", ""))),
			podState{trouble: trouble{reason: "UploadPodsFailed"}}, "exit code 137, OOMKilled"},
		"its own words": {containers(corev1.PodFailed,
			container("upload", ended(now, 64, "Error", "the schema is older"))),
			podState{trouble: trouble{reason: "UploadPodsFailed"}}, "exit code 64, Error: the schema is older"},
		"told to end": {containers(corev1.PodFailed,
			container("upload", ended(now, TerminatedExitCode, "Error", ""))), podState{}, ""},
		"evicted": {func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodFailed
			p.Status.Reason = "Evicted"
			p.Status.Message = "The node was low on resource: memory."
		}, podState{trouble: trouble{reason: "UploadPodsFailed"}}, "Evicted: The node was low on resource: memory."},
		"an init container failed": {func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodFailed
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{container("istio-init",
				ended(now, 1, "Error", "iptables"))}
		}, podState{trouble: trouble{reason: "UploadPodsFailed"}}, "istio-init ended with exit code 1, Error: iptables"},
		"on a dead node": {func(p *corev1.Pod) {
			containers(corev1.PodRunning, container("upload", runs))(p)
			p.DeletionTimestamp = &metav1.Time{Time: now.Add(-time.Minute)}
		}, podState{hangs: true, trouble: trouble{reason: "UploadPodsHang"}}, "node n3 does not answer"},
		"in its grace period": {func(p *corev1.Pod) {
			containers(corev1.PodRunning, container("upload", runs))(p)
			p.DeletionTimestamp = &metav1.Time{Time: now.Add(time.Minute)}
		}, podState{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := stateOfPod(pod(now, tc.change), now)
			if got.works != tc.want.works || got.hangs != tc.want.hangs || got.creating != tc.want.creating ||
				got.trouble.reason != tc.want.trouble.reason || !strings.Contains(got.trouble.message, tc.saying) {
				t.Errorf("got %+v, want %+v with %q", got, tc.want, tc.saying)
			}
		})
	}
}

// TestSetCondition goes from one state of the condition to the next.
func TestSetCondition(t *testing.T) {
	now := time.Now()
	since := metav1.NewTime(now.Add(-time.Hour))
	is := func(status metav1.ConditionStatus) *metav1.Condition {
		return &metav1.Condition{
			Type:               v1alpha1.ConditionUploadsHealthy,
			Status:             status,
			Reason:             "Before",
			Message:            "before",
			LastTransitionTime: since,
		}
	}
	bad := trouble{reason: "UploadPodsFailed", message: "out\nof memory"}
	for name, tc := range map[string]struct {
		before *metav1.Condition
		health health
		want   string // status and reason; empty: none
	}{
		"new, and well":      {nil, health{wanted: true}, ""},
		"new, and not well":  {nil, health{wanted: true, trouble: bad}, "False UploadPodsFailed"},
		"well, and stays so": {is("True"), health{wanted: true, unfinished: true}, "True Before"},
		"well until now":     {is("True"), health{wanted: true, trouble: bad}, "False UploadPodsFailed"},
		"another trouble":    {is("False"), health{wanted: true, trouble: bad}, "False UploadPodsFailed"},
		"pods start again":   {is("False"), health{wanted: true, unfinished: true}, "False Before"},
		"uploaded before": {is("False"), health{
			wanted:     true,
			unfinished: true,
			state:      store.UploadState{UploadedAt: since.Add(-1)},
		}, "False Before"},
		"uploaded since": {is("False"), health{
			wanted:     true,
			unfinished: true,
			state:      store.UploadState{UploadedAt: now},
		}, "True UploadsHealthy"},
		"nothing is left":        {is("False"), health{wanted: true}, "True UploadsHealthy"},
		"pods hung a moment ago": {is("False"), health{wanted: true, hung: now.Add(-time.Second)}, "False Before"},
		"pods hung a while ago": {is("False"), health{wanted: true, hung: now.Add(-3 * time.Minute)},
			"True UploadsHealthy"},
		"suspended": {is("False"), health{trouble: bad}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := &v1alpha1.Tenant{}
			if tc.before != nil {
				tenant.Status.Conditions = []metav1.Condition{*tc.before}
			}
			tc.health.setCondition(tenant, now)
			got := ""
			if condition := apimeta.FindStatusCondition(
				tenant.Status.Conditions, v1alpha1.ConditionUploadsHealthy,
			); condition != nil {
				got = string(condition.Status) + " " + condition.Reason
				if strings.Contains(condition.Message, "\n") {
					t.Errorf("the message %q has a line break", condition.Message)
				}
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestFailedJob(t *testing.T) {
	j := &batchv1.Job{}
	if got := failedJob(j); got != (trouble{}) {
		t.Errorf("a Job without conditions: %+v", got)
	}
	j.Status.Conditions = []batchv1.JobCondition{{
		Type:    batchv1.JobFailed,
		Status:  corev1.ConditionTrue,
		Reason:  batchv1.JobReasonDeadlineExceeded,
		Message: "Job was active longer than specified deadline",
	}}
	if got := failedJob(j); got.reason != "UploadPodsFailed" ||
		!strings.Contains(got.message, "longer than specified deadline") {
		t.Errorf("got %+v", got)
	}
}
