package tenantconfig

import "slices"

// Snapshot is the tenants that a pod knows at one moment. It never changes.
type Snapshot struct {
	tenants  map[string]*Tenant
	accounts map[string][]*Tenant // by Exotel's AccountSID
	numbers  map[string][]*Tenant // by telephone number in E.164
}

// NewSnapshot makes a snapshot of the tenants.
func NewSnapshot(tenants ...*Tenant) *Snapshot {
	s := &Snapshot{tenants: make(map[string]*Tenant, len(tenants)), accounts: map[string][]*Tenant{}, numbers: map[string][]*Tenant{}}
	for _, t := range tenants {
		s.tenants[t.ID] = t
	}
	for _, t := range s.tenants {
		if t.AccountSID != "" {
			s.accounts[t.AccountSID] = append(s.accounts[t.AccountSID], t)
		}
		for _, n := range t.PhoneNumbers {
			if !slices.Contains(s.numbers[n], t) {
				s.numbers[n] = append(s.numbers[n], t)
			}
		}
	}
	return s
}

// Tenant returns the tenant with the id namespace/name.
func (s *Snapshot) Tenant(id string) (*Tenant, bool) {
	t, ok := s.tenants[id]
	return t, ok
}

// ByAccount returns the tenants of an account of Exotel's, in no order. The result must not be changed.
func (s *Snapshot) ByAccount(sid string) []*Tenant { return s.accounts[sid] }

// ByNumber returns the tenants that have any of the telephone numbers, each once, in no order.
func (s *Snapshot) ByNumber(e164 ...string) []*Tenant {
	var found []*Tenant
	for _, n := range e164 {
		for _, t := range s.numbers[n] {
			if !slices.Contains(found, t) {
				found = append(found, t)
			}
		}
	}
	return found
}

// Len is the number of tenants.
func (s *Snapshot) Len() int { return len(s.tenants) }
