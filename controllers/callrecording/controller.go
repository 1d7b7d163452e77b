// Package callrecording mirrors a recording's row into its CallRecording, and acts on what people ask through it: upload this
// one, try that one again.
package callrecording

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/controllers/internal/turns"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig/compile"
)

// +kubebuilder:rbac:groups=voice.caly.dev,resources=callrecordings/status,verbs=update;patch

// tenantIndex finds the CallRecordings of a Tenant.
const tenantIndex = "caly.tenant"

// defaultTTL of a finished CallRecording whose Tenant is gone.
const defaultTTL = time.Hour

// roomRetry is when a CallRecording that was held back is looked at again.
const roomRetry = time.Minute

// workers is how many CallRecordings are reconciled at once.
const workers = 16

// Store is what the controller needs of PostgreSQL.
type Store interface {
	Enqueue(ctx context.Context, tenant, callSID string, r store.NewRecording) (created bool, err error)
	Recordings(ctx context.Context, keys []store.RecordingKey) (map[store.RecordingKey]store.Recording, error)
	Retry(ctx context.Context, tenant, id string) error
	MarkViewed(ctx context.Context, keys []store.RecordingKey) error
	CallFacts(ctx context.Context, tenant, callSID string) (store.CallFacts, error)
}

// Reconciler of CallRecordings.
type Reconciler struct {
	Client   client.Client
	Recorder events.EventRecorder
	Store    Store
	// Sources is the platform's part of the source policy.
	Sources recording.SourcePolicy
	// MaxPerNamespace is how many CallRecordings a namespace may have before new ones that people apply are held back;
	// 0 means unlimited.
	MaxPerNamespace int

	poller poller
	room   *room // SetupWithManager
}

// scope is what one reconcile knows. Each field says who sets it.
type scope struct {
	reconcile.Scope[*v1alpha1.CallRecording]
	obj    *v1alpha1.CallRecording // Reconcile; its status is what will be written
	tenant *v1alpha1.Tenant        // findTenant; nil if there is none
	row    store.Recording         // findRow; without a state if there is none
}

// Reconcile brings one CallRecording to what its row says.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var obj v1alpha1.CallRecording
	if err := r.Client.Get(ctx, req.NamespacedName, &obj); err != nil || !obj.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	s := &scope{Scope: reconcile.Begin(&obj), obj: &obj}
	obj.Status.RecordingID = recording.ID(obj.Spec.CallSID, obj.Spec.SourceURL)
	err := reconcile.Run(ctx, s, r.expire, r.findTenant, r.findRow, r.admit, r.enqueue, r.retry, r.mirror)
	return r.frame().Finish(ctx, &s.Scope, err)
}

func (r *Reconciler) frame() reconcile.Frame[*v1alpha1.CallRecording] {
	return reconcile.Frame[*v1alpha1.CallRecording]{
		Writer:   reconcile.Writer{Client: r.Client, Owner: reconcile.OfCallRecording},
		Recorder: r.Recorder,
		Fault:    fault,
		Event:    ended,
	}
}

// fault returns the condition that an error of the database asks for.
func fault(err error) (reason, message string) {
	var refused *store.ServerError
	switch {
	case errors.Is(err, store.ErrUnavailable):
		return v1alpha1.ReasonUnavailable, "the database did not answer; tried again"
	case errors.As(err, &refused):
		return v1alpha1.ReasonUnavailable, "the database refused, see the operator's log; tried again"
	}
	return "", ""
}

// ended returns the event about the end of a recording. An uploaded recording that the operator itself shows has none:
// one event for each recording of a busy tenant would be noise.
func ended(before, now *v1alpha1.CallRecording) *reconcile.Event {
	if before.Status.Phase == now.Status.Phase {
		return nil
	}
	kind := corev1.EventTypeNormal
	switch {
	case now.Status.Phase == v1alpha1.RecordingPhaseFailed:
		kind = corev1.EventTypeWarning
	case now.Status.Phase != v1alpha1.RecordingPhaseUploaded, now.Labels[v1alpha1.LabelOrigin] == v1alpha1.OriginIntake:
		return nil
	}
	ready := apimeta.FindStatusCondition(now.Status.Conditions, v1alpha1.ConditionReady)
	return &reconcile.Event{Type: kind, Reason: ready.Reason, Action: "Upload", Note: ready.Message}
}

// ignoreStale drops the error of a write that a newer object forbids: that object's event brings us back.
func ignoreStale(err error) error {
	if apierrors.IsConflict(err) {
		return nil
	}
	return client.IgnoreNotFound(err)
}

// expire deletes a finished CallRecording when its time is up. The recording stays. Until then nothing is left to do for it,
// whatever becomes of its Tenant, its row or the database.
func (r *Reconciler) expire(ctx context.Context, s *scope) error {
	done := s.obj.Status.FinishedTime
	if done == nil || s.asked() != "" {
		return nil
	}
	since := done.Time
	if made := s.obj.CreationTimestamp.Time; made.After(since) {
		since = made // applied to look at a recording of long ago, or to try it again
	}
	if left := time.Until(since.Add(r.ttl(ctx, s))); left > 0 {
		return reconcile.Done(left)
	}
	// It may have asked for a retry since it was read.
	seen := client.Preconditions{UID: &s.Before.UID, ResourceVersion: &s.Before.ResourceVersion}
	if err := ignoreStale(r.Client.Delete(ctx, s.obj, seen)); err != nil {
		return err
	}
	return reconcile.Abandon(0)
}

// findTenant reads the Tenant from the cache. Without a Tenant the scope has none, and the next steps
// decide.
func (r *Reconciler) findTenant(ctx context.Context, s *scope) error {
	var t v1alpha1.Tenant
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: s.obj.Namespace, Name: s.obj.Spec.TenantRef.Name}, &t)
	if err == nil {
		s.tenant = &t
	}
	return client.IgnoreNotFound(err)
}

// findRow reads the row, unless it may be one of the Tenant's predecessor.
func (r *Reconciler) findRow(ctx context.Context, s *scope) error {
	if s.tenant != nil && !s.tenant.Compiled() {
		return reconcile.Retry(0, v1alpha1.ReasonTenantNotReady, "the Tenant is not ready yet: see its conditions")
	}
	key := keyOf(s.obj)
	rows, err := r.Store.Recordings(ctx, []store.RecordingKey{key})
	s.row = rows[key]
	return err
}

// admit stops what needs a Tenant and has none. A recording that has ended is shown all the same. A Tenant that is being
// deleted takes no more rows: they would outlive it.
func (r *Reconciler) admit(_ context.Context, s *scope) error {
	switch {
	case s.row.State == store.StateUploaded, s.row.State == store.StateFailed && s.asked() == "":
		return nil
	case s.tenant == nil:
		return reconcile.Stalled(v1alpha1.ReasonTenantNotFound,
			"spec.tenantRef.name: there is no Tenant %q in namespace %q: "+
				"create it, or apply a CallRecording that names another",
			s.obj.Spec.TenantRef.Name, s.obj.Namespace)
	case !s.tenant.DeletionTimestamp.IsZero():
		return reconcile.Retry(0, v1alpha1.ReasonTenantNotReady,
			"the Tenant is being deleted: nothing is uploaded for it any more")
	}
	return nil
}

// enqueue queues the recording of a person's CallRecording.
func (r *Reconciler) enqueue(ctx context.Context, s *scope) error {
	if s.row.State != "" {
		return nil
	}
	if err := r.checkSource(s); err != nil {
		return err
	}
	if err := r.checkRoom(ctx, s); err != nil {
		return err
	}
	key := keyOf(s.obj)
	_, err := r.Store.Enqueue(ctx, key.Tenant, s.obj.Spec.CallSID, store.NewRecording{
		ID:        key.ID,
		SourceURL: s.obj.Spec.SourceURL,
	})
	if errors.Is(err, store.ErrTooManyRecordings) {
		return reconcile.Stalled(v1alpha1.ReasonSourceRefused,
			"spec.callSID: the call has as many recordings as Caly keeps of one call (16)")
	}
	if err != nil {
		return err
	}
	if err := r.Store.MarkViewed(ctx, []store.RecordingKey{key}); err != nil {
		return err
	}
	if err := r.findRow(ctx, s); err != nil || s.row.State != "" {
		return err
	}
	return reconcile.Stalled(v1alpha1.ReasonFailed,
		"the recording was queued before and its row is no longer kept: delete this CallRecording")
}

// checkSource stalls a CallRecording whose source URL the Tenant does not allow.
func (r *Reconciler) checkSource(s *scope) error {
	policy := r.Sources
	policy.Hosts = compile.SourceHosts(s.tenant)
	if err := policy.Validate(s.obj.Spec.SourceURL); err != nil {
		return reconcile.Stalled(v1alpha1.ReasonSourceRefused, "spec.sourceURL: %v", err)
	}
	if s.tenant.Status.ConfigDigest == "" {
		return reconcile.Retry(0, v1alpha1.ReasonTenantNotReady, "the Tenant is not ready yet: see its conditions")
	}
	return nil
}

// asked is a value of the retry annotation that was not acted on yet, cut to what the status can hold.
func (s *scope) asked() string {
	value := cut(s.obj.Annotations[v1alpha1.AnnotationRetry], 256)
	if value == s.obj.Status.LastHandledRetry {
		return ""
	}
	return value
}

// retry acts once on each value of the annotation, and only while there is something to try again.
func (r *Reconciler) retry(ctx context.Context, s *scope) error {
	asked := s.asked()
	if asked == "" {
		return nil
	}
	if s.row.State == store.StateFailed || s.row.State == store.StatePending {
		if err := r.Store.Retry(ctx, s.row.Tenant, s.row.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err := r.findRow(ctx, s); err != nil {
			return err
		}
	}
	s.obj.Status.LastHandledRetry = asked
	return nil
}

// ttl returns how long a finished CallRecording stays, by its Tenant or by default.
func (r *Reconciler) ttl(ctx context.Context, s *scope) time.Duration {
	var t v1alpha1.Tenant
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: s.obj.Namespace, Name: s.obj.Spec.TenantRef.Name}, &t)
	if err != nil || t.Spec.Recordings.TTLAfterFinished == nil {
		return defaultTTL
	}
	return t.Spec.Recordings.TTLAfterFinished.Duration
}

// keyOf returns the key of the recording's row. It is a function of the spec, which cannot change.
func keyOf(o *v1alpha1.CallRecording) store.RecordingKey {
	return store.RecordingKey{Tenant: o.TenantID(), ID: recording.ID(o.Spec.CallSID, o.Spec.SourceURL)}
}

// SetupWithManager watches CallRecordings, their Tenants, and through the poller their rows.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	index := func(o client.Object) []string { return []string{o.(*v1alpha1.CallRecording).Spec.TenantRef.Name} }
	if err := mgr.GetFieldIndexer().IndexField(
		context.Background(), &v1alpha1.CallRecording{}, tenantIndex, index,
	); err != nil {
		return err
	}
	var err error
	if r.room, err = watchRoom(context.Background(), mgr.GetCache()); err != nil {
		return err
	}
	r.poller = poller{client: mgr.GetClient(), store: r.Store, changed: make(chan event.GenericEvent, 256)}
	if err := mgr.Add(&r.poller); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).Named("callrecording").For(&v1alpha1.CallRecording{}).
		Watches(
			&v1alpha1.Tenant{}, handler.EnqueueRequestsFromMapFunc(r.ofTenant), builder.WithPredicates(tenantChanged),
		).
		WatchesRawSource(source.Channel(r.poller.changed, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{
			NewQueue:                turns.NewQueue,
			MaxConcurrentReconciles: workers,
			RateLimiter:             retryLimiter(),
		}).
		Complete(r)
}

// retryLimiter spaces the retries of one CallRecording, and none so far apart that a database that is back goes unnoticed.
func retryLimiter() workqueue.TypedRateLimiter[ctrl.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[ctrl.Request](100*time.Millisecond, 15*time.Second)
}

// tenantChanged passes what may matter to a CallRecording, and not the backlog, which changes every few seconds.
var tenantChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	was := e.ObjectOld.(*v1alpha1.Tenant)
	is := e.ObjectNew.(*v1alpha1.Tenant)
	return was.UID != is.UID || was.Generation != is.Generation || was.Status.ConfigDigest != is.Status.ConfigDigest ||
		was.Compiled() != is.Compiled()
}}

// ofTenant maps a Tenant to its CallRecordings: those that wait for it, those that must say it is gone, those whose time it sets.
func (r *Reconciler) ofTenant(ctx context.Context, o client.Object) []ctrl.Request {
	var list v1alpha1.CallRecordingList
	if err := r.Client.List(
		ctx, &list, client.InNamespace(o.GetNamespace()), client.MatchingFields{tenantIndex: o.GetName()},
	); err != nil {
		return nil // the cache is stopping
	}
	reqs := make([]ctrl.Request, len(list.Items))
	for i := range list.Items {
		reqs[i].NamespacedName = client.ObjectKeyFromObject(&list.Items[i])
	}
	return reqs
}
