package uploadjob

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
)

func TestDecide(t *testing.T) {
	pods := func(n int32) decision { return decision{do: create, parallelism: n} }
	tests := map[string]struct {
		change func(*state) // of a wanted tenant that may have 4 pods of 64 and has no Job
		want   decision
	}{
		"no backlog":                 {func(s *state) { s.ready = 0 }, decision{}},
		"one recording":              {func(s *state) { s.ready = 1 }, pods(1)},
		"a pod's fill":               {func(s *state) { s.ready = 50 }, pods(1)},
		"one more than a pod's fill": {func(s *state) { s.ready = 51 }, pods(2)},
		"the tenant's bound":         {func(s *state) { s.ready = 1000 }, pods(4)},
		"more than any counter holds": {func(s *state) {
			s.ready = 1 << 62
			s.maxParallel = 64
		}, pods(64)},
		"the global bound": {func(s *state) {
			s.ready = 1000
			s.free = 3
		}, pods(3)},
		"the global bound is used up": {func(s *state) {
			s.ready = 1
			s.free = 0
		}, decision{after: 5 * time.Second}},
		"the global bound was lowered": {func(s *state) {
			s.ready = 1
			s.free = -7
		}, decision{after: 5 * time.Second}},
		"not wanted": {func(s *state) {
			s.ready = 9
			s.wanted = false
		}, decision{}},
		"not wanted, with a Job": {func(s *state) {
			s.ready = 9
			s.wanted = false
			s.exists = true
			s.parallelism = 1
		}, decision{do: remove}},
		"not wanted, being deleted": {func(s *state) {
			s.wanted = false
			s.exists = true
			s.deleting = true
		}, decision{}},
		"being deleted, with a backlog": {func(s *state) {
			s.ready = 9
			s.exists = true
			s.deleting = true
			s.finished = true
		}, decision{}},
		"a Job that suffices": {func(s *state) {
			s.ready = 100
			s.exists = true
			s.parallelism = 2
		}, decision{}},
		"a Job that does not": {func(s *state) {
			s.ready = 101
			s.exists = true
			s.parallelism = 2
		}, decision{do: scale, parallelism: 3}},
		"never fewer pods": {func(s *state) {
			s.ready = 1
			s.exists = true
			s.parallelism = 4
		}, decision{}},
		"a Job whose queue is empty": {func(s *state) {
			s.exists = true
			s.parallelism = 4
		}, decision{}},
		"a Job, and no room for more": {func(s *state) {
			s.ready = 1000
			s.exists = true
			s.parallelism = 1
			s.free = 1
		}, decision{}},
		"a Job, and less room than it": {func(s *state) {
			s.ready = 1000
			s.exists = true
			s.parallelism = 2
			s.free = 0
		}, decision{}},
		"finished": {func(s *state) {
			s.exists = true
			s.finished = true
			s.parallelism = 2
		}, decision{do: remove}},
		"finished, with a backlog": {func(s *state) {
			s.ready = 1000
			s.exists = true
			s.finished = true
			s.parallelism = 1
		}, decision{do: remove}},
		"failed this moment": {func(s *state) {
			s.ready = 9
			s.exists = true
			s.finished = true
			s.failedFor = 1
		}, decision{after: time.Minute - 1}},
		"failed almost a minute ago": {func(s *state) {
			s.ready = 9
			s.exists = true
			s.finished = true
			s.failedFor = time.Minute - 1
		}, decision{after: 1}},
		"failed a minute ago": {func(s *state) {
			s.ready = 9
			s.exists = true
			s.finished = true
			s.failedFor = time.Minute
		}, decision{do: remove}},
		"failed, and then suspended": {func(s *state) {
			s.wanted = false
			s.exists = true
			s.finished = true
			s.failedFor = 1
		}, decision{do: remove}},
		"failed without a backlog": {func(s *state) {
			s.exists = true
			s.finished = true
			s.failedFor = time.Second
		}, decision{after: 59 * time.Second}},
		"failed, being deleted": {func(s *state) {
			s.ready = 9
			s.exists = true
			s.finished = true
			s.deleting = true
			s.failedFor = time.Hour
		}, decision{}},
		"a tenant that may have one": {func(s *state) {
			s.ready = 1000
			s.maxParallel = 1
		}, pods(1)},
		"a bound below its running pods": {func(s *state) {
			s.ready = 1000
			s.maxParallel = 1
			s.exists = true
			s.parallelism = 4
		}, decision{}},
		"the share is the bound": {func(s *state) {
			s.ready = 1000
			s.maxParallel = 64
			s.share = 9
		}, pods(9)},
		"no share, and a free pod": {func(s *state) {
			s.ready = 1000
			s.share = 0
		}, pods(1)},
		"a Job with more than its share": {func(s *state) {
			s.ready = 1000
			s.exists = true
			s.parallelism = 4
			s.share = 2
		}, decision{do: scale, parallelism: 2}},
		"more than its share, all leased": {func(s *state) {
			s.exists = true
			s.parallelism = 4
			s.share = 2
		}, decision{do: scale, parallelism: 2}},
		"a Job keeps one pod": {func(s *state) {
			s.exists = true
			s.parallelism = 4
			s.share = 0
		}, decision{do: scale, parallelism: 1}},
		"a Job whose pods have begun to end": {func(s *state) {
			s.ready = 1000
			s.exists = true
			s.parallelism = 4
			s.share = 2
			s.grows = false
		}, decision{}},
		"such a Job does not grow": {func(s *state) {
			s.ready = 1000
			s.exists = true
			s.parallelism = 1
			s.grows = false
		}, decision{}},
		"more than its share, finished": {func(s *state) {
			s.exists = true
			s.finished = true
			s.parallelism = 4
			s.share = 2
		}, decision{do: remove}},
		"exactly the room that is needed": {func(s *state) {
			s.ready = 200
			s.free = 4
		}, pods(4)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := state{wanted: true, maxParallel: 4, free: 64, share: 64, grows: true}
			tt.change(&s)
			if got := decide(s); got != tt.want {
				t.Errorf("decide(%+v) = %+v, want %+v", s, got, tt.want)
			}
		})
	}
}

func TestStateOf(t *testing.T) {
	now := time.Now()
	condition := func(kind batchv1.JobConditionType, status corev1.ConditionStatus, at time.Time) batchv1.JobCondition {
		return batchv1.JobCondition{Type: kind, Status: status, LastTransitionTime: metav1.NewTime(at)}
	}
	tests := map[string]struct {
		tenant func(*v1alpha1.Tenant)
		job    *batchv1.Job
		want   state
	}{
		"a new tenant": {func(*v1alpha1.Tenant) {}, nil, state{maxParallel: 4, ready: 7}},
		"a compiled one": {
			tenant: func(t *v1alpha1.Tenant) { t.Status.ConfigDigest = "d" },
			want:   state{wanted: true, maxParallel: 4, ready: 7},
		},
		"being deleted": {
			func(t *v1alpha1.Tenant) { t.Status.ConfigDigest, t.DeletionTimestamp = "d", ptr.To(metav1.Now()) },
			nil,
			state{maxParallel: 4, ready: 7},
		},
		"a bound of its own": {func(t *v1alpha1.Tenant) { t.Spec.Recordings.MaxParallelism = 9 }, nil, state{
			maxParallel: 9,
			ready:       7,
		}},
		"a running Job": {func(*v1alpha1.Tenant) {}, &batchv1.Job{Spec: batchv1.JobSpec{Parallelism: ptr.To[int32](3)}},
			state{maxParallel: 4, ready: 7, exists: true, parallelism: 3, pods: 3, grows: true}},
		"a Job with pods that are deleted": {
			tenant: func(*v1alpha1.Tenant) {},
			job: &batchv1.Job{
				Spec:   batchv1.JobSpec{Parallelism: ptr.To[int32](2)},
				Status: batchv1.JobStatus{Active: 2, Terminating: ptr.To[int32](3)},
			},
			want: state{maxParallel: 4, ready: 7, exists: true, parallelism: 2, pods: 5, grows: true},
		},
		"a Job whose pods begin to end": {
			tenant: func(*v1alpha1.Tenant) {},
			job: &batchv1.Job{
				Spec:   batchv1.JobSpec{Parallelism: ptr.To[int32](4)},
				Status: batchv1.JobStatus{Active: 1, Succeeded: 3},
			},
			want: state{maxParallel: 4, ready: 7, exists: true, parallelism: 4, pods: 1},
		},
		"a Job without a parallelism": {
			tenant: func(*v1alpha1.Tenant) {},
			job:    &batchv1.Job{},
			want:   state{maxParallel: 4, ready: 7, exists: true, grows: true},
		},
		"a Job being deleted": {
			func(*v1alpha1.Tenant) {},
			&batchv1.Job{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: ptr.To(metav1.Now())}},
			state{maxParallel: 4, ready: 7, exists: true, deleting: true, grows: true},
		},
		"a Job that is about to fail": {
			func(*v1alpha1.Tenant) {},
			&batchv1.Job{Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{
				condition(batchv1.JobFailureTarget, corev1.ConditionTrue, now),
				condition(batchv1.JobFailed, corev1.ConditionFalse, now),
			}}},
			state{maxParallel: 4, ready: 7, exists: true, grows: true},
		},
		"a complete Job": {
			func(*v1alpha1.Tenant) {},
			&batchv1.Job{Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{
				condition(batchv1.JobComplete, corev1.ConditionTrue, now)}}},
			state{maxParallel: 4, ready: 7, exists: true, finished: true, grows: true},
		},
		"a failed Job": {
			func(*v1alpha1.Tenant) {},
			&batchv1.Job{Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{
				condition(batchv1.JobFailed, corev1.ConditionTrue, now.Add(-time.Second))}}},
			state{maxParallel: 4, ready: 7, exists: true, finished: true, grows: true, failedFor: time.Second},
		},
		"a Job beyond its deadline": {func(*v1alpha1.Tenant) {}, &batchv1.Job{Status: batchv1.JobStatus{
			Conditions: []batchv1.JobCondition{{
				Type:               batchv1.JobFailed,
				Status:             corev1.ConditionTrue,
				Reason:             batchv1.JobReasonDeadlineExceeded,
				LastTransitionTime: metav1.NewTime(now.Add(-time.Second)),
			}},
		}}, state{maxParallel: 4, ready: 7, exists: true, finished: true, grows: true}},
		"a Job that failed by a clock ahead of ours": {
			func(*v1alpha1.Tenant) {},
			&batchv1.Job{Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{
				condition(batchv1.JobFailed, corev1.ConditionTrue, now.Add(time.Second))}}},
			state{maxParallel: 4, ready: 7, exists: true, finished: true, grows: true, failedFor: 1},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tenant := &v1alpha1.Tenant{}
			tt.tenant(tenant)
			got := stateOf(tenant, tt.job, tt.job != nil, store.Backlog{Ready: 7, Leased: 2}, now)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(state{})); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
		})
	}
}
