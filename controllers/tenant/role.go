package tenant

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/internal/dbconn"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// ensureRole gives the upload pods a database credential of their own. The password lives in the upload config alone. A
// new one is made only when that config does not exist or cannot be read.
func (r *Reconciler) ensureRole(ctx context.Context, s *scope) error {
	var object corev1.Secret
	err := r.APIReader.Get(ctx, r.uploadKey(s.tenant.ID()), &object)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err == nil {
		old, err := tenantconfig.DecodeUpload(object.Data[tenantconfig.Key])
		if err == nil && r.stillGood(old.DatabaseURL) {
			s.upload.DatabaseURL = old.DatabaseURL
			return nil
		}
	}
	random := make([]byte, 24)
	_, _ = rand.Read(random) // never fails
	password := hex.EncodeToString(random)
	role, err := r.Store.EnsureUploadRole(ctx, s.tenant.ID(), password)
	if err != nil {
		return fmt.Errorf("make the tenant's database role: %w", err)
	}
	dsn, err := r.Store.UploadDSN(role, password)
	s.upload.DatabaseURL = secret.Sensitive(dsn)
	return err
}

// stillGood reports whether a database URL names the database that the operator itself uses now.
func (r *Reconciler) stillGood(dsn secret.Sensitive) bool {
	user, password, ok := dbconn.User(dsn.Reveal())
	if !ok {
		return false
	}
	want, err := r.Store.UploadDSN(user, password)
	return err == nil && want == dsn.Reveal()
}

// limitRole bounds the connections of the Tenant's upload role to what its pods need. A role that the database's owner
// may not alter, because another role made it, keeps its limit: the Tenant works all the same.
func (r *Reconciler) limitRole(ctx context.Context, s *scope) error {
	pods := cmp.Or(s.tenant.Spec.Recordings.MaxParallelism, defaultMaxParallelism)
	err := r.Store.LimitUploadRole(ctx, s.tenant.ID(), int(pods))
	var refused *store.ServerError
	if errors.As(err, &refused) && refused.Code == dbconn.InsufficientPrivilege {
		log.FromContext(ctx).Info("the connection limit of the tenant's upload role may not be altered; "+
			"grant the database's owner ADMIN OPTION on the role", "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("limit the tenant's database role: %w", err)
	}
	return nil
}
