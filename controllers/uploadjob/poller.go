package uploadjob

import (
	"context"
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
)

// backlogLimit bounds the count of one tenant's backlog: more than this asks for no more pods.
const backlogLimit = 1000

// reportEvery spaces the writes of one tenant's backlog.
const reportEvery = 5 * time.Second

// poller asks PostgreSQL each second which tenants have work, and wakes the reconciler of those where that changed.
type poller struct {
	store  Store
	events chan event.TypedGenericEvent[types.NamespacedName]

	mu       sync.Mutex
	latest   map[string]store.Backlog
	states   map[string]store.UploadState // nil until they were read once
	reported map[string]time.Time
}

// NeedLeaderElection makes it run on the leader alone.
func (*poller) NeedLeaderElection() bool { return true }

// Start polls until ctx is done.
func (p *poller) Start(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for round := 0; ; round++ {
		if err := p.poll(ctx, round); err != nil && ctx.Err() == nil {
			log.FromContext(ctx).Error(err, "read the backlogs; tried again in a second")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// reapEvery and statesEvery are how often leases are reaped and upload states read, in rounds.
const (
	reapEvery   = 10
	statesEvery = 5
)

// poll reads the backlog of every tenant and wakes the controller for those that changed. Every few rounds it also
// frees expired leases.
func (p *poller) poll(ctx context.Context, round int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if round%reapEvery == 0 {
		if _, err := p.store.ReapLeases(ctx); err != nil {
			return err
		}
	}
	list, err := p.store.Backlogs(ctx, backlogLimit)
	if err != nil {
		return err
	}
	if err := p.wake(ctx, p.take(list)); err != nil || round%statesEvery != 0 {
		return err
	}
	states, err := p.store.UploadStates(ctx)
	if err != nil {
		return err
	}
	return p.wake(ctx, p.takeStates(states))
}

// wake has the tenants looked at.
func (p *poller) wake(ctx context.Context, ids []string) error {
	for _, id := range ids {
		namespace, name := v1alpha1.SplitTenantID(id)
		select {
		case p.events <- event.TypedGenericEvent[types.NamespacedName]{Object: types.NamespacedName{
			Namespace: namespace,
			Name:      name,
		}}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// take keeps the new backlogs and returns the tenants to look at: those with work that can be claimed, whose Job may have
// ended since, those that may have to give up pods for others, and those whose numbers changed.
func (p *poller) take(list []store.Backlog) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := make(map[string]store.Backlog, len(list))
	var wake []string
	for _, b := range list {
		next[b.Tenant] = b
		if old := p.latest[b.Tenant]; b.Ready > 0 || b.Leased > 0 || old.Leased > 0 || old.Ready > 0 {
			wake = append(wake, b.Tenant)
		}
	}
	for id := range p.latest {
		if _, still := next[id]; !still {
			wake = append(wake, id)
		}
	}
	p.latest = next
	maps.DeleteFunc(p.reported, func(_ string, at time.Time) bool { return time.Since(at) >= reportEvery })
	return wake
}

// takeStates keeps the upload states and returns their tenants: time alone makes a recording overdue.
func (p *poller) takeStates(list []store.UploadState) (wake []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.states = make(map[string]store.UploadState, len(list))
	for _, s := range list {
		p.states[s.Tenant] = s
		wake = append(wake, s.Tenant)
	}
	return wake
}

// uploads returns what is known of a tenant's uploads, and whether any recording is unfinished. Nothing is known before
// the first answer of the database.
func (p *poller) uploads(id string) (s store.UploadState, unfinished, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, unfinished = p.latest[id]
	return p.states[id], unfinished, p.states != nil
}

// backlog returns the tenant's backlog as of the last round.
func (p *poller) backlog(id string) store.Backlog {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.latest[id]
}

// mayReport returns 0, at most every reportEvery for a tenant, and else how long it is until then.
func (p *poller) mayReport(id string, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if wait := p.reported[id].Add(reportEvery).Sub(now); wait > 0 {
		return wait
	}
	if p.reported == nil {
		p.reported = map[string]time.Time{}
	}
	p.reported[id] = now
	return 0
}
