// Package uploadjob keeps one pooled upload Job for each tenant that has recordings to upload.
package uploadjob

import (
	"cmp"
	"context"
	"errors"
	"math"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/turns"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/suspension"
)

// Store is what the controller needs of PostgreSQL.
type Store interface {
	Backlogs(ctx context.Context, limitPerTenant int) ([]store.Backlog, error)
	UploadStates(ctx context.Context) ([]store.UploadState, error)
	ReapLeases(ctx context.Context) (int, error)
}

// Reconciler of the tenants' upload Jobs.
type Reconciler struct {
	Client client.Client
	Store  Store
	// UploadNamespace is where upload configs and upload Jobs are.
	UploadNamespace string
	// Image, PullPolicy and ServiceAccount of the upload pods.
	Image          string
	PullPolicy     corev1.PullPolicy
	ServiceAccount string
	// PodTemplate is what the platform wants of the upload pods.
	PodTemplate PodTemplate
	// AllowHTTP and SourceCIDRs are the platform's part of the source policy.
	AllowHTTP   bool
	SourceCIDRs []string
	// AllowHTTPStorage and StorageCIDRs are what the platform allows of the stores that Tenants name.
	AllowHTTPStorage bool
	StorageCIDRs     []string
	// EgressProxy and EgressNoProxy are the platform's proxy to hosts that Tenants name, and what is reached without it.
	EgressProxy   string
	EgressNoProxy []string
	// MaxRecordingBytes bounds one recording; 0 leaves it to the upload pods.
	MaxRecordingBytes int64
	// MaxPods bounds the upload pods of all tenants together; 0 means 64.
	MaxPods int32
	// MaxPerTenant bounds the upload pods of one tenant, whatever its spec says; 0 means a quarter of MaxPods.
	MaxPerTenant int32

	poller      poller
	inspections inspections
	live        client.Reader // SetupWithManager: past the cache
	ahead       time.Duration // tests: by how much pods are judged later
}

// Reconcile brings one tenant's Job to what its backlog asks for, and says in the Tenant how its uploads go.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var t v1alpha1.Tenant
	if err := r.Client.Get(ctx, req.NamespacedName, &t); err != nil {
		r.inspections.forget(req.String())
		return ctrl.Result{}, client.IgnoreNotFound(err) // the tenant controller removes what a Tenant leaves
	}
	backlog := r.poller.backlog(t.ID())
	wait, unreported := r.reportBacklog(ctx, &t, backlog)
	job := r.newJob(&t, 1)
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(job), job)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, errors.Join(err, unreported)
	}
	now := stateOf(&t, job, err == nil, backlog, time.Now())
	suspended, err := suspension.Of(ctx, &t, r.Client, r.live)
	if err != nil {
		return ctrl.Result{}, errors.Join(err, unreported)
	}
	now.wanted = now.wanted && !suspended.Suspended()
	var found findings
	if now.exists && !now.deleting {
		found = r.inspect(ctx, t.ID(), job, time.Now().Add(r.ahead))
	}
	now.stuck = found.stuck
	d, undecided := r.decide(ctx, now, &t)
	err = r.act(ctx, &t, job, d)
	told := r.reportHealth(ctx, &t, now.wanted, troubleOf(found, d, err))
	return ctrl.Result{RequeueAfter: sooner(sooner(d.after, wait), now.again())},
		errors.Join(unreported, undecided, err, told)
}

// decide asks the cache first. Before pods are started it asks the API server too: the cache may lack a Job that was made
// for another tenant a moment ago, and pods over the bound would stay.
func (r *Reconciler) decide(ctx context.Context, s state, t *v1alpha1.Tenant) (decision, error) {
	s.free, s.share = math.MaxInt32, math.MaxInt32
	d := decide(s)
	if !s.runs() && d.do != create {
		return d, nil
	}
	for _, reader := range []client.Reader{r.Client, r.live} {
		all, err := r.claimants(ctx, reader)
		if err != nil {
			return decision{}, err
		}
		all = withSelf(all, t, s)
		s.free, s.share = allowance(r.bounds(), all, t.ID()), share(r.bounds(), all, t.ID())
		if d = decide(s); !d.starts(s) {
			break
		}
	}
	return d, nil
}

// sooner of two waits, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// bounds of the upload pods.
func (r *Reconciler) bounds() bounds { return boundsOf(cmp.Or(r.MaxPods, defaultPods), r.MaxPerTenant) }

func (r *Reconciler) act(ctx context.Context, t *v1alpha1.Tenant, job *batchv1.Job, d decision) error {
	switch d.do {
	case create:
		err := r.Client.Create(ctx, r.newJob(t, d.parallelism))
		if apierrors.IsAlreadyExists(err) {
			return nil // a stale cache: the Job's own event brings us back
		}
		if err != nil {
			return err
		}
		return r.noteGrant(ctx, t, time.Now())
	case scale:
		base := job.DeepCopy()
		job.Spec.Parallelism = &d.parallelism
		return client.IgnoreNotFound(r.Client.Patch(ctx, job, client.MergeFrom(base)))
	case remove:
		return client.IgnoreNotFound(r.Client.Delete(ctx, job, client.PropagationPolicy("Background"), client.Preconditions{UID: &job.UID}))
	}
	return nil
}

// noteGrant records when the Tenant got its Job: tenants that wait are served in this order, also by the next operator.
func (r *Reconciler) noteGrant(ctx context.Context, t *v1alpha1.Tenant, at time.Time) error {
	base := t.DeepCopy()
	t.Status.LastUploadJobTime = ptr.To(metav1.NewTime(at))
	return client.IgnoreNotFound(r.Client.Status().Patch(ctx, t, client.MergeFrom(base)))
}

// reportBacklog writes the Tenant's backlog when it changed, at most every few seconds. It returns when to come back for a
// change that was too early.
func (r *Reconciler) reportBacklog(ctx context.Context, t *v1alpha1.Tenant, b store.Backlog) (time.Duration, error) {
	n := int32(b.Ready + b.Leased) //nolint:gosec // each is at most backlogLimit
	if known := t.Status.Backlog; (known != nil && *known == n) || (known == nil && n == 0) {
		return 0, nil
	}
	if wait := r.poller.mayReport(t.ID(), time.Now()); wait > 0 {
		return wait, nil
	}
	base := t.DeepCopy()
	t.Status.Backlog = &n
	return 0, client.IgnoreNotFound(r.Client.Status().Patch(ctx, t, client.MergeFrom(base)))
}

// SetupWithManager watches Tenants, their Jobs, and through the poller their backlogs.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.live = mgr.GetAPIReader()
	r.poller = poller{store: r.Store, events: make(chan event.TypedGenericEvent[types.NamespacedName], 256)}
	if err := mgr.Add(&r.poller); err != nil {
		return err
	}
	changed := source.TypedChannel(r.poller.events, handler.TypedFuncs[types.NamespacedName, reconcile.Request]{
		GenericFunc: func(_ context.Context, e event.TypedGenericEvent[types.NamespacedName], q turns.Queue) {
			q.Add(reconcile.Request{NamespacedName: e.Object})
		}})
	return ctrl.NewControllerManagedBy(mgr).Named("uploadjob").For(&v1alpha1.Tenant{}).
		Watches(&batchv1.Job{}, handler.EnqueueRequestsFromMapFunc(tenantOfJob)).
		WatchesRawSource(changed).
		WithOptions(controller.Options{NewQueue: turns.NewQueue}).
		Complete(r)
}

func tenantOfJob(_ context.Context, o client.Object) []reconcile.Request {
	l := o.GetLabels()
	if l[v1alpha1.LabelTenant] == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: l[v1alpha1.LabelTenantNamespace], Name: l[v1alpha1.LabelTenant]}}}
}
