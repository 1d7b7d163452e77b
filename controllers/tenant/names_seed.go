package tenant

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// seedNames claims the names that are published now, by the age of their Tenants, if no name is claimed yet: after an
// upgrade from a version without owners of names, or when the database was restored from a time before it.
func (r *Reconciler) seedNames(ctx context.Context) error {
	r.seeding.Lock()
	defer r.seeding.Unlock()
	if r.seeded {
		return nil
	}
	seeded, err := r.Store.NamesSeeded(ctx)
	if err == nil && !seeded {
		err = r.seed(ctx)
	}
	r.seeded = err == nil
	return err
}

// seed claims what the tenant configs of the work namespace have.
func (r *Reconciler) seed(ctx context.Context) error {
	var list v1alpha1.TenantList
	if err := r.Client.List(ctx, &list); err != nil {
		return err
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.Tenant) int { return byAge(&a, &b) })
	var claims []store.NameClaim
	for i := range list.Items {
		t := &list.Items[i]
		config, err := r.publishedConfig(ctx, t)
		if err != nil {
			return err
		}
		if config == nil {
			continue
		}
		claims = append(claims, store.NameClaim{
			Tenant: t.ID(),
			UID:    string(t.UID),
			Names:  r.publishedNames(config),
		})
	}
	if len(claims) > 0 {
		log.FromContext(ctx).Info("claiming the names that are published, by the age of their Tenants",
			"tenants", len(claims))
	}
	return r.Store.SeedNames(ctx, claims)
}

// publishedConfig returns the tenant config of a Tenant. It returns nil if there is none that can be read, or that of
// another Tenant.
func (r *Reconciler) publishedConfig(ctx context.Context, t *v1alpha1.Tenant) (*tenantconfig.Tenant, error) {
	var secret corev1.Secret
	key := client.ObjectKey{
		Namespace: r.WorkNamespace,
		Name:      tenantconfig.SecretName(tenantconfig.PrefixTenant, t.ID()),
	}
	if err := r.APIReader.Get(ctx, key, &secret); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	config, err := tenantconfig.DecodeTenant(secret.Data[tenantconfig.Key])
	if err != nil || config.ID != t.ID() || config.UID != string(t.UID) {
		return nil, nil
	}
	return config, nil
}

// publishedNames returns the names of a tenant config, without the hosts that no tenant may have.
func (r *Reconciler) publishedNames(config *tenantconfig.Tenant) []store.Name {
	list := []store.Name{{Kind: store.NameObject, Name: tenantconfig.SecretName("", config.ID)}}
	if config.AccountSID != "" {
		list = append(list, store.Name{Kind: store.NameAccount, Name: strings.ToLower(config.AccountSID)})
	}
	for _, number := range config.PhoneNumbers {
		list = append(list, store.Name{Kind: store.NameNumber, Name: exotel.SameNumber(number)})
	}
	if config.Auth != nil {
		for _, host := range config.Auth.Hosts {
			if !tenantconfig.ReservedHost(host) && !r.PlatformHosts.Match(host) {
				list = append(list, store.Name{Kind: store.NameHost, Name: tenantconfig.NormalHost(host)})
			}
		}
	}
	return list
}
