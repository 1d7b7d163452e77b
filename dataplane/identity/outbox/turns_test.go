package outbox

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// order is a sender that notes whom it sends to.
type order struct {
	mu sync.Mutex
	to []string
}

// Send implements Sender.
func (o *order) Send(ctx context.Context, m mail.Message, _ mail.Envelope, before func(context.Context) error) error {
	o.mu.Lock()
	o.to = append(o.to, m.To)
	o.mu.Unlock()
	return before(ctx)
}

func (o *order) place(to string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, have := range o.to {
		if have == to {
			return i
		}
	}
	return -1
}

// TestMailOfOneTenantDelaysNoOther checks when a message is sent that is younger than 200 of another tenant.
func TestMailOfOneTenantDelaysNoOther(t *testing.T) {
	pg := pgtest.New(t)
	for i := range 200 {
		write(t, pg, acme, fmt.Sprintf("flood%d", i), code(i))
	}
	for i := range 3 {
		write(t, pg, globex, fmt.Sprintf("one%d", i), code(1000+i))
	}
	sender := &order{}
	start(t, pg, Options{Sender: sender, Tenants: known(acme, globex)})
	untilStates(t, pg, "sent=203")
	for i := range 3 {
		// Each round has one message of each tenant, and two workers may be a round apart.
		if place := sender.place(code(1000 + i).To); place > 2*i+5 {
			t.Errorf("message %d of the other tenant was sent as number %d", i, place)
		}
	}
}

func TestTurns(t *testing.T) {
	var turns turns
	all := []string{"a", "b", "c"}
	steps := []struct {
		do   func()
		want []string
	}{
		{do: func() {}, want: all},
		{do: func() { turns.had("b") }, want: []string{"a", "c"}},
		{do: func() { turns.had("a"); turns.had("gone") }, want: []string{"c"}},
		{do: func() { turns.had("c") }, want: []string{}},
		{do: turns.begin, want: all},
	}
	for i, step := range steps {
		step.do()
		if diff := cmp.Diff(step.want, turns.waiting(all)); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
}
