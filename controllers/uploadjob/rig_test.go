package uploadjob

import (
	"context"
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

func TestMain(m *testing.M) {
	controllertest.Main(m)
}

// start runs the controller in a manager, with the changes of a test.
func start(t *testing.T, maxPods int32, changes ...func(*Reconciler)) *controllertest.Rig {
	t.Helper()
	r := controllertest.New(t)
	mgr := r.Manager(t)
	controller := newReconciler(r, maxPods)
	controller.Client = mgr.GetClient()
	if err := controller.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		change(controller)
	}
	controllertest.Start(t, mgr)
	return r
}

func newReconciler(r *controllertest.Rig, maxPods int32) *Reconciler {
	return &Reconciler{
		Client:          r.Client,
		live:            r.Client,
		Store:           r.DB,
		UploadNamespace: r.Uploads,
		Image:           "caly:test",
		PullPolicy:      corev1.PullIfNotPresent,
		ServiceAccount:  "caly-upload",
		AllowHTTP:       true,
		SourceCIDRs:     []string{"10.0.0.0/8", "fd00::/8"},
		MaxPods:         maxPods,
		MaxPerTenant:    4,
	}
}

// enqueue queues n new recordings.
func enqueue(t *testing.T, r *controllertest.Rig, tenant string, n int) {
	t.Helper()
	for i := range n {
		sid := fmt.Sprintf("call-%d-%d", time.Now().UnixNano(), i)
		r.Enqueue(t, tenant, sid, "https://recordings.exotel.com/"+sid+".mp3")
	}
}

// claim takes n recordings off the ready ones.
func claim(t *testing.T, db *store.Upload, n int, lease time.Duration) (ids []string) {
	t.Helper()
	got, err := db.Claim(t.Context(), "pod", n, lease)
	if err != nil || len(got) != n {
		t.Fatalf("claimed %d of %d: %v", len(got), n, err)
	}
	for _, r := range got {
		ids = append(ids, r.ID)
	}
	return ids
}

// jobOf is the tenant's Job, nil without one.
func jobOf(t *testing.T, r *controllertest.Rig, tenant *v1alpha1.Tenant) *batchv1.Job {
	t.Helper()
	var j batchv1.Job
	if !r.Find(t, r.Uploads, tenantconfig.SecretName(tenantconfig.PrefixUpload, tenant.ID()), &j) {
		return nil
	}
	return &j
}

// parallelism of the tenant's Job; 0 without one.
func parallelism(t *testing.T, r *controllertest.Rig, tenant *v1alpha1.Tenant) int32 {
	t.Helper()
	if j := jobOf(t, r, tenant); j != nil {
		return *j.Spec.Parallelism
	}
	return 0
}

func waitForPods(t *testing.T, r *controllertest.Rig, tenant *v1alpha1.Tenant, want int32) *batchv1.Job {
	t.Helper()
	eventually.Succeeds(t, func(context.Context) error {
		if got := parallelism(t, r, tenant); got != want {
			return fmt.Errorf("the Job of %s has parallelism %d, want %d", tenant.Name, got, want)
		}
		return nil
	})
	return jobOf(t, r, tenant)
}

// backlogOf is what the Tenant's status says; -1 when it says nothing.
func backlogOf(t *testing.T, r *controllertest.Rig, tenant *v1alpha1.Tenant) int32 {
	t.Helper()
	var o v1alpha1.Tenant
	if err := r.Client.Get(t.Context(), client.ObjectKeyFromObject(tenant), &o); err != nil {
		t.Fatal(err)
	}
	return ptr.Deref(o.Status.Backlog, -1)
}

func waitForBacklog(t *testing.T, r *controllertest.Rig, tenant *v1alpha1.Tenant, want int32) {
	t.Helper()
	eventually.Succeeds(t, func(context.Context) error {
		if got := backlogOf(t, r, tenant); got != want {
			return fmt.Errorf("the status of %s says %d, want %d", tenant.Name, got, want)
		}
		return nil
	})
}

// waitForNothingReady waits until the poller has seen that all of a tenant's recordings are taken.
func waitForNothingReady(t *testing.T, controller *Reconciler, tenant *v1alpha1.Tenant) {
	t.Helper()
	eventually.Succeeds(t, func(context.Context) error {
		if n := controller.poller.backlog(tenant.ID()).Ready; n != 0 {
			return fmt.Errorf("the poller still sees %d to do", n)
		}
		return nil
	})
}

// finish ends a Job, as the Job controller would.
func finish(t *testing.T, r *controllertest.Rig, j *batchv1.Job, kind batchv1.JobConditionType, at time.Time) {
	t.Helper()
	finishAs(t, r, j, batchv1.JobCondition{Type: kind, Reason: "Test", LastTransitionTime: metav1.NewTime(at)})
}

// finishAs ends a Job with a condition that has a type, a reason and a time.
func finishAs(t *testing.T, r *controllertest.Rig, j *batchv1.Job, end batchv1.JobCondition) {
	t.Helper()
	before := map[batchv1.JobConditionType]batchv1.JobConditionType{
		batchv1.JobComplete: batchv1.JobSuccessCriteriaMet,
		batchv1.JobFailed:   batchv1.JobFailureTarget,
	}[end.Type]
	j.Status.StartTime = ptr.To(metav1.NewTime(end.LastTransitionTime.Add(-time.Minute)))
	if end.Type == batchv1.JobComplete {
		j.Status.CompletionTime = ptr.To(end.LastTransitionTime)
	}
	end.Status = corev1.ConditionTrue
	for _, kind := range []batchv1.JobConditionType{before, end.Type} {
		end.Type = kind
		j.Status.Conditions = append(j.Status.Conditions, end)
	}
	if err := r.Client.Status().Update(t.Context(), j); err != nil {
		t.Fatal(err)
	}
}
