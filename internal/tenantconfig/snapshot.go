package tenantconfig

import "slices"

// Snapshot is the tenants that a pod knows at one moment. It never changes.
type Snapshot struct {
	tenants  map[string]*Tenant
	accounts map[string][]*Tenant // by Exotel's AccountSID
	numbers  map[string][]*Tenant // by telephone number in E.164
	hosts    map[string]*Tenant   // by host name; nil where several claim it
}

// NewSnapshot makes a snapshot of the tenants.
func NewSnapshot(tenants ...*Tenant) *Snapshot {
	s := &Snapshot{tenants: make(map[string]*Tenant, len(tenants)), accounts: map[string][]*Tenant{},
		numbers: map[string][]*Tenant{}, hosts: map[string]*Tenant{}}
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
		s.claimHosts(t)
	}
	return s
}

func (s *Snapshot) claimHosts(t *Tenant) {
	if t.Auth == nil {
		return
	}
	for _, h := range t.Auth.Hosts {
		if other, claimed := s.hosts[h]; claimed && other != t {
			s.hosts[h] = nil // nobody's from here on
			continue
		}
		s.hosts[h] = t
	}
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

// ByHost returns the tenant that has a host name, in lower case and without a port; false if none has it, or several: whoever
// claims another's name must not be handed its people's passwords, and a pod cannot tell which of them is right.
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

// Len is the number of tenants.
func (s *Snapshot) Len() int { return len(s.tenants) }
