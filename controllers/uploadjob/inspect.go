package uploadjob

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
)

// +kubebuilder:rbac:groups="",namespace=caly-uploads,resources=events,verbs=list

const (
	// inspectEvery spaces the looks at the pods of one Job, and inspectAge is how old a Job is at the first one.
	inspectEvery = 5 * time.Second
	inspectAge   = 15 * time.Second
)

// findings are what the pods of a tenant's Job show.
type findings struct {
	job     types.UID
	at      time.Time
	trouble trouble
	// stuck: the Job must be replaced, or it keeps recordings waiting.
	stuck bool
	// hung is when pods that do not end were last seen, of this Job or an earlier one.
	hung time.Time
	// worded is when a message alone was written last.
	worded time.Time
	// unread is why the pods could not be read.
	unread error
}

// inspections remember the last findings of each tenant.
type inspections struct {
	mu   sync.Mutex
	last map[string]findings
}

func (i *inspections) get(id string) findings {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.last[id]
}

func (i *inspections) set(id string, f findings) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.last == nil {
		i.last = map[string]findings{}
	}
	i.last[id] = f
}

func (i *inspections) forget(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.last, id)
}

// inspect looks at the pods of a tenant's Job, unless it has done so a moment ago. The pods are not cached: only
// those of a Job without a ready pod are read. Pods that cannot be read are looked at again at the next inspection:
// they do not keep the Job from what its backlog asks for.
func (r *Reconciler) inspect(ctx context.Context, id string, job *batchv1.Job, now time.Time) findings {
	f := r.inspections.get(id)
	if f.job == job.UID && now.Sub(f.at) < inspectEvery {
		return f
	}
	f = findings{job: job.UID, at: now, hung: f.hung, worded: f.worded}
	age := now.Sub(job.CreationTimestamp.Time)
	failed := failedJob(job)
	ready := job.Status.Ready != nil && *job.Status.Ready > 0
	if failed.reason != "" || (!finished(job) && age > inspectAge && !ready) {
		pods, err := r.podsOf(ctx, job)
		if err == nil {
			f, err = r.judge(ctx, f, job, pods)
		}
		if f.unread = err; err != nil {
			log.FromContext(ctx).Error(err, "read the upload pods and their events; tried again", "after", inspectAge)
		}
	}
	if f.trouble.reason == "" {
		f.trouble = failed
	}
	r.inspections.set(id, f)
	return f
}

// judge sums up the pods of a Job. The last created one speaks for those with the same trouble.
func (r *Reconciler) judge(ctx context.Context, f findings, job *batchv1.Job, pods []corev1.Pod) (findings, error) {
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	works := false
	hangs := false
	var creating *corev1.Pod
	for i := range pods {
		podState := stateOfPod(&pods[i], f.at)
		works = works || podState.works
		hangs = hangs || podState.hangs
		if podState.creating {
			creating = &pods[i]
		}
		if f.trouble.reason == "" || podState.hangs {
			f.trouble = podState.trouble
		}
	}
	if hangs {
		f.hung = f.at
	}
	if works { // one that cannot start, too, keeps no recording waiting
		if f.trouble.reason == v1alpha1.ReasonUploadPodsPending {
			f.trouble = trouble{}
		}
		return f, nil
	}
	age := f.at.Sub(job.CreationTimestamp.Time)
	if job.Spec.Suspend != nil && *job.Spec.Suspend && !hangs { // another Job would be suspended too
		if age > scheduled {
			f.trouble = trouble{
				reason: v1alpha1.ReasonUploadPodsPending,
				message: "another program, such as a queue " +
					"of Jobs, has set spec.suspend of the upload Job " + job.Name,
			}
		}
		return f, nil
	}
	f.stuck = !finished(job) && (hangs || age > startup)
	if f.trouble.reason != "" {
		return f, nil
	}
	var err error
	switch {
	case creating != nil:
		var why string
		if why, err = r.lastWarning(ctx, creating.UID); err != nil {
			why = "its events cannot be read"
		}
		f.trouble.reason = v1alpha1.ReasonUploadPodsPending
		f.trouble.message = fmt.Sprintf("pod %s does not start: %s", creating.Name,
			cmp.Or(why, "its containers are not created, and no event says why"))
	case len(pods) == 0:
		var why string
		if why, err = r.lastWarning(ctx, job.UID); why != "" {
			f.trouble = trouble{
				reason: v1alpha1.ReasonUploadPodsRejected,
				message: "no upload pod can be created: " +
					why,
			}
		}
	}
	return f, err
}

// podsOf lists the Job's pods, at most 100.past the cache.
func (r *Reconciler) podsOf(ctx context.Context, job *batchv1.Job) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := r.live.List(ctx, &list, client.InNamespace(job.Namespace), client.Limit(100),
		client.MatchingLabels{batchv1.ControllerUidLabel: string(job.UID)})
	return list.Items, err
}

// lastWarning returns the text of the newest warning about an object. The Job controller and the kubelet say in events
// alone that a quota rejected a pod, or that a volume cannot be mounted.
func (r *Reconciler) lastWarning(ctx context.Context, of types.UID) (string, error) {
	var list corev1.EventList
	err := r.live.List(ctx, &list, client.InNamespace(r.UploadNamespace), client.Limit(100),
		client.MatchingFieldsSelector{Selector: fields.SelectorFromSet(fields.Set{
			"involvedObject.uid": string(of),
			"type":               corev1.EventTypeWarning,
		})})
	if err != nil || len(list.Items) == 0 {
		return "", err
	}
	last := slices.MaxFunc(list.Items, func(a, b corev1.Event) int { return seen(&a).Compare(seen(&b)) })
	return strings.TrimSpace(last.Message), nil
}

// seen is when an event was last seen.
func seen(e *corev1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	}
	return e.EventTime.Time
}

// wordEvery spaces the writes of a condition that change its message alone, such as the name of a pod in it.
const wordEvery = 30 * time.Second

// hungUntil returns when pods that do not end were last seen. An operator that has just started has seen none: if the
// condition says that pods hung, they count as seen now, or the condition would be True until the next Job hangs.
func (i *inspections) hungUntil(id string, said bool, now time.Time) time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	f := i.last[id]
	if said && f.hung.IsZero() {
		f.hung = now
		if i.last == nil {
			i.last = map[string]findings{}
		}
		i.last[id] = f
	}
	return f.hung
}

// mayWord reports whether a message may be written, and notes that it is.
func (i *inspections) mayWord(id string, now time.Time) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	f := i.last[id]
	if now.Sub(f.worded) < wordEvery {
		return false
	}
	f.worded = now
	if i.last == nil {
		i.last = map[string]findings{}
	}
	i.last[id] = f
	return true
}
