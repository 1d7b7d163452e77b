package tenant

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/caly-dev/caly/api/v1alpha1"
)

// partialCounts is a partialStore with fixed counts.
type partialCounts struct {
	counts map[string]int
	err    error
}

// PartialEvents returns the counts.
func (p partialCounts) PartialEvents(context.Context, []string, time.Time, int) (map[string]int, error) {
	return p.counts, p.err
}

// TestPartialCounter checks that a count is written at once when partial events begin or end, and else at an interval.
func TestPartialCounter(t *testing.T) {
	rig := newSubject(t)
	tenant := rig.newTenant("partial")
	rig.Create(t, tenant)
	known := func() (n int32) {
		rig.until(t, tenant, func(*v1alpha1.Tenant) error { return nil })
		if tenant.Status.PartialEvents == nil {
			return -1
		}
		return *tenant.Status.PartialEvents
	}
	counter := &PartialCounter{Client: rig.Client}
	begin := time.Now()
	for i, step := range []struct {
		counted int
		after   time.Duration
		want    int32
	}{
		{0, 0, -1}, {3, 15 * time.Second, 3}, {5, 30 * time.Second, 3}, {5, 75 * time.Second, 5},
		{0, 76 * time.Second, 0}, {1, 77 * time.Second, 1},
	} {
		counter.Store = partialCounts{counts: map[string]int{tenant.ID(): step.counted}}
		if err := counter.count(t.Context(), begin.Add(step.after)); err != nil {
			t.Fatal(err)
		}
		if got := known(); got != step.want {
			t.Errorf("step %d: the status has %d partial events, want %d", i, got, step.want)
		}
	}
	broken := errors.New("the database is down")
	counter.Store = partialCounts{err: broken}
	if err := counter.count(t.Context(), begin); !errors.Is(err, broken) || known() != 1 {
		t.Errorf("after an error: %v", err)
	}
}
