package uploadjob

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

func TestJobFollowsTheBacklog(t *testing.T) {
	t.Parallel()
	rig := newRig(t, 0)
	busy := rig.tenant(t, "busy")
	idle := rig.tenant(t, "idle")
	unready := rig.tenant(t, "unready")
	rig.setDigest(t, unready, "")
	pods := rig.uploads(t, busy.ID())
	rig.enqueue(t, rig.ns+"/ghost", 3) // its Tenant is gone, its rows are retained
	rig.enqueue(t, unready.ID(), 3)
	rig.enqueue(t, busy.ID(), 2)
	first := rig.waitForPods(t, busy, 1)
	eventually.Succeeds(t, func(ctx context.Context) error {
		err := rig.Get(ctx, client.ObjectKeyFromObject(busy), busy)
		if err != nil || busy.Status.LastUploadJobTime == nil {
			return fmt.Errorf("the status does not say when the Job was created: %w", err)
		}
		return nil
	})
	rig.waitForBacklog(t, unready, 3) // it was looked at
	var jobs batchv1.JobList
	if err := rig.List(t.Context(), &jobs, client.InNamespace(rig.work)); err != nil || len(jobs.Items) != 1 {
		t.Fatalf("%d Jobs, want that of the one tenant with a config and a backlog: %v", len(jobs.Items), err)
	}

	rig.enqueue(t, busy.ID(), 99)
	if grown := rig.waitForPods(t, busy, 3); grown.UID != first.UID {
		t.Error("the Job was made anew, not scaled")
	}
	claim(t, pods, 101, time.Minute)
	rig.waitForNothingReady(t, busy)
	rig.finish(t, rig.job(t, busy), batchv1.JobComplete, time.Now())
	rig.waitForPods(t, busy, 0)

	rig.enqueue(t, busy.ID(), 1)
	second := rig.waitForPods(t, busy, 1)
	if err := rig.Delete(t.Context(), second.DeepCopy(), client.PropagationPolicy("Background")); err != nil {
		t.Fatal(err)
	}
	eventually.Succeeds(t, func(context.Context) error {
		if j := rig.job(t, busy); j == nil || j.UID == second.UID {
			return errors.New("a Job that was deleted by hand is not made again")
		}
		return nil
	})
	if got := rig.backlog(t, idle); got != -1 {
		t.Errorf("the idle tenant's status says %d", got)
	}
}

func TestFailedJobIsLeftAloneForAWhile(t *testing.T) {
	t.Parallel()
	rig := newRig(t, 0)
	tenant := rig.tenant(t, "support")
	rig.enqueue(t, tenant.ID(), 1)
	first := rig.waitForPods(t, tenant, 1)
	failed := time.Now().Add(3*time.Second - failedPause).Truncate(time.Second)
	rig.finish(t, first, batchv1.JobFailed, failed)
	eventually.Succeeds(t, func(context.Context) error {
		if j := rig.job(t, tenant); j == nil || j.UID == first.UID {
			return errors.New("a Job that failed more than a minute ago is not replaced")
		}
		return nil
	})
	if waited := time.Since(failed); waited < failedPause {
		t.Errorf("it was replaced %s after it failed, want %s at least", waited, failedPause)
	}
}

// TestJobBeyondItsDeadlineIsReplacedAtOnce ends a Job as the Job controller ends one with a pod that hangs.
func TestJobBeyondItsDeadlineIsReplacedAtOnce(t *testing.T) {
	t.Parallel()
	rig := newRig(t, 0)
	tenant := rig.tenant(t, "support")
	rig.enqueue(t, tenant.ID(), 1)
	first := rig.waitForPods(t, tenant, 1)
	ended := time.Now()
	rig.finishFor(t, first, batchv1.JobFailed, batchv1.JobReasonDeadlineExceeded, ended)
	eventually.Succeeds(t, func(context.Context) error {
		if j := rig.job(t, tenant); j == nil || j.UID == first.UID {
			return errors.New("the Job is not replaced")
		}
		return nil
	})
	if waited := time.Since(ended); waited >= failedPause {
		t.Errorf("it was replaced after %s, like a Job whose configuration is wrong", waited)
	}
}

func TestSuspendedTenantHasNoJob(t *testing.T) {
	t.Parallel()
	rig := newRig(t, 0)
	tenant := rig.tenant(t, "support")
	rig.enqueue(t, tenant.ID(), 1)
	rig.waitForPods(t, tenant, 1)
	suspend := func(on bool) {
		base := tenant.DeepCopy()
		tenant.Spec.Suspend = &on
		if err := rig.Patch(t.Context(), tenant, client.MergeFrom(base)); err != nil {
			t.Fatal(err)
		}
	}
	suspend(true)
	rig.waitForPods(t, tenant, 0)
	rig.enqueue(t, tenant.ID(), 1)
	rig.waitForBacklog(t, tenant, 2) // looked at since, with work to do
	if rig.job(t, tenant) != nil {
		t.Error("a suspended tenant got a Job")
	}
	suspend(false)
	rig.waitForPods(t, tenant, 1)
}

// TestPlatformSuspendedTenantHasNoJob annotates the Namespace. Neither the spec nor the status of the Tenant
// says that it is suspended.
func TestPlatformSuspendedTenantHasNoJob(t *testing.T) {
	t.Parallel()
	rig := newRig(t, 0)
	tenant := rig.tenant(t, "support", func(t *v1alpha1.Tenant) { t.Spec.Suspend = ptr.To(false) })
	rig.enqueue(t, tenant.ID(), 1)
	rig.waitForPods(t, tenant, 1)
	annotate := func(value string) {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: rig.ns}}
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%s}}}`, v1alpha1.AnnotationSuspend, value)
		if err := rig.Patch(
			t.Context(),
			ns,
			client.RawPatch("application/merge-patch+json", []byte(patch)),
		); err != nil {
			t.Fatal(err)
		}
		rig.setDigest(t, tenant, "compiled "+value) // the tenant controller writes the status then
	}
	annotate(`"unpaid"`)
	rig.waitForPods(t, tenant, 0)
	rig.enqueue(t, tenant.ID(), 1)
	rig.waitForBacklog(t, tenant, 2) // looked at since, with work to do
	if rig.job(t, tenant) != nil {
		t.Error("a suspended tenant got a Job")
	}
	annotate("null")
	rig.waitForPods(t, tenant, 1)
}

// Two busy tenants of one namespace never have more pods than its share of 6, not even at the first moment, and share
// them.
func TestTenantsShareTheGlobalBound(t *testing.T) {
	t.Parallel()
	rig := newRig(t, 6)
	tenant, b := rig.tenant(t, "a"), rig.tenant(t, "b")
	pods := map[string]*store.Upload{tenant.Name: rig.uploads(t, tenant.ID()), b.Name: rig.uploads(t, b.ID())}
	rig.enqueue(t, tenant.ID(), 220)
	rig.enqueue(t, b.ID(), 220)
	eventually.Succeeds(t, func(context.Context) error {
		x := rig.parallelism(t, tenant)
		y := rig.parallelism(t, b)
		if x+y > 5 {
			t.Fatalf("%d and %d pods are more than 5", x, y)
		}
		if x+y < 5 || x == 0 || y == 0 {
			return fmt.Errorf("%d and %d pods, want 5 together and some for each", x, y)
		}
		return nil
	})
	greater := tenant
	lesser := b
	if rig.parallelism(t, tenant) < rig.parallelism(t, b) {
		greater = b
		lesser = tenant
	}
	claim(t, pods[greater.Name], 220, time.Minute)
	rig.waitForNothingReady(t, greater)
	rig.finish(t, rig.job(t, greater), batchv1.JobComplete, time.Now())
	rig.waitForPods(t, lesser, 4)
}

// TestRunningJobGivesUpPods shrinks a Job when another tenant comes, to the share that both have of the 5 pods of their
// namespace.
func TestRunningJobGivesUpPods(t *testing.T) {
	t.Parallel()
	rig := newRig(t, 6)
	noisy := rig.tenant(t, "noisy")
	quiet := rig.tenant(t, "quiet")
	rig.enqueue(t, noisy.ID(), 220)
	first := rig.waitForPods(t, noisy, 4)
	rig.enqueue(t, quiet.ID(), 220)
	if shrunk := rig.waitForPods(t, noisy, 3); shrunk.UID != first.UID {
		t.Error("the Job was replaced, not scaled")
	}
	rig.waitForPods(t, quiet, 2)
}

// staleCache has no Job that the API server has.
func staleCache() interceptor.Funcs {
	return interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, ok := o.(*batchv1.Job); ok {
				return apierrors.NewNotFound(schema.GroupResource{Group: "batch", Resource: "jobs"}, key.Name)
			}
			return c.Get(ctx, key, o, opts...)
		},
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return nil },
	}
}

func TestStaleCache(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		mine, others, maxPods int32
		want                  ctrl.Result
		wantPods              int32
	}{
		"the Job is there already": {mine: 2, maxPods: 64, wantPods: 2},
		"others have taken the bound": {
			others:  4,
			maxPods: 4,
			want:    ctrl.Result{RequeueAfter: 5 * time.Second},
		},
		"others have taken a part of the bound": {others: 4, maxPods: 6, wantPods: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig := setUp(t)
			tenant, other := rig.tenant(t, "support"), rig.tenant(t, "other")
			reconciler := rig.reconciler(tt.maxPods)
			for o, pods := range map[*v1alpha1.Tenant]int32{tenant: tt.mine, other: tt.others} {
				if pods == 0 {
					continue
				}
				if err := rig.Create(t.Context(), reconciler.newJob(o, pods)); err != nil {
					t.Fatal(err)
				}
			}
			reconciler.Client = interceptor.NewClient(rig.Client.(client.WithWatch), staleCache())
			reconciler.poller.take([]store.Backlog{{Tenant: tenant.ID(), Ready: 500}})
			got, err := reconciler.Reconcile(
				t.Context(),
				ctrl.Request{NamespacedName: client.ObjectKeyFromObject(tenant)},
			)
			if err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if pods := rig.parallelism(t, tenant); pods != tt.wantPods {
				t.Errorf("the Job has %d pods, want %d", pods, tt.wantPods)
			}
		})
	}
}

// A Job that somebody else replaced since it was read is not deleted in its place.
func TestRemoveTakesOnlyTheJobItSaw(t *testing.T) {
	t.Parallel()
	rig := setUp(t)
	tenant := rig.tenant(t, "support")
	reconciler := rig.reconciler(0)
	if err := rig.Create(t.Context(), reconciler.newJob(tenant, 1)); err != nil {
		t.Fatal(err)
	}
	seen := rig.job(t, tenant)
	seen.UID = "another"
	if err := reconciler.act(t.Context(), tenant, seen, decision{do: remove}); !apierrors.IsConflict(err) {
		t.Errorf("removing it: %v, want a conflict", err)
	}
	if rig.job(t, tenant) == nil {
		t.Error("the wrong Job was deleted")
	}
}

func TestExpiredLeasesAreReaped(t *testing.T) {
	t.Parallel()
	rig := newRig(t, 0)
	tenant := rig.tenant(t, "support")
	rig.enqueue(t, tenant.ID(), 1)
	pods := rig.uploads(t, tenant.ID())
	got, err := pods.Claim(t.Context(), "dead pod", 1, time.Millisecond)
	if err != nil || len(got) != 1 {
		t.Fatalf("claimed %d: %v", len(got), err)
	}
	key := store.RecordingKey{Tenant: tenant.ID(), ID: got[0].ID}
	eventually.Succeeds(t, func(ctx context.Context) error {
		rows, err := rig.db.Recordings(ctx, []store.RecordingKey{key})
		if row := rows[key]; err != nil || row.State != store.StatePending || row.Attempts != 1 {
			return fmt.Errorf("the row of a pod that died is %s after %d attempts: %w", row.State, row.Attempts, err)
		}
		return nil
	})
	rig.waitForPods(t, tenant, 1)
}

// A backlog that only stays makes no writes; one that changes all the time, to nothing and back too, few; and the last
// change is told even if nothing follows it.
func TestNoStormOfWrites(t *testing.T) {
	t.Parallel()
	rig := newRig(t, 0)
	tenant := rig.tenant(
		t,
		"support",
		func(o *v1alpha1.Tenant) { o.Spec.Suspend = ptr.To(true) },
	) // no Job: the status alone
	pods := rig.uploads(t, tenant.ID())
	var changes int
	for end := time.Now().Add(11 * time.Second); time.Now().Before(end); changes++ {
		rig.enqueue(t, tenant.ID(), 1)
		time.Sleep(1100 * time.Millisecond) // the pace of the load: the poller sees the queue full and, below, empty
		id := claim(t, pods, 1, time.Hour)[0]
		if err := pods.Fail(t.Context(), "pod", id, "gone", "the source says 410"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond)
	}
	rig.enqueue(t, tenant.ID(), 2)
	rig.waitForBacklog(t, tenant, 2) // written this moment, so the next change is too early
	rig.enqueue(t, tenant.ID(), 1)
	claim(t, pods, 3, time.Hour) // and from here on nothing changes
	rig.waitForBacklog(t, tenant, 3)
	told := rig.writes.all()
	for i := 1; i < len(told); i++ {
		if gap := told[i].at.Sub(
			told[i-1].at,
		); gap < reportEvery-time.Second { // one was on its way for longer than the other
			t.Errorf("two writes are %s apart, want %s: %+v", gap, reportEvery, told[i-1:i+1])
		}
	}
	if len(told) < 2 {
		t.Errorf("%d writes of %d changes", len(told), changes)
	}
	time.Sleep(3 * time.Second) // three polls of a backlog that stays
	if after := rig.writes.all(); len(after) != len(told) {
		t.Errorf("a backlog that stays makes writes: %+v", after[len(told):])
	}
}

func TestSteadyBacklogMakesOneJobAndNoMore(t *testing.T) {
	t.Parallel()
	rig := newRig(t, 0)
	tenant := rig.tenant(t, "support")
	rig.enqueue(t, tenant.ID(), 60)
	rig.waitForPods(t, tenant, 2)
	rig.waitForBacklog(t, tenant, 60)
	time.Sleep(4 * time.Second) // four polls, each of which wakes the controller
	count := map[string]int{}
	for _, w := range rig.writes.all() {
		count[w.verb+" "+w.kind]++
	}
	// A second try, before the cache has the Job, finds it there already.
	// The status is written for the backlog, the Job and the health of uploads.
	if count["create *v1.Job"] > 2 || count["patch *v1.Job"] > 1 || count["delete *v1.Job"] != 0 ||
		count["patch status *v1alpha1.Tenant"] > 3 {
		t.Errorf("writes: %v", count)
	}
}
