package tenant

import (
	"cmp"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// defaultMaxParallelism is the API server's, for objects made before.
const defaultMaxParallelism = 4

// Ceilings are the platform's bounds on limits that a Tenant sets. 0 is unlimited.
type Ceilings struct {
	MaxParallelism      int32
	MaxStreams          int32
	MinBackfillInterval time.Duration
}

// limit keeps the limits of the spec within the platform's bounds, and shows in the status what holds.
func (r *Reconciler) limit(s *scope, streams *tenantconfig.Audio) {
	pods := cmp.Or(s.tenant.Spec.Recordings.MaxParallelism, defaultMaxParallelism)
	limits := &v1alpha1.Limits{MaxParallelism: lower(pods, r.Ceilings.MaxParallelism)}
	if streams != nil {
		limits.MaxStreams = lower(int32(streams.MaxStreams), r.Ceilings.MaxStreams) //nolint:gosec // at most 100,000
		streams.MaxStreams = int(limits.MaxStreams)
	}
	if backfill := s.tenant.Spec.Exotel.Backfill; backfill != nil {
		limits.BackfillInterval = &metav1.Duration{Duration: backfill.EffectiveInterval(r.Ceilings.MinBackfillInterval)}
	}
	s.tenant.Status.Limits = limits
}

// lower returns the smaller one of a limit and its ceiling.
func lower(limit, ceiling int32) int32 {
	if ceiling > 0 {
		return min(limit, ceiling)
	}
	return limit
}
