package tenant

import (
	"context"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/tenantconfig/compile"
)

// readSecrets reads the Secrets that the spec names and checks that they hold what is needed.
func (r *Reconciler) readSecrets(ctx context.Context, s *scope) (err error) {
	spec := s.tenant.Spec
	if s.exotel, err = r.readValues(ctx, s, "exotel.credentialsSecretRef", spec.Exotel.CredentialsSecretRef,
		"apiKey", "apiToken"); err != nil {
		return err
	}
	if err := r.readBucket(ctx, s); err != nil {
		return err
	}
	if err := r.readVerifiers(ctx, s); err != nil {
		return err
	}
	if err := r.readHeaders(ctx, s); err != nil {
		return err
	}
	if err := r.readCA(ctx, s); err != nil {
		return err
	}
	r.setCredentials(s)
	return nil
}

// readSecret reads a Secret that field refers to, with the given keys. A missing Secret or key stalls the Tenant.
func (r *Reconciler) readSecret(
	ctx context.Context,
	s *scope,
	field string,
	ref v1alpha1.SecretReference,
	keys ...string,
) (*corev1.Secret, error) {
	var object corev1.Secret
	err := r.APIReader.Get(ctx, client.ObjectKey{Namespace: s.tenant.Namespace, Name: ref.Name}, &object)
	if apierrors.IsNotFound(err) {
		return nil, invalidCredentials(
			s,
			v1alpha1.ReasonSecretNotFound,
			"Secret %q, named by spec.%s, does not exist in namespace %q: create it",
			ref.Name,
			field,
			s.tenant.Namespace,
		)
	}
	if err != nil {
		return nil, err
	}
	if !r.SecretLabel.Allows(object.Labels) {
		return nil, invalidCredentials(
			s,
			v1alpha1.ReasonSecretNotLabelled,
			"Secret %q, named by spec.%s, lacks the label that allows a Tenant to use it: kubectl -n %s label secret %s %s",
			ref.Name,
			field,
			s.tenant.Namespace,
			ref.Name,
			r.SecretLabel,
		)
	}
	for _, k := range keys {
		if len(object.Data[k]) == 0 {
			return nil, invalidCredentials(
				s,
				v1alpha1.ReasonSecretKeyMissing,
				"Secret %q, named by spec.%s, lacks the key %q or it is empty: add it",
				ref.Name,
				field,
				k,
			)
		}
	}
	return &object, nil
}

// readValues reads a Secret whose keys hold one line of text each.
func (r *Reconciler) readValues(
	ctx context.Context, s *scope, field string, ref v1alpha1.SecretReference, keys ...string,
) (*corev1.Secret, error) {
	object, err := r.readSecret(ctx, s, field, ref, keys...)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if fault := secret.Fault(string(object.Data[k])); fault != "" {
			return nil, invalidValue(s, field, object, k, fault)
		}
	}
	return object, nil
}

// invalidValue stalls the Tenant for what a key of a Secret holds. The fault must not quote it.
func invalidValue(s *scope, field string, object *corev1.Secret, key, fault string) error {
	return invalidCredentials(s, v1alpha1.ReasonSecretKeyMissing, "key %q of Secret %q, named by spec.%s, %s",
		key, object.Name, field, fault)
}

// invalidCredentials stalls the Tenant; the watch on Secrets wakes it.
func invalidCredentials(s *scope, reason, format string, args ...any) error {
	stop := reconcile.Stalled(reason, format, args...)
	conditions.Set(s.tenant, v1alpha1.ConditionCredentialsValid, metav1.ConditionFalse, reason, stop.Error())
	return stop
}

// compile makes what the pods read. Defaults that the API server fills in are filled in here too, for objects made before.
func (r *Reconciler) compile(_ context.Context, s *scope) error {
	spec := s.tenant.Spec
	if err := recording.ParseKeyTemplate(spec.Recordings.KeyTemplate); err != nil {
		return reconcile.Stalled(v1alpha1.ReasonInvalidSpec, "spec.%v", err)
	}
	// Go takes "Local" for wherever the pod happens to run.
	if _, err := time.LoadLocation(spec.Exotel.TimeZone); err != nil || spec.Exotel.TimeZone == "Local" {
		return reconcile.Stalled(v1alpha1.ReasonInvalidSpec,
			"spec.exotel.timeZone %q is not a name of the IANA time zone database, such as Asia/Kolkata",
			spec.Exotel.TimeZone)
	}
	verifiers, err := webhooks(s)
	if err != nil {
		return err
	}
	accounts, err := auth(spec.Auth)
	if err != nil {
		return err
	}
	if accounts != nil {
		accounts.Hosts = s.heldOnly(store.NameHost)
	}
	streams, err := audio(s, verifiers)
	if err != nil {
		return err
	}
	bucket, err := storage(s)
	if err != nil {
		return err
	}
	r.limit(s, streams)
	s.config = compile.Tenant(s.tenant)
	s.config.Suspended = s.suspended()
	s.config.AccountSID = strings.Join(s.heldOnly(store.NameAccount), "")
	s.config.SharesAccount = s.names.shared
	s.config.PhoneNumbers = s.heldOnly(store.NameNumber)
	s.config.Webhooks = verifiers
	s.config.Freshness = duration(spec.Webhooks.Freshness, tenantconfig.DefaultFreshness)
	s.config.Auth = accounts
	s.config.Audio = streams
	s.upload = &tenantconfig.Upload{
		Version:            tenantconfig.Version,
		ID:                 s.config.ID,
		ExotelKey:          value(s.exotel, "apiKey"),
		ExotelToken:        value(s.exotel, "apiToken"),
		ExotelAPI:          spec.Exotel.APIBaseURL,
		AllowedSourceHosts: s.config.AllowedSourceHosts,
		Storage:            bucket,
		KeyTemplate:        spec.Recordings.KeyTemplate,
	}
	r.rememberChecksum(s)
	r.shareStorage(s)
	return nil
}

func value(s *corev1.Secret, key string) secret.Sensitive {
	return secret.Sensitive(s.Data[key])
}
