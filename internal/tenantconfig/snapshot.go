package tenantconfig

import (
	"cmp"
	"slices"
)

// Snapshot is the tenants that a pod knows at one moment. It never changes.
//
// The operator gives each name to one tenant. A snapshot does not rely on it: of several tenants with one name the
// oldest keeps it, so that a new tenant takes nothing from the others.
type Snapshot struct {
	tenants  map[string]*Tenant
	accounts map[string][]*Tenant // by Exotel's AccountSID, the oldest first
	numbers  map[string]*Tenant   // by telephone number in E.164
	hosts    map[string]*Tenant   // by host name

	incomplete bool
}

// NewIncompleteSnapshot makes a snapshot of a pod that knows these tenants and lacks others.
func NewIncompleteSnapshot(tenants ...*Tenant) *Snapshot {
	snapshot := NewSnapshot(tenants...)
	snapshot.incomplete = true
	return snapshot
}

// NewSnapshot makes a snapshot of all tenants.
func NewSnapshot(tenants ...*Tenant) *Snapshot {
	snapshot := &Snapshot{
		tenants:  make(map[string]*Tenant, len(tenants)),
		accounts: map[string][]*Tenant{},
		numbers:  map[string]*Tenant{},
		hosts:    map[string]*Tenant{},
	}
	for _, t := range tenants {
		snapshot.tenants[t.ID] = t
	}
	for _, t := range snapshot.oldestFirst() {
		if t.AccountSID != "" {
			snapshot.addAccount(t)
		}
		for _, number := range t.PhoneNumbers {
			claim(snapshot.numbers, number, t)
		}
		if t.Auth == nil {
			continue
		}
		for _, host := range t.Auth.Hosts {
			if !ReservedHost(host) {
				claim(snapshot.hosts, host, t)
			}
		}
	}
	return snapshot
}

// oldestFirst returns the tenants by age. Configs of an earlier version have no age and come first.
func (s *Snapshot) oldestFirst() []*Tenant {
	list := make([]*Tenant, 0, len(s.tenants))
	for _, t := range s.tenants {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b *Tenant) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// claim gives a name to a tenant unless an older tenant has it. Of two configs without an age a pod cannot tell which
// is right: then the name is nobody's.
func claim(names map[string]*Tenant, name string, t *Tenant) {
	owner, taken := names[name]
	switch {
	case !taken:
		names[name] = t
	case owner != t && t.Created.IsZero():
		names[name] = nil
	}
}

// addAccount adds a tenant to those of its account: the owner, tenants that share it, and configs of an earlier
// version, which do not say so.
func (s *Snapshot) addAccount(t *Tenant) {
	list := s.accounts[t.AccountSID]
	owned := slices.ContainsFunc(list, func(other *Tenant) bool { return !other.SharesAccount })
	if t.SharesAccount || t.Created.IsZero() || !owned {
		s.accounts[t.AccountSID] = append(list, t)
	}
}

// Tenant returns the tenant with the id namespace/name.
func (s *Snapshot) Tenant(id string) (*Tenant, bool) {
	t, ok := s.tenants[id]
	return t, ok
}

// ByAccount returns the tenants of an account of Exotel's, the oldest first. The result must not be changed.
func (s *Snapshot) ByAccount(sid string) []*Tenant { return s.accounts[sid] }

// ByNumber returns the tenants that have any of the telephone numbers, each once, in the order of the numbers.
func (s *Snapshot) ByNumber(e164 ...string) []*Tenant {
	var found []*Tenant
	for _, number := range e164 {
		if t := s.numbers[number]; t != nil && !slices.Contains(found, t) {
			found = append(found, t)
		}
	}
	return found
}

// ByHost returns the tenant that has a host name, in lower case and without a port. It returns false if no tenant has
// it.
func (s *Snapshot) ByHost(host string) (*Tenant, bool) {
	t := s.hosts[host]
	return t, t != nil
}

// WithAccounts returns the ids of the tenants that have accounts, in no order.
func (s *Snapshot) WithAccounts() []string {
	var ids []string
	for id, t := range s.tenants {
		if t.Auth != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// IDs of the tenants, in no order.
func (s *Snapshot) IDs() []string {
	ids := make([]string, 0, len(s.tenants))
	for id := range s.tenants {
		ids = append(ids, id)
	}
	return ids
}

// Complete reports whether the snapshot has all tenants. If not, one that it does not have may exist: a request that
// names it must be sent again later.
func (s *Snapshot) Complete() bool { return !s.incomplete }

// Len is the number of tenants.
func (s *Snapshot) Len() int { return len(s.tenants) }
