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
	"github.com/caly-dev/caly/internal/testkit/controllertest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

func TestJobFollowsTheBacklog(t *testing.T) {
	t.Parallel()
	var controller *Reconciler
	rig := start(t, 0, func(r *Reconciler) { controller = r })
	busy := rig.Tenant(t, "busy")
	idle := rig.Tenant(t, "idle")
	unready := rig.Tenant(t, "unready")
	rig.SetDigest(t, unready, "")
	pods := rig.UploadPods(t, busy.ID())
	enqueue(t, rig, rig.Namespace+"/ghost", 3) // its Tenant is gone, its rows are retained
	enqueue(t, rig, unready.ID(), 3)
	enqueue(t, rig, busy.ID(), 2)
	first := waitForPods(t, rig, busy, 1)
	eventually.Succeeds(t, func(ctx context.Context) error {
		err := rig.Client.Get(ctx, client.ObjectKeyFromObject(busy), busy)
		if err != nil || busy.Status.LastUploadJobTime == nil {
			return fmt.Errorf("the status does not say when the Job was created: %w", err)
		}
		return nil
	})
	waitForBacklog(t, rig, unready, 3) // it was looked at
	var jobs batchv1.JobList
	if err := rig.Client.List(t.Context(), &jobs, client.InNamespace(rig.Uploads)); err != nil || len(jobs.Items) != 1 {
		t.Fatalf("%d Jobs, want that of the one tenant with a config and a backlog: %v", len(jobs.Items), err)
	}

	enqueue(t, rig, busy.ID(), 99)
	if grown := waitForPods(t, rig, busy, 3); grown.UID != first.UID {
		t.Error("the Job was replaced, not scaled")
	}
	claim(t, pods, 101, time.Minute)
	waitForNothingReady(t, controller, busy)
	finish(t, rig, jobOf(t, rig, busy), batchv1.JobComplete, time.Now())
	waitForPods(t, rig, busy, 0)

	enqueue(t, rig, busy.ID(), 1)
	second := waitForPods(t, rig, busy, 1)
	if err := rig.Client.Delete(t.Context(), second.DeepCopy(), client.PropagationPolicy("Background")); err != nil {
		t.Fatal(err)
	}
	eventually.Succeeds(t, func(context.Context) error {
		if j := jobOf(t, rig, busy); j == nil || j.UID == second.UID {
			return errors.New("a Job that was deleted by hand is not made again")
		}
		return nil
	})
	if got := backlogOf(t, rig, idle); got != -1 {
		t.Errorf("the idle tenant's status says %d", got)
	}
}

func TestFailedJobIsLeftAloneForAWhile(t *testing.T) {
	t.Parallel()
	rig := start(t, 0)
	tenant := rig.Tenant(t, "support")
	enqueue(t, rig, tenant.ID(), 1)
	first := waitForPods(t, rig, tenant, 1)
	failed := time.Now().Add(3*time.Second - failedPause).Truncate(time.Second)
	finish(t, rig, first, batchv1.JobFailed, failed)
	eventually.Succeeds(t, func(context.Context) error {
		if j := jobOf(t, rig, tenant); j == nil || j.UID == first.UID {
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
	rig := start(t, 0)
	tenant := rig.Tenant(t, "support")
	enqueue(t, rig, tenant.ID(), 1)
	first := waitForPods(t, rig, tenant, 1)
	ended := time.Now()
	finishAs(t, rig, first, batchv1.JobCondition{
		Type:               batchv1.JobFailed,
		Reason:             batchv1.JobReasonDeadlineExceeded,
		LastTransitionTime: metav1.NewTime(ended),
	})
	eventually.Succeeds(t, func(context.Context) error {
		if j := jobOf(t, rig, tenant); j == nil || j.UID == first.UID {
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
	rig := start(t, 0)
	tenant := rig.Tenant(t, "support")
	enqueue(t, rig, tenant.ID(), 1)
	waitForPods(t, rig, tenant, 1)
	suspend := func(on bool) {
		base := tenant.DeepCopy()
		tenant.Spec.Suspend = &on
		if err := rig.Client.Patch(t.Context(), tenant, client.MergeFrom(base)); err != nil {
			t.Fatal(err)
		}
	}
	suspend(true)
	waitForPods(t, rig, tenant, 0)
	enqueue(t, rig, tenant.ID(), 1)
	waitForBacklog(t, rig, tenant, 2) // looked at since, with work to do
	if jobOf(t, rig, tenant) != nil {
		t.Error("a suspended tenant got a Job")
	}
	suspend(false)
	waitForPods(t, rig, tenant, 1)
}

// TestPlatformSuspendedTenantHasNoJob annotates the Namespace. Neither the spec nor the status of the Tenant
// says that it is suspended.
func TestPlatformSuspendedTenantHasNoJob(t *testing.T) {
	t.Parallel()
	rig := start(t, 0)
	tenant := rig.Tenant(t, "support", func(t *v1alpha1.Tenant) { t.Spec.Suspend = ptr.To(false) })
	enqueue(t, rig, tenant.ID(), 1)
	waitForPods(t, rig, tenant, 1)
	annotate := func(value string) {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: rig.Namespace}}
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%s}}}`, v1alpha1.AnnotationSuspend, value)
		if err := rig.Client.Patch(
			t.Context(), ns, client.RawPatch("application/merge-patch+json", []byte(patch)),
		); err != nil {
			t.Fatal(err)
		}
		rig.SetDigest(t, tenant, "compiled "+value) // the tenant controller writes the status then
	}
	annotate(`"unpaid"`)
	waitForPods(t, rig, tenant, 0)
	enqueue(t, rig, tenant.ID(), 1)
	waitForBacklog(t, rig, tenant, 2) // looked at since, with work to do
	if jobOf(t, rig, tenant) != nil {
		t.Error("a suspended tenant got a Job")
	}
	annotate("null")
	waitForPods(t, rig, tenant, 1)
}

// TestTenantsShareTheGlobalBound verifies that two busy tenants share their namespace's part of a bound of 6. They
// never have more pods, not even at first.
func TestTenantsShareTheGlobalBound(t *testing.T) {
	t.Parallel()
	var controller *Reconciler
	rig := start(t, 6, func(r *Reconciler) { controller = r })
	tenant, b := rig.Tenant(t, "a"), rig.Tenant(t, "b")
	pods := map[string]*store.Upload{tenant.Name: rig.UploadPods(t, tenant.ID()), b.Name: rig.UploadPods(t, b.ID())}
	enqueue(t, rig, tenant.ID(), 220)
	enqueue(t, rig, b.ID(), 220)
	eventually.Succeeds(t, func(context.Context) error {
		x := parallelism(t, rig, tenant)
		y := parallelism(t, rig, b)
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
	if parallelism(t, rig, tenant) < parallelism(t, rig, b) {
		greater = b
		lesser = tenant
	}
	claim(t, pods[greater.Name], 220, time.Minute)
	waitForNothingReady(t, controller, greater)
	finish(t, rig, jobOf(t, rig, greater), batchv1.JobComplete, time.Now())
	waitForPods(t, rig, lesser, 4)
}

// TestRunningJobGivesUpPods shrinks a Job when another tenant comes, to the share that both have of the 5 pods of their
// namespace.
func TestRunningJobGivesUpPods(t *testing.T) {
	t.Parallel()
	rig := start(t, 6)
	noisy := rig.Tenant(t, "noisy")
	quiet := rig.Tenant(t, "quiet")
	enqueue(t, rig, noisy.ID(), 220)
	first := waitForPods(t, rig, noisy, 4)
	enqueue(t, rig, quiet.ID(), 220)
	if shrunk := waitForPods(t, rig, noisy, 3); shrunk.UID != first.UID {
		t.Error("the Job was replaced, not scaled")
	}
	waitForPods(t, rig, quiet, 2)
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
			rig := controllertest.New(t)
			tenant, other := rig.Tenant(t, "support"), rig.Tenant(t, "other")
			reconciler := newReconciler(rig, tt.maxPods)
			for o, pods := range map[*v1alpha1.Tenant]int32{tenant: tt.mine, other: tt.others} {
				if pods == 0 {
					continue
				}
				if err := rig.Client.Create(t.Context(), reconciler.newJob(o, pods)); err != nil {
					t.Fatal(err)
				}
			}
			reconciler.Client = interceptor.NewClient(rig.Client, staleCache())
			reconciler.poller.take([]store.Backlog{{Tenant: tenant.ID(), Ready: 500}})
			got, err := reconciler.Reconcile(
				t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(tenant)},
			)
			if err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if pods := parallelism(t, rig, tenant); pods != tt.wantPods {
				t.Errorf("the Job has %d pods, want %d", pods, tt.wantPods)
			}
		})
	}
}

// TestRemoveTakesOnlyTheJobItSaw verifies that the removal of a Job does not delete another Job that replaced it after
// it was read.
func TestRemoveTakesOnlyTheJobItSaw(t *testing.T) {
	t.Parallel()
	rig := controllertest.New(t)
	tenant := rig.Tenant(t, "support")
	reconciler := newReconciler(rig, 0)
	if err := rig.Client.Create(t.Context(), reconciler.newJob(tenant, 1)); err != nil {
		t.Fatal(err)
	}
	seen := jobOf(t, rig, tenant)
	seen.UID = "another"
	if err := reconciler.act(t.Context(), tenant, seen, decision{do: remove}); !apierrors.IsConflict(err) {
		t.Errorf("removing it: %v, want a conflict", err)
	}
	if jobOf(t, rig, tenant) == nil {
		t.Error("the wrong Job was deleted")
	}
}

func TestExpiredLeasesAreReaped(t *testing.T) {
	t.Parallel()
	rig := start(t, 0)
	tenant := rig.Tenant(t, "support")
	enqueue(t, rig, tenant.ID(), 1)
	pods := rig.UploadPods(t, tenant.ID())
	got, err := pods.Claim(t.Context(), "dead pod", 1, time.Millisecond)
	if err != nil || len(got) != 1 {
		t.Fatalf("claimed %d: %v", len(got), err)
	}
	key := store.RecordingKey{Tenant: tenant.ID(), ID: got[0].ID}
	eventually.Succeeds(t, func(ctx context.Context) error {
		rows, err := rig.DB.Recordings(ctx, []store.RecordingKey{key})
		if row := rows[key]; err != nil || row.State != store.StatePending || row.Attempts != 1 {
			return fmt.Errorf("the row of a pod that died is %s after %d attempts: %w", row.State, row.Attempts, err)
		}
		return nil
	})
	waitForPods(t, rig, tenant, 1)
}

// TestNoStormOfWrites verifies that a steady backlog causes no writes, and that one that changes all the time causes
// few. The last change is written even if nothing follows it.
func TestNoStormOfWrites(t *testing.T) {
	t.Parallel()
	rig := start(t, 0)
	tenant := rig.Tenant(
		t, "support", func(o *v1alpha1.Tenant) { o.Spec.Suspend = ptr.To(true) },
	) // no Job: the status alone
	pods := rig.UploadPods(t, tenant.ID())
	const pace = 1100 * time.Millisecond // of the load: the poller sees the queue full and empty by turns
	var changes int
	for end := time.Now().Add(11 * time.Second); time.Now().Before(end); changes++ {
		enqueue(t, rig, tenant.ID(), 1)
		time.Sleep(pace)
		id := claim(t, pods, 1, time.Hour)[0]
		if err := pods.Fail(t.Context(), "pod", id, "gone", "the source says 410"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pace)
	}
	enqueue(t, rig, tenant.ID(), 2)
	waitForBacklog(t, rig, tenant, 2) // written this moment, so the next change is too early
	enqueue(t, rig, tenant.ID(), 1)
	claim(t, pods, 3, time.Hour) // and from here on nothing changes
	waitForBacklog(t, rig, tenant, 3)
	told := rig.Writes.All()
	for i := 1; i < len(told); i++ {
		if gap := told[i].At.Sub(
			told[i-1].At,
		); gap < reportEvery-time.Second { // one was on its way for longer than the other
			t.Errorf("two writes are %s apart, want %s: %+v", gap, reportEvery, told[i-1:i+1])
		}
	}
	if len(told) < 2 {
		t.Errorf("%d writes of %d changes", len(told), changes)
	}
	eventually.For(3*time.Second).Stays(t, func(context.Context) error { // three polls of a backlog that stays
		if after := rig.Writes.All(); len(after) != len(told) {
			return fmt.Errorf("a backlog that stays makes writes: %+v", after[len(told):])
		}
		return nil
	})
}

func TestSteadyBacklogMakesOneJobAndNoMore(t *testing.T) {
	t.Parallel()
	rig := start(t, 0)
	tenant := rig.Tenant(t, "support")
	enqueue(t, rig, tenant.ID(), 60)
	waitForPods(t, rig, tenant, 2)
	waitForBacklog(t, rig, tenant, 60)
	eventually.For(4*time.Second).Stays(t, func(context.Context) error { // four polls; each wakes the controller
		count := map[string]int{}
		for _, w := range rig.Writes.All() {
			count[w.String()]++
		}
		// A second try, before the cache has the Job, finds it there already.
		// The status is written for the backlog, the Job and the health of uploads.
		if count["create *v1.Job"] > 2 || count["patch *v1.Job"] > 1 || count["delete *v1.Job"] != 0 ||
			count["patch status *v1alpha1.Tenant"] > 3 {
			return fmt.Errorf("writes: %v", count)
		}
		return nil
	})
}
