package tenant

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Webhooks compiles the verifiers of a Tenant's webhooks as the operator does, with its Secrets as they are now. It
// returns nil if the Tenant has none. The label of Secrets is not checked.
func Webhooks(ctx context.Context, reader client.Reader, t *v1alpha1.Tenant) (*tenantconfig.Webhooks, error) {
	t = t.DeepCopy()
	t.Spec.Audio = nil // streams have verifiers of their own
	r := &Reconciler{APIReader: reader}
	s := &scope{tenant: t}
	if err := r.readVerifiers(ctx, s); err != nil {
		return nil, err
	}
	return webhooks(s)
}
