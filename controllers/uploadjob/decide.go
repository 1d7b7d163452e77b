package uploadjob

import (
	"cmp"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
)

// perPod is how many waiting recordings justify one more pod: starting a pod costs about as much as uploading that many.
const perPod = 50

// failedPause is how long a failed Job is left alone, so that a tenant's broken configuration starts no storm of pods.
const failedPause = time.Minute

type action int

const (
	leave action = iota
	create
	scale
	remove
)

// decision is what to do with a tenant's Job, and when to look again.
type decision struct {
	do          action
	parallelism int32
	after       time.Duration
}

// starts reports whether the decision starts pods.
func (d decision) starts(s state) bool {
	return d.do == create || d.do == scale && d.parallelism > s.parallelism
}

// state is what a decision is made from.
type state struct {
	wanted      bool // the Tenant is there, not suspended, and its config was compiled
	ready       int  // recordings that can be claimed now
	maxParallel int32
	free        int32 // pods that the tenant may have, set when all tenants' were counted
	share       int32 // its fair share of all pods, likewise
	exists      bool
	parallelism int32 // of the Job
	pods        int32 // that the Job has or may start
	grows       bool  // the Job follows its parallelism, until a pod has succeeded
	finished    bool
	failedFor   time.Duration // how long ago the Job failed; 0 if it did not
	deleting    bool
	stuck       bool // inspect: no pod of the Job works or will
}

// runs reports whether the tenant has a Job that has not ended.
func (s state) runs() bool { return s.exists && !s.finished && !s.deleting }

// again is when to look again at pods that may not start, or may not end, without an event of their Job.
func (s state) again() time.Duration {
	if s.runs() {
		return inspectAge
	}
	return 0
}

// stateOf returns the state of a Tenant that is not suspended.
func stateOf(t *v1alpha1.Tenant, job *batchv1.Job, exists bool, b store.Backlog, now time.Time) state {
	s := state{
		wanted:      t.DeletionTimestamp.IsZero() && t.Status.ConfigDigest != "",
		ready:       b.Ready,
		maxParallel: limitOf(t),
		exists:      exists,
	}
	if !exists {
		return s
	}
	s.deleting = !job.DeletionTimestamp.IsZero()
	s.finished = finished(job)
	s.parallelism = ptr.Deref(job.Spec.Parallelism, 0)
	s.pods = podsOf(job)
	s.grows = job.Status.Succeeded == 0
	for _, c := range job.Status.Conditions {
		// A Job that reached its deadline is replaced at once: a pod hung, and the configuration is not at fault.
		if c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue &&
			c.Reason != batchv1.JobReasonDeadlineExceeded {
			s.failedFor = max(now.Sub(c.LastTransitionTime.Time), time.Nanosecond)
		}
	}
	return s
}

// limitOf returns how many pods the Tenant's spec allows.
func limitOf(t *v1alpha1.Tenant) int32 {
	return cmp.Or(t.Spec.Recordings.MaxParallelism, defaultMaxParallelism)
}

// defaultMaxParallelism is the API server's, for objects made before.
const defaultMaxParallelism = 4

// podsFor returns how many pods a backlog is worth.
func podsFor(ready int, limit int32) int32 {
	return min(int32(min((ready+perPod-1)/perPod, 1<<20)), limit) //nolint:gosec // bounded here
}

// decide is the whole policy. While a Job runs, its parallelism is raised with the backlog. It is lowered only to the
// tenant's share, when other tenants need pods; otherwise pods end by themselves.
func decide(s state) decision {
	share := max(s.share, 1)
	want := min(podsFor(s.ready, s.maxParallel), s.free, share)
	switch {
	case s.deleting:
		return decision{}
	case s.exists && !s.wanted:
		return decision{do: remove}
	case s.failedFor > 0 && s.failedFor < failedPause:
		return decision{after: failedPause - s.failedFor}
	case s.finished, s.stuck:
		return decision{do: remove}
	case s.exists && s.grows && share < s.parallelism:
		return decision{do: scale, parallelism: share}
	case !s.wanted || s.ready == 0:
		return decision{}
	case want < 1 && !s.exists:
		return decision{after: 5 * time.Second} // the bound is used up by others
	case !s.exists:
		return decision{do: create, parallelism: want}
	case s.grows && want > s.parallelism:
		return decision{do: scale, parallelism: want}
	}
	return decision{}
}

// finished reports whether the Job is complete or failed.
func finished(j *batchv1.Job) bool {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}
