package tenant

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/tenantconfig"
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
		s.released = true
		return nil
	}
	// The cache may be behind, and what was released once must not be released again: a Tenant that was made anew under this
	// name would lose what is its own.
	var live v1alpha1.Tenant
	err := r.APIReader.Get(ctx, client.ObjectKeyFromObject(s.tenant), &live)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err != nil || live.UID != s.tenant.UID || !controllerutil.ContainsFinalizer(&live, v1alpha1.FinalizerTenant) {
		s.released = true
		return nil
	}
	return r.releaseLive(ctx, s)
}

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
	return r.forget(ctx, s)
}

// forget releases the names of a Tenant and removes its finalizer.
func (r *Reconciler) forget(ctx context.Context, s *scope) error {
	if err := r.dropNames(ctx, s.tenant, nil); err != nil {
		return err
	}
	return r.removeFinalizer(ctx, s)
}

func (r *Reconciler) removeFinalizer(ctx context.Context, s *scope) error {
	base := s.tenant.DeepCopy()
	controllerutil.RemoveFinalizer(s.tenant, v1alpha1.FinalizerTenant)
	if err := r.Client.Patch(ctx, s.tenant, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); client.IgnoreNotFound(err) != nil {
		return stale(err)
	}
	s.released = true
	return nil
}

// uploadsEnded waits for the Tenant's last upload pod, so that none writes an object after the others are deleted.
func (r *Reconciler) uploadsEnded(ctx context.Context, s *scope) error {
	// Pods of an earlier version ran in the work namespace.
	for _, namespace := range []string{r.UploadNamespace, r.WorkNamespace} {
		var pods corev1.PodList
		err := r.APIReader.List(ctx, &pods, client.InNamespace(namespace), client.Limit(1), client.MatchingLabels{
			v1alpha1.LabelTenant:          s.tenant.Name,
			v1alpha1.LabelTenantNamespace: s.tenant.Namespace,
			v1alpha1.LabelComponent:       "upload",
		})
		if err != nil {
			return err
		}
		if len(pods.Items) > 0 {
			return &verdict{
				reason:  v1alpha1.ReasonDeleting,
				message: "waiting for the last upload pod to end",
				retry:   time.Second,
			}
		}
	}
	return nil
}

// deleteData removes objects and rows. Without the credentials it cannot know what is in the bucket, and says so. Data-plane pods that have
// captures of the Tenant's last calls are waited for, so that none comes to the bucket after the others are deleted.
func (r *Reconciler) deleteData(ctx context.Context, s *scope) error {
	capturing, err := r.Store.HasLiveCaptures(ctx, s.tenant.ID())
	if err != nil {
		return err
	}
	if capturing {
		return &verdict{reason: v1alpha1.ReasonDeleting, message: "waiting for the captures of the last calls to end", retry: 5 * time.Second}
	}
	upload, err := r.lastUpload(ctx, s)
	if err != nil {
		return err
	}
	if upload != nil {
		leave, err := r.stores.enter(ctx, s.tenant.Namespace)
		if err != nil {
			return err
		}
		defer leave()
		ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		err = r.Buckets.DeletePrefix(ctx, upload, tenantconfig.KeyPrefix(s.tenant.ID()))
		if errors.Is(err, objectstore.ErrUnfinished) { // other Tenants have their turn between two rounds
			return &verdict{reason: v1alpha1.ReasonDeleting, message: "deleting the objects in bucket " + upload.Bucket,
				retry: 2 * time.Second}
		}
		if err != nil {
			return &verdict{reason: v1alpha1.ReasonDeleting, retry: 30 * time.Second,
				message: fmt.Sprintf("the objects in bucket %s could not be deleted: %v; mend that, or set spec.deletionPolicy to Retain to keep them", upload.Bucket, err)}
		}
	}
	return r.Store.DeleteTenant(ctx, s.tenant.ID())
}

// lastUpload is the upload config as it was last compiled: the Tenant's own Secrets may be gone by now, as when its whole
// namespace is deleted. Where it is lost itself, it is compiled once more. It is nil when nothing was ever uploaded.
func (r *Reconciler) lastUpload(ctx context.Context, s *scope) (*tenantconfig.Upload, error) {
	var secret corev1.Secret
	err := r.APIReader.Get(ctx, r.uploadKey(s.tenant.ID()), &secret)
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	if upload, err := tenantconfig.DecodeUpload(secret.Data[tenantconfig.Key]); err == nil {
		return upload, nil
	}
	if err = r.readSecrets(ctx, s); err == nil {
		err = r.compile(ctx, s)
	}
	if err == nil {
		return s.upload, nil
	}
	uploaded, dbErr := r.Store.HasUploads(ctx, s.tenant.ID())
	if dbErr != nil || !uploaded {
		return nil, dbErr
	}
	return nil, &verdict{reason: v1alpha1.ReasonDeleting, retry: 30 * time.Second,
		message: fmt.Sprintf("the objects in bucket %s cannot be deleted: the upload config is lost and cannot be compiled again: %v; mend that, "+
			"or set spec.deletionPolicy to Retain to keep them", s.tenant.Spec.Recordings.Bucket, err)}
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
