// Package tenant compiles each Tenant and its Secrets into what the pods read, and releases it when the Tenant goes.
package tenant

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/controllers/internal/turns"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/secretlabel"
	"github.com/caly-dev/caly/internal/suspension"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// +kubebuilder:rbac:groups=voice.caly.dev,resources=tenants,verbs=get;list;watch;update;patch
// +kubebuilder:rbac:groups=voice.caly.dev,resources=tenants/status;tenants/finalizers,verbs=update;patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// secretIndex finds the Tenants that name a Secret.
const secretIndex = "caly.secrets"

// Store is what the controller needs of PostgreSQL.
type Store interface {
	EnsureUploadRole(ctx context.Context, tenant, password string) (role string, err error)
	LimitUploadRole(ctx context.Context, tenant string, pods int) error
	DropUploadRole(ctx context.Context, tenant string) error
	UploadDSN(role, password string) (string, error)
	// ClaimTenant records the UID of the Tenant object, unless the rows belong to another one, and returns the recorded
	// UID.
	ClaimTenant(ctx context.Context, tenant, uid string, compiled bool) (owner string, err error)
	AdoptTenant(ctx context.Context, tenant, predecessor, uid string) error
	ReplaceTenant(ctx context.Context, tenant, predecessor, uid string) error
	EndAccess(ctx context.Context, tenant string) error
	SuspendTenant(ctx context.Context, tenant string, suspended bool) error
	TakeLeases(ctx context.Context, tenant string) error
	HasUploads(ctx context.Context, tenant string) (bool, error)
	HasLiveCaptures(ctx context.Context, tenant string) (bool, error)
	DeleteTenant(ctx context.Context, tenant string) error
	nameStore
}

// Buckets asks the stores of tenants. Errors carry a *objectstore.ProbeError where the answer was clear.
type Buckets interface {
	// Probe asks for a list of objects and, with write, does what uploads do, and returns what it found out.
	Probe(ctx context.Context, u *tenantconfig.Upload, write bool) (objectstore.Finding, error)
	// ReadBack reports whether the bucket still has what a probe has written, by the digest of its Finding.
	ReadBack(ctx context.Context, u *tenantconfig.Upload, written string) (same bool, err error)
	DeletePrefix(ctx context.Context, u *tenantconfig.Upload, prefix string) error
	// AssumeRole exchanges a token for temporary credentials. Its error is an *objectstore.IdentityError where the STS
	// was asked.
	AssumeRole(ctx context.Context, tenantID string, w objectstore.WebIdentity) (objectstore.TemporaryKey, error)
	// AllowsLinks reports whether the platform allows links to download recordings to name an endpoint.
	AllowsLinks(endpoint string) bool
}

// Reconciler of Tenants.
type Reconciler struct {
	Client    client.Client
	APIReader client.Reader // Secrets are read past the cache: they are not ours to keep
	Recorder  events.EventRecorder
	Store     Store
	Buckets   Buckets
	// WorkNamespace is where the configs of the data plane are.
	WorkNamespace string
	// UploadNamespace is where upload configs and upload Jobs are. The data plane cannot read it.
	UploadNamespace string
	// PublicURL is where Exotel reaches the data plane.
	PublicURL string
	// Ceilings are the platform's bounds on limits of the spec.
	Ceilings Ceilings
	// SecretLabel is the label that every Secret needs that a Tenant names.
	SecretLabel secretlabel.Label
	// PlatformHosts are the platform's own hosts, which no Tenant may have.
	PlatformHosts tenantconfig.HostPatterns
	// Configs lists what is published; nil keeps no list.
	Configs *ConfigList
	// Accounts asks Exotel whether two Tenants may share an account; nil: none may.
	Accounts Accounts
	// Identities obtains temporary credentials for buckets; nil: no Tenant may use web identity.
	Identities *Identities

	clock   func() time.Time        // of temporary credentials; nil: time.Now
	woken   chan event.GenericEvent // SetupWithManager: Tenants whose name was released
	seeding sync.Mutex
	seeded  bool // seedNames: the names of an earlier version are claimed
	// VerifierGrace is how long a verifier accepts its last secrets after its Secret was deleted or emptied.
	// 0 is defaultVerifierGrace.
	VerifierGrace time.Duration
	// AbandonAfter is how long a deletion waits for upload pods that should have ended. 0 is defaultAbandonAfter.
	AbandonAfter time.Duration
	probes       probeCache
	stores       storeQueue
}

// Reconcile brings one Tenant to what its spec asks for.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var t v1alpha1.Tenant
	if err := r.Client.Get(ctx, req.NamespacedName, &t); err != nil {
		if apierrors.IsNotFound(err) {
			r.Identities.forget(req.String())
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	s := &scope{Scope: reconcile.Begin(&t), tenant: &t}
	steps := []reconcile.Step[*scope]{
		r.addFinalizer, r.claimNames, r.claim, r.suspend, r.readSecrets, r.shareAccount, r.compile, r.ensureRole,
		r.limitRole, r.apply, r.releaseNames, r.doubtStore, r.judgeIdentity, r.probe,
		r.publish,
	}
	if !t.DeletionTimestamp.IsZero() {
		steps = []reconcile.Step[*scope]{r.release}
	}
	err := reconcile.Run(ctx, s, steps...)
	if s.applied || stopOf(err) != nil {
		r.Configs.Compiled(t.ID())
	}
	// A reconcile that did not write the config closes the verifiers of deleted Secrets.
	if !s.applied && t.DeletionTimestamp.IsZero() && !abandoned(err) {
		s.Fault(r.closeVerifiers(ctx, s))
	}
	return r.frame().Finish(ctx, &s.Scope, err)
}

func (r *Reconciler) frame() reconcile.Frame[*v1alpha1.Tenant] {
	return reconcile.Frame[*v1alpha1.Tenant]{
		Writer:   reconcile.Writer{Client: r.Client, Owner: reconcile.OfTenant},
		Recorder: r.Recorder,
		Fault: func(err error) (reason, message string) {
			return v1alpha1.ReasonConfigFailed, "will be tried again: " + err.Error()
		},
		Event: readyChanged,
		Stale: staleRetry,
	}
}

// staleRetry is the wait after a change by another writer. No watch reports a change of the status to this controller.
const staleRetry = 100 * time.Millisecond

// stale abandons the reconcile after a conflict: the Tenant has changed since it was read.
func stale(err error) error {
	if apierrors.IsConflict(err) {
		return reconcile.Abandon(staleRetry)
	}
	return err
}

// readyChanged returns an event when the Ready condition has another status or reason than before.
func readyChanged(before, now *v1alpha1.Tenant) *reconcile.Event {
	was := find(before, v1alpha1.ConditionReady)
	is := find(now, v1alpha1.ConditionReady)
	if is == nil || reconcile.SameState(was, is) {
		return nil
	}
	kind := corev1.EventTypeNormal
	if find(now, v1alpha1.ConditionStalled) != nil {
		kind = corev1.EventTypeWarning
	}
	return &reconcile.Event{Type: kind, Reason: is.Reason, Action: "Reconcile", Note: is.Message}
}

// addFinalizer adds the finalizer before the controller creates anything that must be removed again.
func (r *Reconciler) addFinalizer(ctx context.Context, s *scope) error {
	if controllerutil.ContainsFinalizer(s.tenant, v1alpha1.FinalizerTenant) {
		return nil
	}
	base := s.tenant.DeepCopy()
	controllerutil.AddFinalizer(s.tenant, v1alpha1.FinalizerTenant)
	// A merge patch replaces the whole list, so it must not be based on an old one.
	if err := r.Client.Patch(
		ctx, s.tenant, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}),
	); err != nil {
		return stale(err)
	}
	s.Before.ObjectMeta = *s.tenant.ObjectMeta.DeepCopy()
	return nil
}

// suspend finds out whether the Tenant is suspended and stops what must stop.
func (r *Reconciler) suspend(ctx context.Context, s *scope) (err error) {
	if s.suspension, err = suspension.Of(ctx, s.tenant, r.Client, r.APIReader); err != nil {
		return err
	}
	if s.suspended() {
		conditions.Set(
			s.tenant, v1alpha1.ConditionSuspended, metav1.ConditionTrue, s.suspension.Reason, s.suspension.Message,
		)
	} else {
		conditions.Delete(s.tenant, v1alpha1.ConditionSuspended)
	}
	if err := r.suspendConfig(ctx, s); err != nil {
		return err
	}
	return r.Store.SuspendTenant(ctx, s.tenant.ID(), s.suspended())
}

// SetupWithManager watches Tenants, and by metadata alone the Secrets they name and their Namespaces.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.woken = make(chan event.GenericEvent, 1024)
	indexer := mgr.GetFieldIndexer()
	if err := indexer.IndexField(context.Background(), &v1alpha1.Tenant{}, nameIndex, indexNames); err != nil {
		return err
	}
	index := func(o client.Object) []string { return secretNames(o.(*v1alpha1.Tenant)) }
	if err := indexer.IndexField(context.Background(), &v1alpha1.Tenant{}, secretIndex, index); err != nil {
		return err
	}
	// Without the predicate each status that is written would be a reason to reconcile, and a probe whose error never reads the
	// same a loop.
	changed := predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, uploadsChanged)
	return ctrl.NewControllerManagedBy(mgr).For(&v1alpha1.Tenant{}, builder.WithPredicates(changed)).
		Named(
			"tenant",
		).WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.tenantsOf), builder.OnlyMetadata).
		WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.tenantsIn),
			builder.WithPredicates(predicate.AnnotationChangedPredicate{})).
		WatchesRawSource(source.Channel(r.woken, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{NewQueue: turns.NewQueue, MaxConcurrentReconciles: workers}).
		Complete(r)
}

// tenantsOf maps a Secret to the Tenants that name it, or whose config it is.
func (r *Reconciler) tenantsOf(ctx context.Context, o client.Object) []ctrl.Request {
	if o.GetNamespace() == r.WorkNamespace || o.GetNamespace() == r.UploadNamespace {
		l := o.GetLabels()
		if l[v1alpha1.LabelTenant] == "" {
			return nil
		}
		return []ctrl.Request{{NamespacedName: types.NamespacedName{
			Namespace: l[v1alpha1.LabelTenantNamespace],
			Name:      l[v1alpha1.LabelTenant],
		}}}
	}
	var list v1alpha1.TenantList
	if err := r.Client.List(
		ctx, &list, client.InNamespace(o.GetNamespace()), client.MatchingFields{secretIndex: o.GetName()},
	); err != nil {
		log.FromContext(ctx).Error(err, "list the Tenants that name a Secret", "secret", o.GetName())
		return nil
	}
	var reqs []ctrl.Request
	for i := range list.Items {
		reqs = append(reqs, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return reqs
}

// tenantsIn maps a Namespace to its Tenants: its annotations may suspend them.
func (r *Reconciler) tenantsIn(ctx context.Context, o client.Object) []ctrl.Request {
	var list v1alpha1.TenantList
	if err := r.Client.List(ctx, &list, client.InNamespace(o.GetName())); err != nil {
		log.FromContext(ctx).Error(err, "list the Tenants of a Namespace", "namespace", o.GetName())
		return nil
	}
	reqs := make([]ctrl.Request, 0, len(list.Items))
	for i := range list.Items {
		reqs = append(reqs, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return reqs
}

// secretNames returns the Secrets that the Tenant refers to, for the index that wakes it when one changes.
func secretNames(t *v1alpha1.Tenant) []string {
	names := []string{t.Spec.Exotel.CredentialsSecretRef.Name}
	for _, ref := range []*v1alpha1.SecretReference{t.Spec.Recordings.CredentialsSecretRef,
		t.Spec.Recordings.CASecretRef} {
		if ref != nil {
			names = append(names, ref.Name)
		}
	}
	for _, v := range verifierSecrets(&t.Spec) {
		names = append(names, v.ref.Name)
	}
	if audioSpec := t.Spec.Audio; audioSpec != nil {
		for _, ref := range []*v1alpha1.SecretReference{audioSpec.HeadersSecretRef, audioSpec.CASecretRef} {
			if ref != nil {
				names = append(names, ref.Name)
			}
		}
	}
	return names
}
