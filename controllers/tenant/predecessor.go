package tenant

import (
	"context"
	"errors"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/store"
)

// Decisions about a predecessor's rows, in the annotation of the Namespace.
const (
	adopt  = "adopt"
	remove = "delete"
)

// claim records the UID of the Tenant with its rows. Rows of a predecessor, a deleted Tenant of the same name, stay
// out of reach until the platform decides: the Tenant is Stalled and nothing is published.
func (r *Reconciler) claim(ctx context.Context, s *scope) error {
	for range 2 { // a decision changes the owner
		owner, err := r.owner(ctx, s)
		if err != nil || owner == string(s.tenant.UID) {
			return err
		}
		decision, err := r.decision(ctx, s.tenant.Namespace, owner)
		if err != nil {
			return err
		}
		if decision == "" {
			return r.isolate(ctx, s, owner)
		}
		if err := r.settle(ctx, s, decision, owner); err != nil {
			return err
		}
	}
	return reconcile.Abandon(staleRetry)
}

// owner returns the UID of the Tenant that the rows belong to.
func (r *Reconciler) owner(ctx context.Context, s *scope) (string, error) {
	return r.Store.ClaimTenant(ctx, s.tenant.ID(), string(s.tenant.UID), s.tenant.Compiled())
}

// decision reads what the platform decided about the rows of a predecessor; empty: nothing yet. The Namespace holds
// it, since the author of a Tenant must not be able to take over the rows of another customer who had the namespace
// before.
func (r *Reconciler) decision(ctx context.Context, namespace, predecessor string) (string, error) {
	ns := &metav1.PartialObjectMetadata{}
	ns.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := r.APIReader.Get(ctx, client.ObjectKey{Name: namespace}, ns); err != nil {
		return "", client.IgnoreNotFound(err)
	}
	for part := range strings.SplitSeq(ns.Annotations[v1alpha1.AnnotationPredecessor], ",") {
		verb, uid, _ := strings.Cut(strings.TrimSpace(part), ":")
		if uid == predecessor && (verb == adopt || verb == remove) {
			return verb, nil
		}
	}
	return "", nil
}

// settle gives the predecessor's rows to the Tenant, or deletes them.
func (r *Reconciler) settle(ctx context.Context, s *scope, decision, predecessor string) error {
	log.FromContext(ctx).Info("the platform decided about the rows of a predecessor",
		"decision", decision, "predecessor", predecessor)
	settle := r.Store.AdoptTenant
	if decision == remove {
		settle = r.Store.ReplaceTenant
	}
	err := settle(ctx, s.tenant.ID(), predecessor, string(s.tenant.UID))
	if errors.Is(err, store.ErrNotFound) {
		return reconcile.Abandon(staleRetry)
	}
	return err
}

// isolate removes what gives access to a predecessor's rows, and stalls the Tenant.
func (r *Reconciler) isolate(ctx context.Context, s *scope, predecessor string) error {
	id := s.tenant.ID()
	if err := r.Store.SuspendTenant(ctx, id, true); err != nil {
		return err
	}
	// The predecessor's release deleted all of this, unless its finalizer was removed by hand.
	if err := r.unpublish(ctx, id); err != nil {
		return err
	}
	if err := r.Store.DropUploadRole(ctx, id); err != nil {
		return err
	}
	if err := r.deleteManaged(ctx, r.uploadConfig(id)); err != nil {
		return err
	}
	if err := r.deleteViews(ctx, s); err != nil {
		return err
	}
	s.tenant.Status.WebhookURLs = nil
	s.tenant.Status.ConfigDigest = ""
	return reconcile.Stalled(v1alpha1.ReasonDataOfPredecessor,
		"rows of a deleted Tenant %s (UID %s) exist; nothing is published until the platform decides "+
			"about them: kubectl annotate --overwrite namespace %s %s=%s:%s, or %s:%s to delete them",
		id, predecessor, s.tenant.Namespace, v1alpha1.AnnotationPredecessor, adopt, predecessor, remove, predecessor)
}

// published are the objects that let the data plane and upload pods work for a tenant.
func (r *Reconciler) published(id string) []client.Object {
	return []client.Object{
		&corev1.Secret{ObjectMeta: metaOf(r.configKey(id))},
		&batchv1.Job{ObjectMeta: metaOf(r.uploadKey(id))},
	}
}

func (r *Reconciler) uploadConfig(id string) client.Object {
	return &corev1.Secret{ObjectMeta: metaOf(r.uploadKey(id))}
}

func metaOf(key client.ObjectKey) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}
}
