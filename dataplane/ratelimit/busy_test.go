package ratelimit

import (
	"context"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// busyFor answers one tenant that its own requests hold its share of the connections.
type busyFor struct {
	Store
	tenant string
}

func (b busyFor) TakeHits(ctx context.Context, t store.HitTake) (store.HitsTaken, error) {
	if t.Tenant == b.tenant {
		return store.HitsTaken{}, store.ErrTenantBusy
	}
	return b.Store.TakeHits(ctx, t)
}

// TestBusyTenantLeavesTheLimitsOfOthers decides for a busy tenant in the pod, and for all other tenants in the
// database.
func TestBusyTenantLeavesTheLimitsOfOthers(t *testing.T) {
	pod := newPod(busyFor{newFake(), "globex/sales"}, time.Second, nil)
	noisy := &tenantconfig.Tenant{ID: "globex/sales"}
	quiet := &tenantconfig.Tenant{ID: "acme/support"}
	if decision := pod.Take(t.Context(), noisy, API, "user"); !decision.Fallback || !decision.Allowed {
		t.Errorf("the busy tenant: %+v", decision)
	}
	if decision := pod.Take(t.Context(), quiet, API, "user"); decision.Fallback || !decision.Allowed {
		t.Errorf("the other tenant: %+v", decision)
	}
}
