package tenant

import (
	"context"
	"errors"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
)

// Bounds of the count of partial events.
const (
	partialSince = 24 * time.Hour
	partialLimit = 1000
	partialEvery = 15 * time.Second
	// partialAgain is how often a Tenant's count is written again while it stays above zero.
	partialAgain = time.Minute
)

// partialStore counts partial events by tenant.
type partialStore interface {
	PartialEvents(ctx context.Context, tenants []string, since time.Time, limit int) (map[string]int, error)
}

// PartialCounter writes the number of partial events into the status of each Tenant.
type PartialCounter struct {
	Client client.Client
	Store  partialStore

	written map[string]time.Time // by Tenant
}

// NeedLeaderElection makes it run on the leader alone.
func (*PartialCounter) NeedLeaderElection() bool { return true }

// Start counts at an interval until ctx is done.
func (c *PartialCounter) Start(ctx context.Context) error {
	tick := time.NewTicker(partialEvery)
	defer tick.Stop()
	for {
		if err := c.count(ctx, time.Now()); err != nil && ctx.Err() == nil {
			log.FromContext(ctx).Error(err, "count the partial events; tried again in 15 seconds")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// count writes the counts that changed. The error of one Tenant does not keep the others waiting.
func (c *PartialCounter) count(ctx context.Context, now time.Time) error {
	var tenants v1alpha1.TenantList
	if err := c.Client.List(ctx, &tenants); err != nil || len(tenants.Items) == 0 {
		return err
	}
	ids := make([]string, len(tenants.Items))
	for i := range tenants.Items {
		ids[i] = tenants.Items[i].ID()
	}
	counts, err := c.Store.PartialEvents(ctx, ids, now.Add(-partialSince), partialLimit)
	if err != nil {
		return err
	}
	written := make(map[string]time.Time, len(ids))
	errs := []error(nil)
	for i := range tenants.Items {
		t := &tenants.Items[i]
		written[t.ID()] = c.written[t.ID()]
		if n := int32(counts[t.ID()]); c.due(t, n, now) { //nolint:gosec // at most partialLimit
			errs = append(errs, c.write(ctx, t, n))
			written[t.ID()] = now
		}
	}
	c.written = written
	return errors.Join(errs...)
}

// due reports whether a count is to be written: at once when it becomes zero or stops being zero, else at an interval.
func (c *PartialCounter) due(t *v1alpha1.Tenant, n int32, now time.Time) bool {
	var known int32
	if t.Status.PartialEvents != nil {
		known = *t.Status.PartialEvents
	}
	return known != n && ((known == 0) != (n == 0) || now.Sub(c.written[t.ID()]) >= partialAgain)
}

// write patches the count of partial events into the status, as its only owner.
func (c *PartialCounter) write(ctx context.Context, t *v1alpha1.Tenant, n int32) error {
	before := t.DeepCopy()
	t.Status.PartialEvents = &n
	writer := reconcile.Writer{Client: c.Client, Owner: reconcile.OfPartialCounter}
	_, err := writer.WriteFields(ctx, before, t)
	return err
}
