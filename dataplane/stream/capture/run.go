package capture

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
)

// load finds what a process before this one left on the disk.
func (c *Captures) load() error {
	if err := os.MkdirAll(c.o.Dir, 0o700); err != nil {
		return fmt.Errorf("the spool of captures: %w; --capture-dir must name a directory that this pod may write", err)
	}
	entries, err := os.ReadDir(c.o.Dir)
	if err != nil {
		return fmt.Errorf("the spool of captures: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), spoolName("")) {
			continue
		}
		dir := filepath.Join(c.o.Dir, e.Name())
		t, err := c.restore(dir)
		if err != nil {
			c.o.Log.Warn("what is left of a capture cannot be read, and is removed", "directory", dir, "error", err)
			_ = os.RemoveAll(dir)
			continue
		}
		c.waiting[t.m.ref()] = t
	}
	return nil
}

// restore reads one. It holds its place in the spool, whether there is room or not.
func (c *Captures) restore(dir string) (*tape, error) {
	data, err := os.ReadFile(filepath.Join(dir, metaName)) //nolint:gosec // of our own directory
	if err != nil {
		return nil, err
	}
	t := &tape{c: c}
	if err := json.Unmarshal(data, &t.m); err != nil {
		return nil, err
	}
	if spoolName(t.m.ID) != filepath.Base(dir) || t.m.Tenant == "" {
		return nil, fmt.Errorf("it says that it is capture %q of tenant %q", t.m.ID, t.m.Tenant)
	}
	t.spool = &spool{dir: dir, tenant: t.m.Tenant, budget: c.budget}
	var bytes int64
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil && strings.HasSuffix(f.Name(), segmentExt) {
			bytes += info.Size()
		}
	}
	t.spool.charged = max(bytes, leastCharge)
	c.budget.occupy(t.m.Tenant, t.spool.charged)
	t.opened.Store(true)
	t.rowed.Store(t.m.Rowed)
	t.restoreSums()
	return t, nil
}

// Run keeps the rows alive, tries again what did not reach its bucket, and ends captures of pods that are gone, until ctx is over. Then it
// lets what is under way end, for StopWithin, and leaves the rest to other pods. Captures of streams must have ended before.
func (c *Captures) Run(ctx context.Context) error {
	heartbeat := time.NewTicker(c.o.HeartbeatEvery)
	sweep := time.NewTicker(c.o.SweepEvery)
	defer heartbeat.Stop()
	defer sweep.Stop()
	var sweeping chan struct{} // closed when the sweep has ended: a bucket that hangs must not keep the heartbeat
	start := func() {
		select {
		case <-sweeping:
		default:
			if sweeping != nil {
				return
			}
		}
		done := make(chan struct{})
		sweeping = done
		c.work.Go(func() { defer close(done); c.sweep(ctx) })
	}
	c.beat(ctx)
	start()
	for {
		select {
		case <-ctx.Done():
			c.stop()
			return nil
		case <-heartbeat.C:
			c.beat(ctx)
		case <-sweep.C:
			start()
		}
	}
}

// stop lets what is under way end, and tells other pods of the rest.
func (c *Captures) stop() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	done := make(chan struct{})
	go func() { c.work.Wait(); close(done) }()
	timer := time.NewTimer(c.o.StopWithin)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
	c.cancel()
	<-done
	c.transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), refuseWithin)
	defer cancel()
	refs := c.refs()
	if err := c.o.Store.ReleaseCaptures(ctx, c.o.Pod, refs); err != nil && len(refs) > 0 {
		c.o.Log.Warn("captures could not be left to other pods at once: they find them later",
			"captures", len(refs),
			"error", err,
		)
	}
}

// refs of what has a row.
func (c *Captures) refs() (refs []store.CaptureRef) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.live {
		if s.tape.rowed.Load() {
			refs = append(refs, s.tape.m.ref())
		}
	}
	for _, tapes := range []map[store.CaptureRef]*tape{c.waiting, c.busy} {
		for ref, t := range tapes {
			if t.rowed.Load() {
				refs = append(refs, ref)
			}
		}
	}
	return refs
}

// beat says that the captures are in good hands. One that is another pod's ends.
func (c *Captures) beat(parent context.Context) {
	c.renew()
	ctx, cancel := context.WithTimeout(parent, c.o.HeartbeatEvery)
	defer cancel()
	refs := c.refs()
	held, err := c.o.Store.HeartbeatCaptures(ctx, c.o.Pod, refs)
	if err != nil {
		c.answered(false)
		if parent.Err() == nil {
			c.o.Log.Warn(
				"the database did not take the heartbeat of this pod's captures: they go on, and it is tried again",
				"error",
				err,
				"captures",
				len(refs),
			)
		}
		return
	}
	asked := make(map[store.CaptureRef]bool, len(refs))
	for _, ref := range refs {
		asked[ref] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.live {
		if ref := s.tape.m.ref(); asked[ref] && !held[ref] && !closed(s.ended) {
			s.lose()
		}
	}
}

// hold, letGo and wait keep account of the captures whose calls have ended.
func (c *Captures) hold(t *tape) { c.move(t, true, false) }

// letGo marks the capture as no longer this pod's work.
func (c *Captures) letGo(t *tape) { c.move(t, false, false) }

// wait puts the capture in line to be finished.
func (c *Captures) wait(t *tape) { c.move(t, false, true) }

// move puts the capture into at most one of the sets: busy or waiting.
func (c *Captures) move(t *tape, busy, waiting bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ref := t.m.ref()
	delete(c.busy, ref)
	delete(c.waiting, ref)
	if busy {
		c.busy[ref] = t
	}
	if waiting {
		c.waiting[ref] = t
	}
}

// claimed at once.
const claimed = 20

// bringers is how many tenants' buckets are asked at once after calls have ended. One namespace has a quarter of them.
const bringers = 16

// sweep tries again what waits on this disk, and ends captures of pods that are gone. It does not wait for the buckets:
// one that hangs delays its own tenant.
func (c *Captures) sweep(ctx context.Context) {
	c.awaitTenants(ctx)
	tapes := c.due()
	rows := c.claim(ctx)
	for _, tenant := range slices.Sorted(maps.Keys(tapes)) {
		c.attend(ctx, tenant, tapes[tenant], rows[tenant])
		delete(rows, tenant)
	}
	for _, tenant := range slices.Sorted(maps.Keys(rows)) {
		c.attend(ctx, tenant, nil, rows[tenant])
	}
}

// attend brings one tenant's captures to its bucket, unless that is being done or its namespace has its share.
func (c *Captures) attend(ctx context.Context, tenant string, tapes []*tape, rows []store.Capture) {
	namespace, _ := v1alpha1.SplitTenantID(tenant)
	leave, ok := c.gate.TryAcquire(namespace)
	if !ok {
		return
	}
	c.setAttended(tenant, true)
	c.work.Go(func() {
		defer leave()
		defer c.setAttended(tenant, false)
		if c.bringAll(ctx, tapes) {
			c.rescueAll(ctx, rows)
		}
	})
}

// setAttended records whether this pod looks after the tenant's orphaned captures.
func (c *Captures) setAttended(tenant string, yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if yes {
		c.attends[tenant] = true
	} else {
		delete(c.attends, tenant)
	}
}

// bringAll reports whether the tenant's bucket answers. If it does not, one capture is tried, and those are given up
// that were tried for long.
func (c *Captures) bringAll(ctx context.Context, tapes []*tape) (ok bool) {
	ok = true
	for _, t := range tapes {
		if ctx.Err() != nil {
			return false
		}
		if !ok && time.Since(t.m.Ended) < c.o.GiveUpAfter {
			continue
		}
		done, err := t.bring(ctx)
		if done {
			c.letGo(t)
			continue
		}
		ok = false
		if ctx.Err() == nil {
			c.o.Log.Warn("a capture did not reach its bucket yet; it is tried again",
				"tenant", t.m.Tenant,
				"session", t.m.Session,
				"call", t.m.CallSID,
				"error", objectstore.Detail(err),
				"after", c.o.SweepEvery,
			)
		}
	}
	return ok
}

// lookForTenants is how often a sweep looks whether the tenants are known.
const lookForTenants = 100 * time.Millisecond

// awaitTenants returns when this pod knows all tenants, at the latest after SweepEvery.
func (c *Captures) awaitTenants(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.o.SweepEvery)
	defer cancel()
	tick := time.NewTicker(lookForTenants)
	defer tick.Stop()
	for !c.o.Tenants().Complete() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// due returns the captures that wait, by tenant, of tenants that are not attended to. A tenant that this pod does not
// know yet may exist: its captures go on waiting.
func (c *Captures) due() map[string][]*tape {
	tenants := c.o.Tenants()
	due := map[string][]*tape{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.waiting {
		_, known := tenants.Tenant(t.m.Tenant)
		if (known || tenants.Complete()) && !c.attends[t.m.Tenant] {
			due[t.m.Tenant] = append(due[t.m.Tenant], t)
		}
	}
	return due
}

// claim takes captures of pods that are gone, by tenant. During a database outage no pod can send a heartbeat: after
// it, for as long, they have the time to do so.
func (c *Captures) claim(ctx context.Context) map[string][]store.Capture {
	limit := claimed
	if c.answered(true) < c.o.Unseen {
		limit = 0
	}
	rows, err := c.o.Store.ClaimCaptures(ctx, c.able(), c.o.Pod, c.o.Unseen, limit)
	if err != nil {
		c.answered(false)
		if ctx.Err() == nil {
			c.o.Log.Warn("captures of pods that are gone cannot be looked for; tried again",
				"error", err,
				"after", c.o.SweepEvery,
			)
		}
		return nil
	}
	byTenant := map[string][]store.Capture{}
	for _, row := range rows {
		byTenant[row.Tenant] = append(byTenant[row.Tenant], row)
	}
	return byTenant
}

// rescueAll ends a tenant's captures of pods that are gone.
func (c *Captures) rescueAll(ctx context.Context, rows []store.Capture) {
	for _, row := range rows {
		if ctx.Err() != nil {
			return
		}
		if c.has(row.CaptureRef) {
			continue // it is this pod's, whose heartbeats were late
		}
		err := c.rescue(ctx, row)
		if err == nil || c.abandoned(ctx, row, err) {
			continue
		}
		c.o.Log.Warn("the capture of a pod that is gone could not be ended yet; it is tried again",
			"tenant", row.Tenant,
			"session", row.Session,
			"call", row.CallSID,
			"error", objectstore.Detail(err),
			"after", c.o.Unseen,
		)
		return // nothing is heard of the others, so they are claimed again later
	}
}

// answered notes whether the database did, and returns for how long it has.
func (c *Captures) answered(yes bool) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !yes:
		c.attended = time.Time{}
		return 0
	case c.attended.IsZero():
		c.attended = time.Now()
	}
	return time.Since(c.attended)
}

// has tells whether the capture is on this pod's disk.
func (c *Captures) has(ref store.CaptureRef) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.live {
		if s.tape.m.ref() == ref {
			return true
		}
	}
	return c.waiting[ref] != nil || c.busy[ref] != nil
}

// rescueWithin is how long after its begin the capture of a pod that is gone is tried: longer than any call.
const rescueWithin = 48 * time.Hour

// abandoned fails a capture of a pod that is gone once it was tried for long.
func (c *Captures) abandoned(ctx context.Context, row store.Capture, cause error) bool {
	if time.Since(row.CreatedAt) < rescueWithin {
		return false
	}
	err := c.o.Store.FinishCapture(ctx, row.CaptureRef, c.o.Pod, store.CaptureEnd{
		Failed: true,
		Code:   reason.StorageFailed,
		Message: fmt.Sprintf(
			"its pod was gone, and bucket %q could not be asked for what it has of the capture: %v", row.Bucket, cause,
		),
	})
	if err == nil {
		c.m.ended(outcomeFailed)
	}
	return err == nil
}

// able returns the tenants whose buckets this pod knows, without those that it attends to.
func (c *Captures) able() (ids []string) {
	tenants := c.o.Tenants()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range tenants.IDs() {
		if t, ok := tenants.Tenant(id); ok && t.Storage != nil && !c.attends[id] {
			ids = append(ids, id)
		}
	}
	return ids
}
