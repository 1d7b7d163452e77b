package stream

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/admission"
)

// entrance returns a place of one of the gates.
type entrance func(*Handler, admission.Holder) (*admission.Place, error)

// p99 returns the 99th percentile of the virtual time that a quiet tenant's handshakes take. There is one every 50 ms,
// and its agent answers within 20 ms. A client that finds no place tries again after the time that it is asked to wait.
// The noisy tenant has this many clients, and an agent that does not answer.
func p99(t *testing.T, noisy int, enter entrance) (quiet time.Duration) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		handler := New(Options{Metrics: prometheus.NewRegistry()})
		handshake := func(tenantID string, agent time.Duration) {
			place, err := enter(handler, admission.Tenant(tenantID))
			for err != nil {
				time.Sleep(retryAfter)
				place, err = enter(handler, admission.Tenant(tenantID))
			}
			time.Sleep(agent)
			place.Leave()
		}
		end := time.Now().Add(time.Minute)
		var all sync.WaitGroup
		for range noisy {
			all.Go(func() {
				for time.Now().Before(end) {
					handshake("noisy", handler.o.DialWithin)
				}
			})
		}
		var mu sync.Mutex
		var took []time.Duration
		for time.Now().Before(end) {
			time.Sleep(50 * time.Millisecond)
			all.Go(func() {
				start := time.Now()
				handshake("quiet", 20*time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				took = append(took, time.Since(start))
			})
		}
		all.Wait()
		slices.Sort(took)
		quiet = took[len(took)*99/100]
	})
	return quiet
}

// TestNoisyTenantDelaysNoHandshake compares the p99 of a tenant's handshakes, while another tenant wants all places,
// with their p99 alone; the same for second connections to agents, which wait for a place.
func TestNoisyTenantDelaysNoHandshake(t *testing.T) {
	for name, enter := range map[string]entrance{
		"handshakes": func(h *Handler, tenant admission.Holder) (*admission.Place, error) {
			return h.places.Take(nil, tenant)
		},
		"second connections": func(h *Handler, tenant admission.Holder) (*admission.Place, error) {
			return h.redials.Wait(context.Background(), tenant)
		},
	} {
		if alone, noisy := p99(t, 0, enter), p99(t, 600, enter); noisy*10 > alone*12 {
			t.Errorf("%s: p99 is %s with a noisy tenant, %s alone", name, noisy, alone)
		}
	}
}
