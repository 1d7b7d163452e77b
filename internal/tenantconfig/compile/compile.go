// Package compile turns the spec of a Tenant into the part of its config that needs no Secret and no database. The
// operator adds the rest for the pods. Backfill and replay read events by this part alone.
package compile

import (
	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Tenant returns the config that decides how events of a Tenant are read. Its account and numbers are those of the
// spec, which another Tenant may hold.
func Tenant(t *v1alpha1.Tenant) *tenantconfig.Tenant {
	return &tenantconfig.Tenant{
		Version:            tenantconfig.Version,
		ID:                 t.ID(),
		UID:                string(t.UID),
		Generation:         t.Generation,
		Created:            t.CreationTimestamp.UTC(),
		AccountSID:         t.Spec.Exotel.AccountSID,
		PhoneNumbers:       t.Spec.Exotel.PhoneNumbers,
		TimeZone:           t.Spec.Exotel.TimeZone,
		AllowedSourceHosts: SourceHosts(t),
	}
}

// SourceHosts returns the hosts that recordings of a Tenant may be fetched from: those of its spec, else Exotel's.
func SourceHosts(t *v1alpha1.Tenant) []string {
	if hosts := t.Spec.Recordings.AllowedSourceHosts; len(hosts) > 0 {
		return hosts
	}
	return tenantconfig.DefaultSourceHosts
}
