package backfill

import (
	"context"
	"slices"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
)

// owner tells which of an account's calls are a Tenant's. Where the Tenant shares the account with others, their calls are none
// of its business: the ExoPhone decides, and what no Tenant's number tells stays where a webhook put it.
type owner struct {
	shared       bool
	mine, others []string // phone numbers
}

func (r *Reconciler) ownerOf(ctx context.Context, t *v1alpha1.Tenant) (owner, error) {
	var list v1alpha1.TenantList
	if err := r.Client.List(ctx, &list); err != nil {
		return owner{}, err
	}
	o := owner{mine: t.Spec.Exotel.PhoneNumbers}
	for i := range list.Items {
		other := &list.Items[i]
		if other.UID != t.UID && accountKey(other) == accountKey(t) {
			o.shared = true
			o.others = append(o.others, other.Spec.Exotel.PhoneNumbers...)
		}
	}
	return o, nil
}

// owns tells whether a call is the Tenant's; known says that a webhook of it came to the Tenant.
func (o owner) owns(c *calldetails.Call, known bool) bool {
	if !o.shared || known {
		return true
	}
	return slices.ContainsFunc(o.mine, c.Uses) && !slices.ContainsFunc(o.others, c.Uses)
}
