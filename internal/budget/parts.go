package budget

import "sync"

// Parts are the parts of one budget that each of many users, such as tenants, may use up.
type Parts struct {
	shared *Budget
	most   int64
	mu     sync.Mutex
	parts  map[string]*Budget // a part stays: it is a few bytes
}

// Parts returns parts of at most this many bytes each.
func (b *Budget) Parts(most int64) *Parts {
	return &Parts{shared: b, most: most, parts: map[string]*Budget{}}
}

// Of returns the part of one user.
func (p *Parts) Of(user string) *Budget {
	p.mu.Lock()
	defer p.mu.Unlock()
	part := p.parts[user]
	if part == nil {
		part = p.shared.Part(p.most)
		p.parts[user] = part
	}
	return part
}

// InUse returns the bytes that all users have taken now.
func (p *Parts) InUse() int64 { return p.shared.InUse() }
