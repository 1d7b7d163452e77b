package tenant

import (
	"context"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
)

// Sweeper removes what deleted Tenants left behind, for example because somebody removed a finalizer by hand. It also
// removes upload configs and Jobs from the work namespace, where earlier versions had them, and configs that are gone
// from the list of configs.
type Sweeper struct {
	Client    client.Client
	APIReader client.Reader
	Store     Store
	// WorkNamespace and UploadNamespace are those of the Reconciler.
	WorkNamespace   string
	UploadNamespace string
	// Configs is that of the Reconciler.
	Configs *ConfigList
	Every   time.Duration
}

// NeedLeaderElection makes it run on the leader alone.
func (*Sweeper) NeedLeaderElection() bool { return true }

// Start sweeps at once and then on the interval, until ctx is done.
func (w *Sweeper) Start(ctx context.Context) error {
	tick := time.NewTicker(w.Every)
	defer tick.Stop()
	for {
		if err := w.sweep(ctx); err != nil && ctx.Err() == nil {
			log.FromContext(ctx).Error(err, "remove what deleted Tenants left behind; it is retried", "after", w.Every)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sweep removes compiled Secrets whose Tenant no longer exists.
func (w *Sweeper) sweep(ctx context.Context) error {
	for _, namespace := range []string{w.UploadNamespace, w.WorkNamespace} {
		var secrets corev1.SecretList
		if err := w.APIReader.List(ctx, &secrets, client.InNamespace(namespace),
			client.MatchingLabels{v1alpha1.LabelManagedBy: v1alpha1.Product}); err != nil {
			return err
		}
		for i := range secrets.Items {
			if err := w.sweepSecret(ctx, &secrets.Items[i]); err != nil {
				return err
			}
		}
	}
	if err := w.Configs.Prune(ctx); err != nil {
		return err
	}
	return w.sweepNames(ctx)
}

// sweepNames releases the names of Tenants that do not exist any more. A Tenant that cannot be read keeps its names.
func (w *Sweeper) sweepNames(ctx context.Context) error {
	holders, err := w.Store.TenantsWithNames(ctx)
	if err != nil {
		return err
	}
	for _, h := range holders {
		namespace, name := v1alpha1.SplitTenantID(h.Tenant)
		var t v1alpha1.Tenant
		key := client.ObjectKey{Namespace: namespace, Name: name}
		if err := w.Client.Get(ctx, key, &t); err == nil && string(t.UID) == h.UID {
			continue
		}
		err := w.APIReader.Get(ctx, key, &t)
		if client.IgnoreNotFound(err) != nil || (err == nil && string(t.UID) == h.UID) {
			continue
		}
		released, err := w.Store.ReleaseNames(ctx, h.Tenant, h.UID, nil)
		if err != nil {
			return err
		}
		log.FromContext(ctx).Info("released the names of a Tenant that was deleted", "tenant", h.Tenant,
			"names", len(released))
	}
	return nil
}

// sweepSecret deletes one compiled Secret if its Tenant does not exist, or if it is in the wrong namespace. Its
// upload Job goes first.
func (w *Sweeper) sweepSecret(ctx context.Context, secret *corev1.Secret) error {
	ns := secret.Labels[v1alpha1.LabelTenantNamespace]
	name := secret.Labels[v1alpha1.LabelTenant]
	if ns == "" || name == "" {
		return nil
	}
	err := w.APIReader.Get(ctx, client.ObjectKey{Namespace: ns, Name: name}, &v1alpha1.Tenant{})
	orphan := apierrors.IsNotFound(err)
	if err != nil && !orphan {
		return err
	}
	upload := secret.Type == v1alpha1.SecretTypeUploadConfig
	misplaced := upload && secret.Namespace != w.UploadNamespace
	if !orphan && !misplaced {
		return nil
	}
	log.FromContext(ctx).Info("removing a Secret that is no longer used", "tenant", ns+"/"+name,
		"secret", secret.Namespace+"/"+secret.Name, "tenantDeleted", orphan)
	if upload {
		if err := w.deleteJob(ctx, secret); err != nil {
			return err
		}
	}
	if upload && orphan {
		if err := w.Store.DropUploadRole(ctx, ns+"/"+name); err != nil {
			return err
		}
	}
	if secret.Type == v1alpha1.SecretTypeTenantConfig {
		if err := w.Configs.Withdraw(ctx, secret.Name); err != nil {
			return err
		}
	}
	return client.IgnoreNotFound(w.Client.Delete(ctx, secret))
}

// deleteJob deletes the Job whose pods mount an upload config. Its pods stop, and what they had claimed is claimed
// again.
func (w *Sweeper) deleteJob(ctx context.Context, secret *corev1.Secret) error {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: secret.Namespace, Name: secret.Name}}
	return client.IgnoreNotFound(w.Client.Delete(ctx, job, client.PropagationPolicy("Background")))
}
