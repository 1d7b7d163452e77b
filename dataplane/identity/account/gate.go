package account

import "sync"

// gate bounds the logins in work before they ask the database for anything: all of them to what the hasher takes on, and those of one
// address to a share of it. Who tries passwords keeps neither the database's connections nor the hasher from everybody else. Tries for one
// email from one address share a place: their own limit is exact, and must be what refuses them.
type gate struct {
	total, each int

	mu sync.Mutex
	in int
	of map[string]map[string]int // tries by address and email; no entry is empty
}

// sharesOfGate is how many addresses fill the gate.
const sharesOfGate = 4

func newGate(total int) *gate {
	return &gate{total: total, each: max(1, total/sharesOfGate), of: map[string]map[string]int{}}
}

// enter takes a place, unless there is none. Whoever has one leaves it.
func (g *gate) enter(address, email string) (leave func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	emails := g.of[address]
	if emails[email] == 0 {
		if g.in >= g.total || len(emails) >= g.each {
			return nil, false
		}
		g.in++
	}
	if emails == nil {
		emails = map[string]int{}
		g.of[address] = emails
	}
	emails[email]++
	return func() { g.leave(address, email) }, true
}

func (g *gate) leave(address, email string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	emails := g.of[address]
	if emails[email]--; emails[email] > 0 {
		return
	}
	g.in--
	if delete(emails, email); len(emails) == 0 {
		delete(g.of, address)
	}
}
