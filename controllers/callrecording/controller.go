// Package callrecording mirrors a recording's row into its CallRecording, and acts on what people ask through it: upload this
// one, try that one again.
package callrecording

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// +kubebuilder:rbac:groups=voice.caly.dev,resources=callrecordings/status,verbs=update;patch

// tenantIndex finds the CallRecordings of a Tenant.
const tenantIndex = "caly.tenant"

// defaultTTL of a finished CallRecording whose Tenant is gone.
const defaultTTL = time.Hour

// Store is what the controller needs of PostgreSQL.
type Store interface {
	Enqueue(ctx context.Context, tenant, callSID string, r store.NewRecording) (created bool, err error)
	Recordings(ctx context.Context, keys []store.RecordingKey) (map[store.RecordingKey]store.Recording, error)
	Retry(ctx context.Context, tenant, id string) error
	MarkViewed(ctx context.Context, keys []store.RecordingKey) error
}

// Reconciler of CallRecordings.
type Reconciler struct {
	Client   client.Client
	Recorder events.EventRecorder
	Store    Store
	// Sources is the platform's part of the source policy.
	Sources tenantconfig.SourcePolicy

	poller poller
}

// scope is what one reconcile knows. Each field says who sets it.
type scope struct {
	obj    *v1alpha1.CallRecording // Reconcile; its status is what will be written
	before *v1alpha1.CallRecording // Reconcile: as it was read
	tenant *v1alpha1.Tenant        // findTenant
	row    store.Recording         // findRow
	ended  bool                    // expire: it was deleted
	after  time.Duration           // expire: when its time is up
}

// errStop ends a reconcile whose conditions are already set.
var errStop = errors.New("stop")

type step func(context.Context, *scope) error

// Reconcile brings one CallRecording to what its row says.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var obj v1alpha1.CallRecording
	if err := r.Client.Get(ctx, req.NamespacedName, &obj); err != nil || !obj.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	s := &scope{obj: &obj, before: obj.DeepCopy()}
	obj.Status.RecordingID = tenantconfig.RecordingID(obj.Spec.CallSID, obj.Spec.SourceURL)
	var err error
	for _, next := range []step{r.expire, r.findTenant, r.findRow, r.retry, r.mirror} {
		if err = next(ctx, s); err != nil || s.ended {
			break
		}
	}
	if s.ended {
		return ctrl.Result{}, err
	}
	if errors.Is(err, store.ErrUnavailable) {
		conditions.MarkReconciling(s.obj, v1alpha1.ReasonUnavailable, "the database did not answer; tried again")
	}
	if errors.Is(err, errStop) {
		err = nil
	}
	return ctrl.Result{RequeueAfter: s.after}, errors.Join(err, r.patchStatus(ctx, s))
}

// patchStatus writes the status once, if it changed, and then tells of an end.
func (r *Reconciler) patchStatus(ctx context.Context, s *scope) error {
	if equality.Semantic.DeepEqual(s.before.Status, s.obj.Status) {
		return nil
	}
	if err := r.Client.Status().Patch(ctx, s.obj.DeepCopy(), client.MergeFrom(s.before)); err != nil {
		return client.IgnoreNotFound(err)
	}
	if s.before.Status.Phase == s.obj.Status.Phase {
		return nil
	}
	ready := apimeta.FindStatusCondition(s.obj.Status.Conditions, v1alpha1.ConditionReady)
	switch s.obj.Status.Phase {
	case v1alpha1.RecordingPhaseFailed:
		r.Recorder.Eventf(s.obj, nil, corev1.EventTypeWarning, ready.Reason, "Upload", "%s", ready.Message[:min(len(ready.Message), 900)])
	case v1alpha1.RecordingPhaseUploaded:
		if s.obj.Labels[v1alpha1.LabelOrigin] != v1alpha1.OriginIntake { // one event for each recording of a busy tenant would be noise
			r.Recorder.Eventf(s.obj, nil, corev1.EventTypeNormal, ready.Reason, "Upload", "%s", ready.Message)
		}
	}
	return nil
}

func (r *Reconciler) findTenant(ctx context.Context, s *scope) error {
	var t v1alpha1.Tenant
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: s.obj.Namespace, Name: s.obj.Spec.TenantRef.Name}, &t)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err != nil {
		conditions.MarkStalled(s.obj, v1alpha1.ReasonTenantNotFound, fmt.Sprintf("spec.tenantRef.name: there is no Tenant %q in namespace %q: "+
			"create it, or apply a CallRecording that names another", s.obj.Spec.TenantRef.Name, s.obj.Namespace))
		return errStop
	}
	s.tenant = &t
	return nil
}

// findRow reads the recording's row, from the poller if it has it, and queues the recording of a person's CallRecording.
func (r *Reconciler) findRow(ctx context.Context, s *scope) error {
	key := keyOf(s.obj)
	rows, err := r.Store.Recordings(ctx, []store.RecordingKey{key})
	if err != nil {
		return err
	}
	row, ok := rows[key]
	if !ok {
		if err := r.enqueue(ctx, s); err != nil {
			return err
		}
		row = store.Recording{Tenant: key.Tenant, ID: key.ID, State: store.StatePending}
	}
	s.row = row
	return nil
}

func (r *Reconciler) enqueue(ctx context.Context, s *scope) error {
	policy := r.Sources
	policy.Hosts = s.tenant.Spec.Recordings.AllowedSourceHosts
	if len(policy.Hosts) == 0 {
		policy.Hosts = tenantconfig.DefaultSourceHosts
	}
	if err := policy.Validate(s.obj.Spec.SourceURL); err != nil {
		conditions.MarkStalled(s.obj, v1alpha1.ReasonSourceRefused, "spec.sourceURL: "+err.Error())
		return errStop
	}
	if s.tenant.Status.ConfigDigest == "" {
		conditions.MarkReconciling(s.obj, v1alpha1.ReasonTenantNotReady, "the Tenant is not ready yet: see its conditions")
		return errStop
	}
	key := keyOf(s.obj)
	_, err := r.Store.Enqueue(ctx, key.Tenant, s.obj.Spec.CallSID, store.NewRecording{ID: key.ID, SourceURL: s.obj.Spec.SourceURL})
	if errors.Is(err, store.ErrTooManyRecordings) {
		conditions.MarkStalled(s.obj, v1alpha1.ReasonSourceRefused, "spec.callSID: the call has as many recordings as Caly keeps of one call (16)")
		return errStop
	}
	if err != nil {
		return err
	}
	return r.Store.MarkViewed(ctx, []store.RecordingKey{key})
}

// retry acts once on each value of the annotation, and only while there is something to try again.
func (r *Reconciler) retry(ctx context.Context, s *scope) error {
	asked := s.obj.Annotations[v1alpha1.AnnotationRetry]
	asked = asked[:min(len(asked), 256)]
	if asked == "" || asked == s.obj.Status.LastHandledRetry {
		return nil
	}
	if s.row.State == store.StateFailed || s.row.State == store.StatePending {
		if err := r.Store.Retry(ctx, s.row.Tenant, s.row.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		s.row.State, s.row.Attempts, s.row.LastError, s.row.AvailableAt = store.StatePending, 0, "", time.Time{}
		s.row.FinishedAt = time.Time{}
	}
	s.obj.Status.LastHandledRetry = asked
	return nil
}

// expire deletes a finished CallRecording when its time is up. The recording stays.
func (r *Reconciler) expire(ctx context.Context, s *scope) error {
	done := s.obj.Status.FinishedTime
	if done == nil || s.obj.Annotations[v1alpha1.AnnotationRetry] != s.obj.Status.LastHandledRetry {
		return nil
	}
	left := time.Until(done.Add(r.ttl(ctx, s)))
	if left > 0 {
		s.after = left
		return nil
	}
	s.ended = true
	uid := s.obj.UID
	return client.IgnoreNotFound(r.Client.Delete(ctx, s.obj, client.Preconditions{UID: &uid}))
}

func (r *Reconciler) ttl(ctx context.Context, s *scope) time.Duration {
	var t v1alpha1.Tenant
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: s.obj.Namespace, Name: s.obj.Spec.TenantRef.Name}, &t)
	if err != nil || t.Spec.Recordings.TTLAfterFinished == nil {
		return defaultTTL
	}
	return t.Spec.Recordings.TTLAfterFinished.Duration
}

func keyOf(o *v1alpha1.CallRecording) store.RecordingKey {
	return store.RecordingKey{Tenant: o.TenantID(), ID: tenantconfig.RecordingID(o.Spec.CallSID, o.Spec.SourceURL)}
}

// SetupWithManager watches CallRecordings, their Tenants, and through the poller their rows.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	index := func(o client.Object) []string { return []string{o.(*v1alpha1.CallRecording).Spec.TenantRef.Name} }
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.CallRecording{}, tenantIndex, index); err != nil {
		return err
	}
	r.poller = poller{client: mgr.GetClient(), store: r.Store, changed: make(chan event.GenericEvent, 256)}
	if err := mgr.Add(&r.poller); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).Named("callrecording").For(&v1alpha1.CallRecording{}).
		Watches(&v1alpha1.Tenant{}, handler.EnqueueRequestsFromMapFunc(r.waitingFor)).
		WatchesRawSource(source.Channel(r.poller.changed, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}).
		Complete(r)
}

// waitingFor maps a Tenant to its CallRecordings that have not ended.
func (r *Reconciler) waitingFor(ctx context.Context, o client.Object) []reconcile.Request {
	var list v1alpha1.CallRecordingList
	if err := r.Client.List(ctx, &list, client.InNamespace(o.GetNamespace()), client.MatchingFields{tenantIndex: o.GetName()}); err != nil {
		return nil // the cache is stopping
	}
	var reqs []reconcile.Request
	for i := range list.Items {
		if c := &list.Items[i]; c.Status.Phase == "" {
			reqs = append(reqs, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(c)})
		}
	}
	return reqs
}
