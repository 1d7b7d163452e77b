package tenant

import (
	"context"
	"errors"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/internal/dbconn"
	"github.com/caly-dev/caly/internal/store"
)

// defaultParallelism is the number of upload pods of a Tenant that does not say how many it may have.
const defaultParallelism = 4

// limitRole bounds the connections of the Tenant's upload role to what its pods need. A role that the database's owner
// may not alter, because another role made it, keeps its limit: the Tenant works all the same.
func (r *Reconciler) limitRole(ctx context.Context, s *scope) error {
	pods := int(s.tenant.Spec.Recordings.MaxParallelism)
	if pods == 0 {
		pods = defaultParallelism
	}
	err := r.Store.LimitUploadRole(ctx, s.tenant.ID(), pods)
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
