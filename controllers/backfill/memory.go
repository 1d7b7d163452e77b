package backfill

import (
	"sync"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
)

// defaultLookback is the API server's, for objects that were made without it.
const defaultLookback = 24 * time.Hour

// catchUp is when a run goes on that ended at its bounds.
const catchUp = time.Minute

// remembered is what is known of one Tenant beyond its status, which the cache may show as it was before the last run.
// One reconcile at a time has it.
type remembered struct {
	uid    types.UID
	status v1alpha1.BackfillStatus // as it is after the last run
	// condition after the last run; nil before the first one.
	condition *metav1.Condition
	// unwritten reports whether status and condition still have to be written.
	unwritten bool
	// refused is a digest of the settings and credentials that Exotel, or Caly itself, refused; zero while they are not known to be bad.
	refused [32]byte
	// suspect is how far the last run got among the suspects.
	suspect store.Suspect
}

// due is when the next run of a Tenant with this interval is.
func (m *remembered) due(t *v1alpha1.Tenant, interval time.Duration) time.Time {
	backfillStatus := m.status
	failed := m.condition != nil && m.condition.Status == metav1.ConditionFalse
	if backfillStatus.LastRunTime == nil || backfillStatus.NextRunTime == nil ||
		(failed && m.condition.ObservedGeneration != t.Generation) {
		return time.Time{}
	}
	// The interval may have been shortened since.
	if soon := backfillStatus.LastRunTime.Add(interval); soon.Before(backfillStatus.NextRunTime.Time) {
		return soon
	}
	return backfillStatus.NextRunTime.Time
}

// interval returns the time between two runs of a Tenant.
func (r *Reconciler) interval(t *v1alpha1.Tenant) time.Duration {
	return t.Spec.Exotel.Backfill.EffectiveInterval(r.MinInterval)
}

// lookback returns how far back a run looks, by the spec or by default.
func lookback(t *v1alpha1.Tenant) time.Duration {
	if duration := t.Spec.Exotel.Backfill.Lookback; duration != nil && duration.Duration > 0 {
		return duration.Duration
	}
	return defaultLookback
}

// memory holds one entry a Tenant.
type memory struct {
	mu   sync.Mutex
	byID map[string]*remembered
}

// of returns what is remembered of a Tenant; what its status says where that is nothing.
func (m *memory) of(t *v1alpha1.Tenant) *remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.byID[t.ID()]; known != nil && known.uid == t.UID {
		return known
	}
	fresh := &remembered{uid: t.UID}
	if backfillStatus := t.Status.Backfill; backfillStatus != nil {
		fresh.status = *backfillStatus.DeepCopy()
	}
	if condition := apimeta.FindStatusCondition(
		t.Status.Conditions, v1alpha1.ConditionBackfillSucceeded,
	); condition != nil {
		fresh.condition = condition.DeepCopy()
	}
	if m.byID == nil {
		m.byID = map[string]*remembered{}
	}
	m.byID[t.ID()] = fresh
	return fresh
}

// forget drops what is remembered of a deleted Tenant.
func (m *memory) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.byID, id)
}
