package backfill

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
	"github.com/caly-dev/caly/internal/store"
)

// owner decides which of an account's calls belong to a Tenant. Where Tenants share the account, the ExoPhone decides.
// A call that matches no Tenant's number stays with the Tenant that received its webhook.
type owner struct {
	shared bool
	mine   []string // phone numbers that the Tenant holds
}

// errNotHeld is for a Tenant whose account another Tenant holds.
var errNotHeld = errors.New("another Tenant holds the account")

// ownerOf asks who holds the Tenant's account. What other Tenants only have in their specs does not count.
func (r *Reconciler) ownerOf(ctx context.Context, t *v1alpha1.Tenant) (owner, error) {
	account := store.Name{
		Kind: store.NameAccount,
		Name: strings.ToLower(t.Spec.Exotel.AccountSID),
	}
	holders, err := r.Store.NameHolders(ctx, account)
	if err != nil || len(holders) == 0 {
		return owner{}, err
	}
	holds := slices.ContainsFunc(holders, func(h store.NameHolder) bool { return h.Tenant == t.ID() })
	switch {
	case !holds:
		return owner{}, errNotHeld
	case len(holders) == 1:
		return owner{}, nil
	}
	held, err := r.Store.HeldNames(ctx, t.ID(), string(t.UID))
	if err != nil {
		return owner{}, err
	}
	o := owner{shared: true}
	for _, number := range t.Spec.Exotel.PhoneNumbers {
		if slices.Contains(held, store.Name{Kind: store.NameNumber, Name: exotel.SameNumber(number)}) {
			o.mine = append(o.mine, number)
		}
	}
	return o, nil
}

// owns reports whether a call is the Tenant's; known says that a webhook of it came to the Tenant.
func (o owner) owns(c *calldetails.Call, known bool) bool {
	return !o.shared || known || slices.ContainsFunc(o.mine, c.Uses)
}
