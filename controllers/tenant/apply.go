package tenant

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// FieldOwner of what this operator applies.
const FieldOwner = client.FieldOwner("caly-operator")

// apply writes the two Secrets that the pods read.
func (r *Reconciler) apply(ctx context.Context, s *scope) error {
	config, err := tenantconfig.EncodeTenant(*s.config)
	if err != nil {
		return reconcile.Stalled(v1alpha1.ReasonInvalidSpec, "%v", err)
	}
	upload, err := tenantconfig.EncodeUpload(*s.upload)
	if err != nil {
		return reconcile.Stalled(v1alpha1.ReasonInvalidSpec, "%v", err)
	}
	if err := r.applySecret(ctx, s, r.uploadKey(s.tenant.ID()), v1alpha1.SecretTypeUploadConfig, upload); err != nil {
		return err
	}
	if err := r.applySecret(ctx, s, r.configKey(s.tenant.ID()), v1alpha1.SecretTypeTenantConfig, config); err != nil {
		return err
	}
	r.Configs.Publish(r.configKey(s.tenant.ID()).Name)
	s.applied = true
	conditions.Delete(s.tenant, v1alpha1.ConditionVerifierMissing)
	s.tenant.Status.WebhookURLs = r.webhookURLs(s.tenant) // they work from now on, whatever becomes of the bucket
	return nil
}

// webhookURLs returns the addresses to configure at Exotel.
func (r *Reconciler) webhookURLs(t *v1alpha1.Tenant) (urls []v1alpha1.WebhookURL) {
	for _, event := range []string{"passthru", "status"} {
		urls = append(urls, v1alpha1.WebhookURL{
			Event: event,
			URL:   strings.TrimRight(r.PublicURL, "/") + v1alpha1.WebhookPathPrefix + t.ID() + "/" + event,
		})
	}
	return urls
}

// suspendConfig has the data plane refuse the webhooks of a suspended Tenant at once: what comes after it in the reconcile may
// stall, and then the config as a whole stays the last good one.
func (r *Reconciler) suspendConfig(ctx context.Context, s *scope) error {
	if !s.suspended() {
		return nil
	}
	return r.changeConfig(ctx, s, func(config *tenantconfig.Tenant) (changed bool) {
		changed = !config.Suspended
		config.Suspended = true
		return changed
	})
}

// changeConfig changes the published config in place. The function reports whether it changed it. If there is no
// config, somebody deleted it, and the pods must not keep its last value.
func (r *Reconciler) changeConfig(ctx context.Context, s *scope, change func(*tenantconfig.Tenant) bool) error {
	var object corev1.Secret
	key := r.configKey(s.tenant.ID())
	err := r.APIReader.Get(ctx, key, &object)
	if apierrors.IsNotFound(err) {
		return r.Configs.Withdraw(ctx, key.Name)
	}
	if err != nil {
		return err
	}
	config, err := tenantconfig.DecodeTenant(object.Data[tenantconfig.Key])
	unreadable := err != nil // then apply replaces it
	if unreadable || !change(config) {
		return nil
	}
	data, err := tenantconfig.EncodeTenant(*config)
	if err != nil {
		return err
	}
	return r.applySecret(ctx, s, key, v1alpha1.SecretTypeTenantConfig, data)
}

// components of the Secrets, by type, for their labels.
var components = map[corev1.SecretType]string{
	v1alpha1.SecretTypeTenantConfig: v1alpha1.ComponentTenantConfig,
	v1alpha1.SecretTypeUploadConfig: v1alpha1.ComponentUploadConfig,
}

// applySecret writes a compiled Secret with server-side apply, and takes back fields that others changed.
func (r *Reconciler) applySecret(
	ctx context.Context, s *scope, key client.ObjectKey, kind corev1.SecretType, data []byte,
) error {
	ac := corev1ac.Secret(key.Name, key.Namespace).
		WithType(kind).
		WithLabels(map[string]string{
			v1alpha1.LabelTenant:          s.tenant.Name,
			v1alpha1.LabelTenantNamespace: s.tenant.Namespace,
			v1alpha1.LabelComponent:       components[kind],
			v1alpha1.LabelManagedBy:       v1alpha1.Product,
		}).
		WithData(map[string][]byte{tenantconfig.Key: data})
	if err := r.Client.Apply(ctx, ac, FieldOwner, client.ForceOwnership); err != nil {
		return fmt.Errorf("write Secret %s: %w", key, err)
	}
	return nil
}

// configKey names the Secret with the config that data-plane pods read.
func (r *Reconciler) configKey(tenantID string) client.ObjectKey {
	return client.ObjectKey{
		Namespace: r.WorkNamespace,
		Name:      tenantconfig.SecretName(tenantconfig.PrefixTenant, tenantID),
	}
}

// uploadKey names the Secret with the config that the tenant's upload pods mount, and the Job of those pods.
func (r *Reconciler) uploadKey(tenantID string) client.ObjectKey {
	return client.ObjectKey{
		Namespace: r.UploadNamespace,
		Name:      tenantconfig.SecretName(tenantconfig.PrefixUpload, tenantID),
	}
}

// publish says that all is in place.
func (r *Reconciler) publish(ctx context.Context, s *scope) error {
	t := s.tenant
	t.Status.ConfigDigest = s.config.Digest()
	if stop := s.namesVerdict(); stop != nil {
		r.logHolders(ctx, s)
		return stop
	}
	if err := s.uploadsVerdict(); err != nil {
		return err
	}
	message := "webhooks are accepted and recordings are uploaded"
	if s.suspended() {
		message = "suspended: webhooks are refused and uploads wait"
	}
	conditions.MarkReady(t, v1alpha1.ReasonReady, message)
	s.ComeBack(reprobe)
	return nil
}

// unpublish ends what the data plane and upload pods do for a tenant.
func (r *Reconciler) unpublish(ctx context.Context, id string) error {
	if err := r.Configs.Withdraw(ctx, r.configKey(id).Name); err != nil {
		return err
	}
	return r.deleteManaged(ctx, r.published(id)...)
}

// deleteManaged deletes objects of the operator. One that does not exist is not an error.
func (r *Reconciler) deleteManaged(ctx context.Context, objs ...client.Object) error {
	for _, o := range objs {
		if err := r.Client.Delete(ctx, o, client.PropagationPolicy("Background")); err != nil &&
			!apierrors.IsNotFound(err) {
			return fmt.Errorf("delete %s/%s: %w", o.GetNamespace(), o.GetName(), err)
		}
	}
	return nil
}
