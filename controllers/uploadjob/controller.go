// Package uploadjob keeps one pooled upload Job for each tenant that has recordings to upload.
package uploadjob

import (
	"context"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
)

// Store is what the controller needs of PostgreSQL.
type Store interface {
	Backlogs(ctx context.Context, limitPerTenant int) ([]store.Backlog, error)
	ReapLeases(ctx context.Context) (int, error)
}

// Reconciler of the tenants' upload Jobs.
type Reconciler struct {
	Client        client.Client
	Store         Store
	WorkNamespace string
	// Image, PullPolicy and ServiceAccount of the upload pods.
	Image          string
	PullPolicy     corev1.PullPolicy
	ServiceAccount string
	// AllowHTTP and SourceCIDRs are the platform's part of the source policy.
	AllowHTTP   bool
	SourceCIDRs []string
	// MaxPods bounds the upload pods of all tenants together; 0 means 64.
	MaxPods int32

	poller poller
}

// Reconcile brings one tenant's Job to what its backlog asks for.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var t v1alpha1.Tenant
	if err := r.Client.Get(ctx, req.NamespacedName, &t); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err) // the tenant controller removes what a Tenant leaves
	}
	backlog := r.poller.backlog(t.ID())
	if err := r.reportBacklog(ctx, &t, backlog); err != nil {
		return ctrl.Result{}, err
	}
	job := r.newJob(&t, 1)
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(job), job)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	exists := err == nil
	used, err := r.podsOfOthers(ctx, job.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	d := decide(stateOf(&t, job, exists, backlog, used, r.maxPods(), time.Now()))
	return ctrl.Result{RequeueAfter: d.after}, r.act(ctx, &t, job, d)
}

func (r *Reconciler) maxPods() int32 {
	if r.MaxPods == 0 {
		return 64
	}
	return r.MaxPods
}

func (r *Reconciler) act(ctx context.Context, t *v1alpha1.Tenant, job *batchv1.Job, d decision) error {
	switch d.do {
	case create:
		err := r.Client.Create(ctx, r.newJob(t, d.parallelism))
		if apierrors.IsAlreadyExists(err) {
			return nil // a stale cache: the Job's own event brings us back
		}
		return err
	case scale:
		base := job.DeepCopy()
		job.Spec.Parallelism = &d.parallelism
		return client.IgnoreNotFound(r.Client.Patch(ctx, job, client.MergeFrom(base)))
	case remove:
		return client.IgnoreNotFound(r.Client.Delete(ctx, job, client.PropagationPolicy("Background"), client.Preconditions{UID: &job.UID}))
	}
	return nil
}

// podsOfOthers counts the pods that the other tenants' Jobs may have now.
func (r *Reconciler) podsOfOthers(ctx context.Context, name string) (int32, error) {
	var jobs batchv1.JobList
	if err := r.Client.List(ctx, &jobs, client.InNamespace(r.WorkNamespace), client.MatchingLabels{v1alpha1.LabelComponent: "upload"}); err != nil {
		return 0, err
	}
	var n int32
	for i := range jobs.Items {
		if j := &jobs.Items[i]; j.Name != name && !finished(j) && j.Spec.Parallelism != nil {
			n += *j.Spec.Parallelism
		}
	}
	return n, nil
}

// reportBacklog writes the Tenant's backlog when it changed, and while it only counts up or down, every few seconds.
func (r *Reconciler) reportBacklog(ctx context.Context, t *v1alpha1.Tenant, b store.Backlog) error {
	n := int32(b.Ready + b.Leased) //nolint:gosec // each is at most backlogLimit
	known := t.Status.Backlog != nil
	if (known && *t.Status.Backlog == n) || (!known && n == 0) {
		return nil
	}
	if known && (*t.Status.Backlog == 0) == (n == 0) && !r.poller.mayReport(t.ID(), time.Now()) {
		return nil
	}
	base := t.DeepCopy()
	t.Status.Backlog = &n
	return client.IgnoreNotFound(r.Client.Status().Patch(ctx, t, client.MergeFrom(base)))
}

// SetupWithManager watches Tenants, their Jobs, and through the poller their backlogs.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.poller = poller{store: r.Store, events: make(chan event.TypedGenericEvent[types.NamespacedName], 256)}
	if err := mgr.Add(&r.poller); err != nil {
		return err
	}
	changed := source.TypedChannel(r.poller.events, handler.TypedFuncs[types.NamespacedName, reconcile.Request]{
		GenericFunc: func(_ context.Context, e event.TypedGenericEvent[types.NamespacedName], q queue) {
			q.Add(reconcile.Request{NamespacedName: e.Object})
		}})
	return ctrl.NewControllerManagedBy(mgr).Named("uploadjob").For(&v1alpha1.Tenant{}).
		Watches(&batchv1.Job{}, handler.EnqueueRequestsFromMapFunc(tenantOfJob)).
		WatchesRawSource(changed).Complete(r)
}

func tenantOfJob(_ context.Context, o client.Object) []reconcile.Request {
	l := o.GetLabels()
	if l[v1alpha1.LabelTenant] == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: l[v1alpha1.LabelTenantNamespace], Name: l[v1alpha1.LabelTenant]}}}
}
