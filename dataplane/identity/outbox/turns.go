package outbox

import "sync"

// turns are the tenants that have had a message sent in this round. Each tenant has one turn in a round, so that the
// mail of one tenant does not delay that of the others, however much of it waits. Each pod has rounds of its own.
type turns struct {
	mu   sync.Mutex
	done map[string]bool
}

// waiting returns the tenants that have not had their turn.
func (t *turns) waiting(tenants []string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.done) == 0 {
		return tenants
	}
	left := make([]string, 0, len(tenants))
	for _, id := range tenants {
		if !t.done[id] {
			left = append(left, id)
		}
	}
	return left
}

// had marks that a tenant has had its turn.
func (t *turns) had(tenant string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done == nil {
		t.done = map[string]bool{}
	}
	t.done[tenant] = true
}

// begin begins a new round.
func (t *turns) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = nil
}
