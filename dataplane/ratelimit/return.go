package ratelimit

import (
	"context"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Return undoes an allowed decision of Take: the try was right, and only wrong ones count. A try is taken before it is
// judged, so that tries at the same moment cannot exceed the limit. While the database does not answer, the try counts.
//
// Another pod that refused the key meanwhile refuses it until the oldest try is out of the window.
func (l *Limiter) Return(ctx context.Context, t *tenantconfig.Tenant, d Decision, key string) {
	k, shared := l.hash(t.ID, d.Name, key)
	if !d.Fallback {
		if !shared {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.Patience)
		defer cancel()
		ret := store.HitReturn{Tenant: t.ID, Key: k, Timeout: l.Patience * 4 / 5}
		if err := l.Store.ReturnHit(ctx, ret); err != nil {
			l.Log.WarnContext(ctx, "a right try counts against its limit: the database did not take it back",
				"tenant", t.ID, "limit", d.Name, "error", err)
			return
		}
	}
	l.local.giveBack(k)
}
