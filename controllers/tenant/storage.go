package tenant

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

const fieldStorageCA = "recordings.caSecretRef"

// readBucket reads the Secrets of the bucket: its credentials, and the authorities that sign its certificate.
func (r *Reconciler) readBucket(ctx context.Context, s *scope) (err error) {
	spec := s.tenant.Spec.Recordings
	if spec.CASecretRef != nil {
		if s.bucketCA, err = r.readAuthorities(ctx, s, fieldStorageCA, *spec.CASecretRef); err != nil {
			return err
		}
	}
	switch {
	case spec.WebIdentity != nil:
		return r.readIdentity(ctx, s)
	case spec.CredentialsSecretRef == nil: // CEL requires one of them
		return reconcile.Stalled(v1alpha1.ReasonInvalidSpec,
			"spec.recordings needs credentialsSecretRef or webIdentity")
	}
	r.Identities.forget(s.tenant.ID()) // it may have had web identity before
	return r.readKeys(ctx, s, *spec.CredentialsSecretRef)
}

// readKeys reads the Secret with the credentials of the bucket.
func (r *Reconciler) readKeys(ctx context.Context, s *scope, ref v1alpha1.SecretReference) (err error) {
	const field = "recordings.credentialsSecretRef"
	if s.bucket, err = r.readValues(ctx, s, field, ref, "accessKeyID", "secretAccessKey"); err != nil {
		return err
	}
	if token := string(s.bucket.Data["sessionToken"]); token != "" {
		if fault := secret.Fault(token); fault != "" {
			return invalidValue(s, field, s.bucket, "sessionToken", fault)
		}
	}
	return nil
}

// readAuthorities reads a Secret of authorities that sign a server's certificate.
func (r *Reconciler) readAuthorities(
	ctx context.Context, s *scope, field string, ref v1alpha1.SecretReference,
) (string, error) {
	const key = corev1.ServiceAccountRootCAKey
	secret, err := r.readSecret(ctx, s, field, ref, key)
	if err != nil {
		return "", err
	}
	if fault := tenantconfig.CAFault(string(secret.Data[key])); fault != "" {
		return "", invalidValue(s, field, secret, key, fault)
	}
	return string(secret.Data[key]), nil
}

// storage compiles where recordings go.
func storage(s *scope) (tenantconfig.Storage, error) {
	spec := s.tenant.Spec.Recordings
	st := tenantconfig.Storage{
		Bucket:          spec.Bucket,
		Endpoint:        spec.Endpoint,
		Region:          spec.Region,
		AccessKeyID:     value(s.bucket, "accessKeyID"),
		SecretAccessKey: value(s.bucket, "secretAccessKey"),
		SessionToken:    value(s.bucket, "sessionToken"),
		Temporary:       s.temporary,
		Options: objectstore.Options{
			Addressing:     objectstore.Addressing(spec.Addressing),
			DualStack:      spec.DualStack != nil && *spec.DualStack,
			StorageClass:   spec.StorageClass,
			Tags:           tags(spec.Tags),
			PublicEndpoint: spec.PublicEndpoint,
			CABundle:       s.bucketCA,
		},
	}
	if e := spec.Encryption; e != nil {
		if e.KMSKeyID != "" && e.Type != v1alpha1.BucketEncryptionKMS {
			return st, reconcile.Stalled(v1alpha1.ReasonInvalidSpec,
				"spec.recordings.encryption.kmsKeyID needs the type SSE-KMS")
		}
		st.Encryption = objectstore.Encryption(e.Type)
		st.KMSKeyID = e.KMSKeyID
	}
	if found := s.tenant.Status.Storage; found != nil && found.Endpoint == spec.Endpoint &&
		found.Bucket == spec.Bucket {
		st.Checksum = objectstore.Checksum(found.Checksum)
	}
	return st, nil
}

func tags(spec []v1alpha1.BucketTag) map[string]string {
	if len(spec) == 0 {
		return nil
	}
	all := make(map[string]string, len(spec))
	for _, tag := range spec {
		all[tag.Name] = tag.Value
	}
	return all
}

// shareStorage has data-plane pods know the bucket where they need it: for links to download recordings, or for
// captures. The probe reports an endpoint that the platform does not allow, but after the config is written. Until it
// is corrected, no link may use plain http.
func (r *Reconciler) shareStorage(s *scope) {
	if s.tenant.Spec.Auth == nil && !captures(s.tenant.Spec.Audio) {
		return
	}
	st := s.upload.Storage
	if !r.Buckets.AllowsLinks(st.PublicEndpoint) {
		st.PublicEndpoint = ""
	}
	if st.PublicEndpoint == "" && !r.Buckets.AllowsLinks(st.Endpoint) {
		st.NoLinks = true
		// Pods of an earlier release do not know NoLinks. They must not make a link with plain http either.
		st.PublicEndpoint = "https://" + strings.TrimPrefix(st.Endpoint, "http://")
	}
	s.config.Storage = &st
}
