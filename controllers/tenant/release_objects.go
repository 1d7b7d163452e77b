package tenant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// deleteObjects deletes everything below the Tenant's prefix.
func (r *Reconciler) deleteObjects(ctx context.Context, s *scope) error {
	configs, err := r.uploadConfigs(ctx, s)
	if err != nil || len(configs) == 0 {
		return err
	}
	leave, err := r.stores.enter(ctx, s.tenant.Namespace)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	bucket := ""
	for _, u := range configs {
		bucket = u.Bucket
		err = r.Buckets.DeletePrefix(ctx, u, recording.KeyPrefix(s.tenant.ID()))
		if err == nil {
			return nil
		}
		if errors.Is(err, objectstore.ErrUnfinished) { // other Tenants have their turn between two rounds
			return reconcile.Retry(2*time.Second, v1alpha1.ReasonDeleting, "deleting the objects in bucket %s", bucket)
		}
		if objectstore.CauseOf(err).Reason == objectstore.CredentialsExpired {
			r.Identities.doubt(s.tenant.ID(), r.now())
		}
	}
	return reconcile.Retry(30*time.Second, v1alpha1.ReasonDeleting, "the objects in bucket %s could not be deleted: %s",
		bucket, s.undeleted(err))
}

// undeleted says why objects could not be deleted and what to do. A fault of the spec's credentials is usually the
// cause of what the store answered.
func (s *scope) undeleted(err error) string {
	spec := s.tenant.Spec.Recordings
	named := "the Secret that it names"
	if spec.WebIdentity != nil {
		named = fmt.Sprintf("ServiceAccount %q", spec.WebIdentity.ServiceAccountName)
	}
	why := bounded.Text(err.Error(), 500)
	if s.bucketFault != nil {
		why = fmt.Sprintf("the operator cannot use the credentials of the spec (%s): %s; and with the last ones: %s",
			s.bucketFault.Reason, s.bucketFault.Message, why)
	}
	return fmt.Sprintf("%s; correct spec.recordings or %s, or set spec.deletionPolicy to Retain to keep them", why,
		named)
}

// uploadConfigs are the upload configs to delete with, one after the other: the one that the objects were written with,
// then that of the spec and its Secret as they are now, if it differs. The Secrets may not exist any more, as when the
// whole namespace is deleted. The list is empty when nothing was ever uploaded.
func (r *Reconciler) uploadConfigs(ctx context.Context, s *scope) ([]*tenantconfig.Upload, error) {
	var secret corev1.Secret
	err := r.APIReader.Get(ctx, r.uploadKey(s.tenant.ID()), &secret)
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	last, err := tenantconfig.DecodeUpload(secret.Data[tenantconfig.Key])
	if err != nil {
		return r.compiledAgain(ctx, s)
	}
	configs := []*tenantconfig.Upload{last}
	now, err := r.corrected(ctx, s, *last)
	if now != nil {
		configs = append(configs, now)
	}
	return configs, err
}

// corrected returns the upload config with the bucket of the spec as it is now; nil if it is the same one, or if its
// credentials cannot be used. Then the scope has why.
func (r *Reconciler) corrected(
	ctx context.Context, s *scope, before tenantconfig.Upload,
) (*tenantconfig.Upload, error) {
	now := before
	err := r.readBucket(ctx, s)
	if err == nil {
		now.Storage, err = storage(s)
	}
	if stop := stopOf(err); stop != nil {
		s.bucketFault = stop
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s.bucketFault = s.identityFault
	same, err := sameUpload(before, now)
	if err != nil || same {
		return nil, err
	}
	return &now, nil
}

// sameUpload compares upload configs as they are published.
func sameUpload(a, b tenantconfig.Upload) (bool, error) {
	first, err := tenantconfig.EncodeUpload(a)
	if err != nil {
		return false, err
	}
	second, err := tenantconfig.EncodeUpload(b)
	return bytes.Equal(first, second), err
}

// compiledAgain compiles the upload config when the one that was in use is lost.
func (r *Reconciler) compiledAgain(ctx context.Context, s *scope) ([]*tenantconfig.Upload, error) {
	err := r.readSecrets(ctx, s)
	if err == nil {
		err = r.compile(ctx, s)
	}
	if err == nil {
		return []*tenantconfig.Upload{s.upload}, nil
	}
	uploaded, dbErr := r.Store.HasUploads(ctx, s.tenant.ID())
	if dbErr != nil || !uploaded {
		return nil, dbErr
	}
	return nil, reconcile.Retry(30*time.Second, v1alpha1.ReasonDeleting,
		"the objects in bucket %s cannot be deleted: the upload config is lost and cannot be "+
			"compiled again: %v; correct that, or set spec.deletionPolicy to Retain to keep them",
		s.tenant.Spec.Recordings.Bucket, err)
}
