package uploadjob

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	kubetest.Main(m)
}

// write is one write to the API server.
type write struct {
	verb, kind string
	at         time.Time
}

type writes struct {
	mu   sync.Mutex
	list []write
}

func (w *writes) add(verb string, o client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, write{verb, fmt.Sprintf("%T", o), time.Now()})
}

func (w *writes) all() []write {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.list)
}

// count notes every write that the controller makes.
func (w *writes) count() interceptor.Funcs {
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			w.add("create", o)
			return c.Create(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			w.add("patch", o)
			return c.Patch(ctx, o, p, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			w.add("delete", o)
			return c.Delete(ctx, o, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			w.add("patch "+sub, o)
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	}
}

// rig is the controller in a manager, with a work namespace, a namespace of tenants and a database of its own.
type rig struct {
	client.Client
	db         *store.Operator
	work, ns   string
	writes     writes
	controller *Reconciler
}

func newRig(t *testing.T, maxPods int32, changes ...func(*Reconciler)) *rig {
	t.Helper()
	r := setUp(t)
	mgr, err := ctrl.NewManager(kubetest.Get(t).Config, ctrl.Options{
		Scheme:     kubetest.Get(t).Scheme,
		Metrics:    server.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Cache: cache.Options{DefaultNamespaces: map[string]cache.Config{
			r.ns:   {},
			r.work: {},
		}}, // other tests have Tenants too
		NewClient: func(cfg *rest.Config, o client.Options) (client.Client, error) {
			withWatch, err := client.NewWithWatch(cfg, o)
			return interceptor.NewClient(withWatch, r.writes.count()), err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.controller = r.reconciler(maxPods)
	r.controller.Client = mgr.GetClient()
	if err := r.controller.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		change(r.controller)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the manager: %v", err)
		}
	})
	return r
}

// setUp is newRig without the manager.
func setUp(t *testing.T) *rig {
	t.Helper()
	env := kubetest.Get(t)
	db, err := store.OpenOperator(t.Context(), pgtest.New(t).OperatorDSN, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return &rig{Client: env.Client, db: db, work: env.NewNamespace(t), ns: env.NewNamespace(t)}
}

func (r *rig) reconciler(maxPods int32) *Reconciler {
	return &Reconciler{
		Client:          r.Client,
		live:            r.Client,
		Store:           r.db,
		UploadNamespace: r.work,
		Image:           "caly:test",
		PullPolicy:      corev1.PullIfNotPresent,
		ServiceAccount:  "caly-upload",
		AllowHTTP:       true,
		SourceCIDRs:     []string{"10.0.0.0/8", "fd00::/8"},
		MaxPods:         maxPods,
		MaxPerTenant:    4,
	}
}

// tenant makes a Tenant whose config was compiled.
func (r *rig) tenant(t *testing.T, name string, change ...func(*v1alpha1.Tenant)) *v1alpha1.Tenant {
	t.Helper()
	o := tenanttest.New(r.ns, name, change...)
	if err := r.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	r.setDigest(t, o, "compiled")
	return o
}

func (r *rig) setDigest(t *testing.T, o *v1alpha1.Tenant, digest string) {
	t.Helper()
	base := o.DeepCopy()
	o.Status.ConfigDigest = digest
	if err := r.Status().Patch(t.Context(), o, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
}

// enqueue queues n new recordings.
func (r *rig) enqueue(t *testing.T, tenant string, n int) {
	t.Helper()
	for i := range n {
		sid := fmt.Sprintf("call-%d-%d", time.Now().UnixNano(), i)
		url := "https://recordings.exotel.com/" + sid + ".mp3"
		rec := store.NewRecording{ID: recording.ID(sid, url), SourceURL: url}
		if _, err := r.db.Enqueue(t.Context(), tenant, sid, rec); err != nil {
			t.Fatal(err)
		}
	}
}

// uploads connects as the tenant's upload pods.
func (r *rig) uploads(t *testing.T, tenant string) *store.Upload {
	t.Helper()
	role, err := r.db.EnsureUploadRole(t.Context(), tenant, "pw")
	if err != nil {
		t.Fatal(err)
	}
	dsn, err := r.db.UploadDSN(role, "pw")
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.OpenUpload(t.Context(), dsn, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
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

// job is the tenant's Job, nil without one.
func (r *rig) job(t *testing.T, tenant *v1alpha1.Tenant) *batchv1.Job {
	t.Helper()
	var j batchv1.Job
	err := r.Get(t.Context(), client.ObjectKey{
		Namespace: r.work,
		Name:      tenantconfig.SecretName(tenantconfig.PrefixUpload, tenant.ID()),
	}, &j)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	if err != nil {
		return nil
	}
	return &j
}

// parallelism of the tenant's Job; 0 without one.
func (r *rig) parallelism(t *testing.T, tenant *v1alpha1.Tenant) int32 {
	t.Helper()
	if j := r.job(t, tenant); j != nil {
		return *j.Spec.Parallelism
	}
	return 0
}

func (r *rig) waitForPods(t *testing.T, tenant *v1alpha1.Tenant, want int32) *batchv1.Job {
	t.Helper()
	eventually.Succeeds(t, func(context.Context) error {
		if got := r.parallelism(t, tenant); got != want {
			return fmt.Errorf("the Job of %s has parallelism %d, want %d", tenant.Name, got, want)
		}
		return nil
	})
	return r.job(t, tenant)
}

// backlog is what the Tenant's status says; -1 when it says nothing.
func (r *rig) backlog(t *testing.T, tenant *v1alpha1.Tenant) int32 {
	t.Helper()
	var o v1alpha1.Tenant
	if err := r.Get(t.Context(), client.ObjectKeyFromObject(tenant), &o); err != nil {
		t.Fatal(err)
	}
	return ptr.Deref(o.Status.Backlog, -1)
}

func (r *rig) waitForBacklog(t *testing.T, tenant *v1alpha1.Tenant, want int32) {
	t.Helper()
	eventually.Succeeds(t, func(context.Context) error {
		if got := r.backlog(t, tenant); got != want {
			return fmt.Errorf("the status of %s says %d, want %d", tenant.Name, got, want)
		}
		return nil
	})
}

// waitForNothingReady waits until the poller has seen that all of a tenant's recordings are taken.
func (r *rig) waitForNothingReady(t *testing.T, tenant *v1alpha1.Tenant) {
	t.Helper()
	eventually.Succeeds(t, func(context.Context) error {
		if n := r.controller.poller.backlog(tenant.ID()).Ready; n != 0 {
			return fmt.Errorf("the poller still sees %d to do", n)
		}
		return nil
	})
}

// finish ends a Job, as the Job controller would.
func (r *rig) finish(t *testing.T, j *batchv1.Job, kind batchv1.JobConditionType, at time.Time) {
	t.Helper()
	r.finishFor(t, j, kind, "Test", at)
}

// finishFor ends a Job with a reason.
func (r *rig) finishFor(t *testing.T, j *batchv1.Job, kind batchv1.JobConditionType, reason string, at time.Time) {
	t.Helper()
	before := map[batchv1.JobConditionType]batchv1.JobConditionType{
		batchv1.JobComplete: batchv1.JobSuccessCriteriaMet,
		batchv1.JobFailed:   batchv1.JobFailureTarget,
	}[kind]
	j.Status.StartTime = ptr.To(metav1.NewTime(at.Add(-time.Minute)))
	if kind == batchv1.JobComplete {
		j.Status.CompletionTime = ptr.To(metav1.NewTime(at))
	}
	for _, k := range []batchv1.JobConditionType{before, kind} {
		j.Status.Conditions = append(j.Status.Conditions, batchv1.JobCondition{
			Type:               k,
			Status:             corev1.ConditionTrue,
			Reason:             reason,
			LastTransitionTime: metav1.NewTime(at),
		})
	}
	if err := r.Status().Update(t.Context(), j); err != nil {
		t.Fatal(err)
	}
}
