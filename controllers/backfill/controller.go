// Package backfill finds calls whose webhooks were lost: at an interval it asks Exotel's Call Details for each Tenant's recent
// calls, and applies what is missing as if its webhook had come. Whatever ends a run, the next one repeats it harmlessly.
package backfill

import (
	"context"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/controllers/internal/turns"
	"github.com/caly-dev/caly/internal/fair"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/secretlabel"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/suspension"
	"github.com/caly-dev/caly/internal/tracing"
)

// +kubebuilder:rbac:groups=voice.caly.dev,resources=tenants,verbs=get;list;watch
// +kubebuilder:rbac:groups=voice.caly.dev,resources=tenants/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Store is what the controller needs of PostgreSQL.
type Store interface {
	KnownCalls(ctx context.Context, tenant string, callSIDs []string) (map[string]store.Known, error)
	Suspects(ctx context.Context, tenant string, q store.SuspectQuery) ([]store.Suspect, error)
	NameHolders(ctx context.Context, name store.Name) ([]store.NameHolder, error)
	HeldNames(ctx context.Context, tenant, uid string) ([]store.Name, error)
	IngestBatch(ctx context.Context, events []store.Event) ([]store.Outcome, error)
	AddBackfill(ctx context.Context, tenant string, calls map[string]int64) error
}

// Limits of one run. What is over them is left to the next one, which comes soon. Zero fields have defaults.
type Limits struct {
	// Requests to Exotel; 0 means 1000, which is five minutes of an account's pace.
	Requests int
	// Calls that are looked at; 0 means 20000.
	Calls int
	// Suspects that are asked about, before all else; 0 means 50.
	Suspects int
	// Time of the whole run; 0 means 15 minutes.
	Time time.Duration
}

// withDefaults replaces limits that are zero or negative.
func (l Limits) withDefaults() Limits {
	if l.Requests <= 0 {
		l.Requests = 1000
	}
	if l.Calls <= 0 {
		l.Calls = 20_000
	}
	if l.Suspects <= 0 {
		l.Suspects = 50
	}
	if l.Time <= 0 {
		l.Time = 15 * time.Minute
	}
	return l
}

// Reconciler looks for each Tenant's lost calls. It works on the leader alone, so that an account's pace is kept by one process.
type Reconciler struct {
	Client    client.Client
	APIReader client.Reader // Secrets are read past the cache: they are not ours to keep
	Recorder  events.EventRecorder
	Store     Store
	// Registry of breakers and tries.
	Registry *resilience.Registry
	// Sources is the platform's part of the policy: for recordings, and for the API's address alike.
	Sources recording.SourcePolicy
	// SecretLabel is the label that the Secret with the Exotel credentials needs.
	SecretLabel secretlabel.Label
	// Transport to the API. It must not lead into the platform's own network: Tenants name the address.
	Transport http.RoundTripper
	Metrics   *Metrics
	// Tracer begins the trace of calls that were missing; nil: they are not traced.
	Tracer *tracing.Tracer
	// Interval is the least time between two requests of one account; 0 means 300 ms, which is Exotel's limit.
	Interval time.Duration
	// MinInterval is the platform's bound: the least time between two runs of a Tenant, whatever its spec says.
	MinInterval time.Duration
	// Workers is how many Tenants are looked after at once; 0 means 16. The Tenants of one namespace get a quarter of
	// them: its author can create many Tenants, whose APIs are slow.
	Workers int
	Limits  Limits

	accounts accounts
	memory   memory
	once     sync.Once
	gate     *fair.Gate
}

// runs is the gate of the runs, with a share for each namespace.
func (r *Reconciler) runs() *fair.Gate {
	r.once.Do(func() { r.gate = fair.NewGate(fair.Options{Places: r.workers()}) })
	return r.gate
}

func (r *Reconciler) workers() int {
	if r.Workers <= 0 {
		return defaultWorkers
	}
	return r.Workers
}

const defaultWorkers = 16

// scope is what one reconcile knows. Each field says who sets it.
type scope struct {
	reconcile.Scope[*v1alpha1.Tenant]
	tenant *v1alpha1.Tenant // Reconcile
	memory *remembered      // Reconcile
	creds  *credentials     // readAccount
	run    *run             // prepare
}

// Reconcile looks after one Tenant, if it is time to.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var t v1alpha1.Tenant
	err := r.Client.Get(ctx, req.NamespacedName, &t)
	if apierrors.IsNotFound(err) || (err == nil && !t.DeletionTimestamp.IsZero()) {
		r.forget(req.String())
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	if t.Spec.Exotel.Backfill == nil {
		r.forget(t.ID())
		return ctrl.Result{}, r.clear(ctx, &t)
	}
	s := &scope{tenant: &t, memory: r.memory.of(&t)}
	return s.Result(reconcile.Run(ctx, s, r.writeLast, r.stopUnlessWanted, r.await, r.look))
}

// writeLast writes what the last run could not write.
func (r *Reconciler) writeLast(ctx context.Context, s *scope) error {
	if err := r.write(ctx, s.tenant, s.memory); err != nil {
		return err
	}
	r.Metrics.succeeded(s.tenant.ID(), s.memory.status.LastSuccessTime)
	return nil
}

// stopUnlessWanted stops for a Tenant that needs no backfill. A change of the Tenant brings it back, and the end of a
// suspension changes its status.
func (r *Reconciler) stopUnlessWanted(ctx context.Context, s *scope) error {
	if ok, err := r.wanted(ctx, s.tenant); err != nil || ok {
		return err
	}
	return reconcile.Done(0)
}

// await stops until the next run is due.
func (r *Reconciler) await(ctx context.Context, s *scope) error {
	wait := time.Until(s.memory.due(s.tenant, r.interval(s.tenant)))
	if wait <= 0 {
		return nil
	}
	if corrected, err := r.corrected(ctx, s.tenant, s.memory); err != nil || corrected {
		return err
	}
	return reconcile.Done(wait)
}

// corrected reports whether the credentials were refused and are others now, so that the next run need not wait.
func (r *Reconciler) corrected(ctx context.Context, t *v1alpha1.Tenant, m *remembered) (bool, error) {
	if m.refused == [32]byte{} {
		return false, nil
	}
	creds, err := r.readCredentials(ctx, t)
	return err == nil && creds != nil && creds.digest(t) != m.refused, err
}

// wanted reports whether a Tenant needs backfill: not while it is suspended, being deleted or not ready.
func (r *Reconciler) wanted(ctx context.Context, t *v1alpha1.Tenant) (bool, error) {
	if !t.DeletionTimestamp.IsZero() || t.Spec.Exotel.Backfill == nil ||
		!works(t) {
		return false, nil
	}
	s, err := suspension.Of(ctx, t, r.Client, r.APIReader)
	return !s.Suspended(), err
}

// works reports whether a Tenant is Ready, or would be if it held every name of its spec and its uploads were healthy.
func works(t *v1alpha1.Tenant) bool {
	ready := apimeta.FindStatusCondition(t.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Status == metav1.ConditionTrue {
		return ready != nil
	}
	uploads := apimeta.FindStatusCondition(t.Status.Conditions, v1alpha1.ConditionUploadsHealthy)
	ofUploads := uploads != nil && uploads.Status == metav1.ConditionFalse && uploads.Reason == ready.Reason
	return ofUploads || ready.Reason == v1alpha1.ReasonNameTaken || ready.Reason == v1alpha1.ReasonNameNotAllowed
}

// stillWanted asks again, in the middle of a run.
func (r *Reconciler) stillWanted(ctx context.Context, was *v1alpha1.Tenant) (bool, error) {
	var t v1alpha1.Tenant
	if err := r.Client.Get(ctx, client.ObjectKeyFromObject(was), &t); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	if t.UID != was.UID {
		return false, nil
	}
	return r.wanted(ctx, &t)
}

// forget lets go of what is known of a Tenant that is gone.
func (r *Reconciler) forget(id string) {
	r.memory.forget(id)
	r.Metrics.forget(id)
}

// SetupWithManager watches Tenants, and by metadata alone the Secrets with their Exotel credentials.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("backfill").For(&v1alpha1.Tenant{}).
		WithOptions(controller.Options{NewQueue: turns.NewQueue, MaxConcurrentReconciles: r.workers()}).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.tenantsOf), builder.OnlyMetadata).
		Complete(r)
}

// tenantsOf maps a Secret to the Tenants whose Exotel credentials it holds.
func (r *Reconciler) tenantsOf(ctx context.Context, o client.Object) []ctrl.Request {
	var list v1alpha1.TenantList
	if err := r.Client.List(ctx, &list, client.InNamespace(o.GetNamespace())); err != nil {
		log.FromContext(ctx).Error(err, "list the Tenants that name a Secret", "secret", o.GetName())
		return nil
	}
	var reqs []ctrl.Request
	for i := range list.Items {
		if t := &list.Items[i]; t.Spec.Exotel.CredentialsSecretRef.Name == o.GetName() {
			reqs = append(reqs, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(t)})
		}
	}
	return reqs
}
