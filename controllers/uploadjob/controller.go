// Package uploadjob keeps one pooled upload Job for each tenant that has recordings to upload.
package uploadjob

import (
	"cmp"
	"context"
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
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
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
	// TraceEndpoint is where upload pods send their traces; empty: nowhere.
	TraceEndpoint string
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

// scope is what one reconcile knows. Each field says who sets it.
type scope struct {
	reconcile.Scope[*v1alpha1.Tenant]
	tenant   *v1alpha1.Tenant // Reconcile
	backlog  store.Backlog    // Reconcile
	job      *batchv1.Job     // findJob; as it would be created if it does not exist
	now      state            // findJob; later steps add to it
	found    findings         // inspectJob
	decision decision         // decideJob; to leave the Job alone if it cannot be made
	refused  error            // changeJob: why the Job could not be changed
}

// Reconcile brings one tenant's Job to what its backlog asks for, and says in the Tenant how its uploads go. The status
// is written in parts: each has its own rule for when it may be written.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var t v1alpha1.Tenant
	if err := r.Client.Get(ctx, req.NamespacedName, &t); err != nil {
		r.inspections.forget(req.String())
		return ctrl.Result{}, client.IgnoreNotFound(err) // the tenant controller removes what a Tenant leaves
	}
	s := &scope{tenant: &t, backlog: r.poller.backlog(t.ID())}
	return s.Result(reconcile.Run(ctx, s, r.reportBacklog, r.findJob, r.findSuspension, r.inspectJob, r.decideJob,
		r.changeJob, r.reportHealth))
}

func (r *Reconciler) writer() reconcile.Writer {
	return reconcile.Writer{Client: r.Client, Owner: reconcile.OfUploadJob}
}

// findJob reads the tenant's Job.
func (r *Reconciler) findJob(ctx context.Context, s *scope) error {
	s.job = r.newJob(s.tenant, 1)
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(s.job), s.job)
	s.now = stateOf(s.tenant, s.job, err == nil, s.backlog, time.Now())
	return client.IgnoreNotFound(err)
}

// findSuspension finds out whether the Tenant is suspended.
func (r *Reconciler) findSuspension(ctx context.Context, s *scope) error {
	suspended, err := suspension.Of(ctx, s.tenant, r.Client, r.live)
	s.now.wanted = s.now.wanted && !suspended.Suspended()
	return err
}

// inspectJob looks at the pods of the Job.
func (r *Reconciler) inspectJob(ctx context.Context, s *scope) error {
	if s.now.exists && !s.now.deleting {
		s.found = r.inspect(ctx, s.tenant.ID(), s.job, time.Now().Add(r.ahead))
	}
	s.now.stuck = s.found.stuck
	return nil
}

// decideJob decides what to do with the Job.
func (r *Reconciler) decideJob(ctx context.Context, s *scope) error {
	var err error
	s.decision, err = r.decide(ctx, s.now, s.tenant)
	s.Fault(err)
	s.ComeBack(s.decision.after)
	s.ComeBack(s.now.again())
	return nil
}

// changeJob does what was decided. The condition UploadsHealthy reports why it could not.
func (r *Reconciler) changeJob(ctx context.Context, s *scope) error {
	s.refused = r.act(ctx, s.tenant, s.job, s.decision)
	s.Fault(s.refused)
	return nil
}

// decide asks the cache first. Before pods are started it asks the API server too: the cache may lack a Job that was made
// for another tenant a moment ago, and pods over the bound would stay.
func (r *Reconciler) decide(ctx context.Context, s state, t *v1alpha1.Tenant) (decision, error) {
	s.free = math.MaxInt32
	s.share = math.MaxInt32
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
		s.free = allowance(r.bounds(), all, t.ID())
		s.share = share(r.bounds(), all, t.ID())
		if d = decide(s); !d.starts(s) {
			break
		}
	}
	return d, nil
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
		return client.IgnoreNotFound(
			r.Client.Delete(ctx, job, client.PropagationPolicy("Background"), client.Preconditions{UID: &job.UID}),
		)
	}
	return nil
}

// noteGrant records when the Tenant got its Job: tenants that wait are served in this order, also by the next operator.
func (r *Reconciler) noteGrant(ctx context.Context, t *v1alpha1.Tenant, at time.Time) error {
	base := t.DeepCopy()
	t.Status.LastUploadJobTime = ptr.To(metav1.NewTime(at))
	_, err := r.writer().WriteFields(ctx, base, t)
	return err
}

// reportBacklog writes the Tenant's backlog when it changed, at most every few seconds. The Tenant comes back for a
// change that was too early.
func (r *Reconciler) reportBacklog(ctx context.Context, s *scope) error {
	t := s.tenant
	n := int32(s.backlog.Ready + s.backlog.Leased) //nolint:gosec // each is at most backlogLimit
	if known := t.Status.Backlog; (known != nil && *known == n) || (known == nil && n == 0) {
		return nil
	}
	if wait := r.poller.mayReport(t.ID(), time.Now()); wait > 0 {
		s.ComeBack(wait)
		return nil
	}
	base := t.DeepCopy()
	t.Status.Backlog = &n
	_, err := r.writer().WriteFields(ctx, base, t)
	s.Fault(err)
	return nil
}

// SetupWithManager watches Tenants, their Jobs, and through the poller their backlogs.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.live = mgr.GetAPIReader()
	r.poller = poller{store: r.Store, events: make(chan event.TypedGenericEvent[types.NamespacedName], 256)}
	if err := mgr.Add(&r.poller); err != nil {
		return err
	}
	changed := source.TypedChannel(r.poller.events, handler.TypedFuncs[types.NamespacedName, ctrl.Request]{
		GenericFunc: func(_ context.Context, e event.TypedGenericEvent[types.NamespacedName], q turns.Queue) {
			q.Add(ctrl.Request{NamespacedName: e.Object})
		}})
	return ctrl.NewControllerManagedBy(mgr).Named("uploadjob").For(&v1alpha1.Tenant{}).
		Watches(&batchv1.Job{}, handler.EnqueueRequestsFromMapFunc(tenantOfJob)).
		WatchesRawSource(changed).
		WithOptions(controller.Options{NewQueue: turns.NewQueue}).
		Complete(r)
}

func tenantOfJob(_ context.Context, o client.Object) []ctrl.Request {
	l := o.GetLabels()
	if l[v1alpha1.LabelTenant] == "" {
		return nil
	}
	return []ctrl.Request{{NamespacedName: types.NamespacedName{
		Namespace: l[v1alpha1.LabelTenantNamespace],
		Name:      l[v1alpha1.LabelTenant],
	}}}
}
