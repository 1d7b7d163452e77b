package tenant

import (
	"context"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
)

// +kubebuilder:rbac:groups="",namespace=caly-work,resources=secrets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=batch,namespace=caly-work,resources=jobs,verbs=list;delete
// +kubebuilder:rbac:groups="",namespace=caly-work,resources=pods,verbs=list
// +kubebuilder:rbac:groups="",namespace=caly-uploads,resources=secrets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=batch,namespace=caly-uploads,resources=jobs,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",namespace=caly-uploads,resources=pods,verbs=get;list;watch

// release lets a Tenant go: no more webhooks, no more uploads, then its data as deletionPolicy says, then the finalizer.
// Each part can be repeated, since the operator may be ended after any of them.
func (r *Reconciler) release(ctx context.Context, s *scope) error {
	if !controllerutil.ContainsFinalizer(s.tenant, v1alpha1.FinalizerTenant) {
		return reconcile.Abandon(0)
	}
	// The cache may be old, and a Tenant must be released only once: a second release would delete what belongs to a
	// new Tenant of this name.
	var live v1alpha1.Tenant
	err := r.APIReader.Get(ctx, client.ObjectKeyFromObject(s.tenant), &live)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err != nil || live.UID != s.tenant.UID || !controllerutil.ContainsFinalizer(&live, v1alpha1.FinalizerTenant) {
		return reconcile.Abandon(0)
	}
	return r.releaseLive(ctx, s)
}

// releaseLive removes what a deleted Tenant owns, unless a newer Tenant of the same name holds it.
func (r *Reconciler) releaseLive(ctx context.Context, s *scope) error {
	id := s.tenant.ID()
	holders, err := r.Store.NameHolders(ctx, namesOf(s.tenant)[0].Name)
	if err != nil {
		return err
	}
	if len(holders) > 0 && holders[0].Tenant != id {
		return r.forget(ctx, s) // the objects of the work namespace are another Tenant's
	}
	// The rows of a predecessor are not this Tenant's to delete. Nothing was published of them.
	owner, err := r.owner(ctx, s)
	if err != nil {
		return err
	}
	if owner != string(s.tenant.UID) {
		return r.forget(ctx, s)
	}
	if err := r.Store.SuspendTenant(ctx, id, true); err != nil {
		return err
	}
	if err := r.unpublish(ctx, id); err != nil {
		return err
	}
	if err := r.Store.EndAccess(ctx, id); err != nil {
		return err
	}
	if err := r.uploadsEnded(ctx, s); err != nil {
		return err
	}
	if s.tenant.Spec.DeletionPolicy == v1alpha1.DeletionPolicyDelete {
		if err := r.deleteData(ctx, s); err != nil {
			return err
		}
	}
	if err := r.Store.DropUploadRole(ctx, id); err != nil {
		return err
	}
	if err := r.deleteViews(ctx, s); err != nil {
		return err
	}
	if err := r.deleteManaged(ctx, r.uploadConfig(id)); err != nil {
		return err
	}
	r.probes.forget(id)
	r.Identities.forget(id)
	return r.forget(ctx, s)
}

// forget releases the names of a Tenant and removes its finalizer.
func (r *Reconciler) forget(ctx context.Context, s *scope) error {
	if err := r.dropNames(ctx, s.tenant, nil); err != nil {
		return err
	}
	return r.removeFinalizer(ctx, s)
}

// removeFinalizer lets the API server delete the Tenant. It is the last step of a release.
func (r *Reconciler) removeFinalizer(ctx context.Context, s *scope) error {
	base := s.tenant.DeepCopy()
	controllerutil.RemoveFinalizer(s.tenant, v1alpha1.FinalizerTenant)
	if err := r.Client.Patch(
		ctx, s.tenant, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}),
	); client.IgnoreNotFound(err) != nil {
		return stale(err)
	}
	return reconcile.Abandon(0)
}

// deleteData removes objects and rows. Without the credentials it cannot know what is in the bucket, and says so. Data-plane pods that have
// captures of the Tenant's last calls are waited for, so that none comes to the bucket after the others are deleted.
func (r *Reconciler) deleteData(ctx context.Context, s *scope) error {
	capturing, err := r.Store.HasLiveCaptures(ctx, s.tenant.ID())
	if err != nil {
		return err
	}
	if capturing {
		return reconcile.Retry(5*time.Second, v1alpha1.ReasonDeleting,
			"waiting for the captures of the last calls to end")
	}
	if err := r.deleteObjects(ctx, s); err != nil {
		return err
	}
	return r.Store.DeleteTenant(ctx, s.tenant.ID())
}

// deleteViews deletes the CallRecordings that the operator made: nothing would end them, and a new Tenant of the name would find them.
func (r *Reconciler) deleteViews(ctx context.Context, s *scope) error {
	var list v1alpha1.CallRecordingList
	err := r.APIReader.List(ctx, &list, client.InNamespace(s.tenant.Namespace),
		client.MatchingLabels{v1alpha1.LabelTenant: s.tenant.Name, v1alpha1.LabelOrigin: v1alpha1.OriginIntake})
	for i := range list.Items {
		if err == nil {
			err = r.deleteManaged(ctx, &list.Items[i])
		}
	}
	return err
}
