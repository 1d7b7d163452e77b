package tenantconfig

// Snapshot is the tenants that a pod knows at one moment. It never changes.
type Snapshot struct {
	tenants map[string]*Tenant
}

// NewSnapshot makes a snapshot of the tenants.
func NewSnapshot(tenants ...*Tenant) *Snapshot {
	s := &Snapshot{tenants: make(map[string]*Tenant, len(tenants))}
	for _, t := range tenants {
		s.tenants[t.ID] = t
	}
	return s
}

// Tenant returns the tenant with the id namespace/name.
func (s *Snapshot) Tenant(id string) (*Tenant, bool) {
	t, ok := s.tenants[id]
	return t, ok
}

// Len is the number of tenants.
func (s *Snapshot) Len() int { return len(s.tenants) }
