package tenant

import (
	"context"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
)

// proofTimeout bounds the question whether Exotel accepts the credentials of one Tenant.
const proofTimeout = 10 * time.Second

// Accounts asks Exotel about accounts.
type Accounts interface {
	// Proves reports whether Exotel accepts the credentials for the Tenant's account, at the API's host that it returns.
	// An address that the platform does not trust proves nothing.
	Proves(ctx context.Context, t *v1alpha1.Tenant, credentials *corev1.Secret) (host string, ok bool)
}

// shareAccount shares an account with the Tenant that owns it, if Exotel accepts the credentials of both, and both
// list the telephone numbers that tell their calls apart.
func (r *Reconciler) shareAccount(ctx context.Context, s *scope) error {
	account := store.Name{Kind: store.NameAccount, Name: strings.ToLower(s.tenant.Spec.Exotel.AccountSID)}
	holders, err := r.Store.NameHolders(ctx, account)
	if err != nil || len(holders) == 0 {
		return err
	}
	id := s.tenant.ID()
	uid := string(s.tenant.UID)
	for _, h := range holders {
		if h.Tenant == id && h.UID == uid {
			s.names.shared = h.Shared
			return nil
		}
	}
	owner := holders[0]
	ok, err := r.bothProve(ctx, s, owner)
	if err != nil || !ok {
		return err
	}
	sharer := store.NameHolder{
		Tenant: id,
		UID:    uid,
	}
	if ok, err = r.Store.ShareAccount(ctx, account.Name, owner, sharer); err != nil || !ok {
		return err
	}
	log.FromContext(ctx).Info("two Tenants share an account: Exotel accepted the credentials of both",
		"tenant", id, "owner", owner.Tenant)
	s.names.held[account] = true
	s.names.shared = true
	return s.useNames(s.names.held)
}

// bothProve reports whether the Tenant and the owner may share the owner's account. Nothing is asked with the owner's
// credentials before the Tenant has proven its own.
func (r *Reconciler) bothProve(ctx context.Context, s *scope, owner store.NameHolder) (bool, error) {
	if r.Accounts == nil || len(s.tenant.Spec.Exotel.PhoneNumbers) == 0 {
		return false, nil
	}
	namespace, name := v1alpha1.SplitTenantID(owner.Tenant)
	var other v1alpha1.Tenant
	if err := r.Client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, &other); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	if string(other.UID) != owner.UID || len(other.Spec.Exotel.PhoneNumbers) == 0 ||
		!strings.EqualFold(other.Spec.Exotel.AccountSID, s.tenant.Spec.Exotel.AccountSID) {
		return false, nil
	}
	host, ok := r.proves(ctx, s.tenant, s.exotel)
	if !ok {
		return false, nil
	}
	var credentials corev1.Secret
	key := client.ObjectKey{
		Namespace: namespace,
		Name:      other.Spec.Exotel.CredentialsSecretRef.Name,
	}
	if err := r.APIReader.Get(ctx, key, &credentials); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	otherHost, ok := r.proves(ctx, &other, &credentials)
	return ok && host == otherHost, nil
}

// proves asks Exotel within a bound of time.
func (r *Reconciler) proves(ctx context.Context, t *v1alpha1.Tenant, credentials *corev1.Secret) (string, bool) {
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	return r.Accounts.Proves(ctx, t, credentials)
}
