package registry

import (
	"context"
	"slices"
	"time"

	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
)

// Run keeps the rows alive and looks for streams that must end, until ctx is over. Then it cuts off what is left, waits for that,
// and ends the rows that are still open: within EndWithin.
func (r *Registry) Run(ctx context.Context) error {
	heartbeat := time.NewTicker(r.o.HeartbeatEvery)
	look := time.NewTicker(r.o.LookEvery)
	defer heartbeat.Stop()
	defer look.Stop()
	inherited := true // there may be rows of a container before this one
	for {
		select {
		case <-ctx.Done():
			r.finish()
			return nil
		case <-heartbeat.C:
			r.heartbeat(ctx)
		case <-look.C:
			inherited = inherited && !r.endInherited(ctx)
			r.cutSuspended()
			r.cutOld()
			r.cutClosed(ctx)
			r.beatStarted(ctx)
		}
	}
}

// heartbeat tells the database of all streams that live, and writes the ends that wait. One whose row has ended ends.
func (r *Registry) heartbeat(parent context.Context) {
	ctx, cancel := context.WithTimeout(parent, r.o.HeartbeatEvery)
	defer cancel()
	err := r.writeKept(ctx)
	if err == nil {
		err = r.beat(ctx, (*Live).admitted)
	}
	if err != nil && parent.Err() == nil {
		r.m.failures.Inc()
		r.o.Log.Warn("the database did not take the heartbeat of this pod's streams: they go on, and it is tried again",
			"error", err,
			"streams", r.Live(),
			"after", r.o.HeartbeatEvery,
		)
	}
}

// maxBeats of one statement.
const maxBeats = 5000

// beat tells the database of the streams that are chosen, which must have a row.
func (r *Registry) beat(ctx context.Context, chosen func(*Live) bool) error {
	streams := slices.DeleteFunc(r.all(), func(l *Live) bool { return !chosen(l) })
	for some := range slices.Chunk(streams, maxBeats) {
		beats := make([]store.StreamBeat, len(some))
		for i, l := range some {
			beats[i] = l.beat()
		}
		alive, err := r.o.Store.HeartbeatStreams(ctx, beats)
		if err != nil {
			return err
		}
		for i, b := range beats {
			closing, known := alive[b.StreamRef]
			switch {
			case !known:
				r.cut(b.StreamRef, cutOrphaned)
			case closing:
				r.cut(b.StreamRef, cutClosed)
			}
			some[i].tell(b)
		}
	}
	return nil
}

// endInherited ends the rows that a container before this one left: they count against the limits of their tenants. It
// reports whether all are ended, which needs all tenants.
func (r *Registry) endInherited(ctx context.Context) (done bool) {
	ctx, cancel := context.WithTimeout(ctx, r.o.HeartbeatEvery)
	defer cancel()
	complete := r.o.Tenants().Complete()
	rows, err := r.endUnknown(ctx)
	if rows > 0 {
		r.o.Log.Info("ended the sessions of this pod's container before", "sessions", rows)
	}
	return err == nil && complete // the heartbeat reports that the database is unreachable
}

// beatStarted has the rows of streams that have started since the last look know their calls: people look for them by
// those, and of a pod that is gone before its next heartbeat nobody else could tell.
func (r *Registry) beatStarted(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.o.LookEvery)
	defer cancel()
	_ = r.beat(ctx, (*Live).untold) // the heartbeat tells that the database is away
}

func (r *Registry) cut(ref store.StreamRef, c *bridge.Cut) {
	r.mu.Lock()
	live := r.streams[ref]
	r.mu.Unlock()
	if live != nil && live.stop(c) {
		r.m.cuts[c.Reason].Inc()
		r.o.Log.Info("a stream is cut off",
			"tenant", ref.Tenant,
			"session", ref.ID,
			"call", live.CallSID(),
			"reason", string(c.Reason),
		)
	}
}

// cutSuspended ends the streams of tenants that are suspended, deleted or replaced under their name.
func (r *Registry) cutSuspended() {
	tenants := r.o.Tenants()
	for _, l := range r.all() {
		if t, ok := tenants.Tenant(l.ref.Tenant); !ok || t.Suspended || t.UID != l.uid {
			r.cut(l.ref, cutSuspended)
		}
	}
}

// cutOld ends the streams that have lived for longer than any call does: their peers have forgotten them.
func (r *Registry) cutOld() {
	for _, l := range r.all() {
		if time.Since(l.began) > r.o.MaxAge {
			r.cut(l.ref, cutOld)
		}
	}
}

// cutClosed ends the streams that somebody wants closed. The heartbeat would find them too, but later.
func (r *Registry) cutClosed(ctx context.Context) {
	tenants := r.tenants()
	if len(tenants) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, r.o.LookEvery)
	defer cancel()
	list, err := r.o.Store.StreamsToClose(ctx, tenants, r.o.Pod)
	if err != nil {
		return // the heartbeat tells that the database is away
	}
	for _, ref := range list {
		r.cut(ref, cutClosed)
	}
}

// tenants of the streams.
func (r *Registry) tenants() []string {
	seen := map[string]bool{}
	var list []string
	for _, l := range r.all() {
		if !seen[l.ref.Tenant] {
			seen[l.ref.Tenant] = true
			list = append(list, l.ref.Tenant)
		}
	}
	return list
}

func (r *Registry) keptEnds() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.kept)
}

// Drain lets no stream in any more, gives those that live the grace, cuts off what is left, and waits until they have ended: for at
// most EndWithin more.
func (r *Registry) Drain(grace time.Duration) {
	r.mu.Lock()
	r.draining = true
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	r.wait(ctx)
	r.cutAll()
	ctx, cancel = context.WithTimeout(context.Background(), r.o.EndWithin)
	defer cancel()
	r.wait(ctx)
}

func (r *Registry) cutAll() {
	for _, l := range r.all() {
		r.cut(l.ref, cutDrained)
	}
}

// wait until there is no stream.
func (r *Registry) wait(ctx context.Context) {
	for {
		r.mu.Lock()
		n := len(r.streams)
		changed := r.changed
		r.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// finish ends what is left: by its own End for most of the time, then for it.
func (r *Registry) finish() {
	r.mu.Lock()
	r.draining = true
	r.mu.Unlock()
	r.cutAll()
	ctx, cancel := context.WithTimeout(context.Background(), r.o.EndWithin*3/5)
	r.wait(ctx)
	cancel()
	for _, l := range r.all() {
		if end, first := l.finish(nil); first {
			r.keep(end)
			r.forget(l)
		}
	}
	ctx, cancel = context.WithTimeout(context.Background(), r.o.EndWithin*2/5)
	defer cancel()
	if err := r.writeKept(ctx); err != nil {
		r.o.Log.Warn("the ends of streams could not be written: another pod will end their sessions as orphans",
			"error", err,
			"sessions", r.keptEnds(),
		)
	}
}

// maxPodRows bounds what one reconciliation reads.
const maxPodRows = 20_000

// Reconcile compares the rows of this pod with its streams: rows without one are ended, such as those of a container before this one,
// and streams without a row are cut off. It returns how many.
func (r *Registry) Reconcile(ctx context.Context) (rows, streams int, err error) {
	rows, err = r.endUnknown(ctx)
	if err != nil {
		return rows, 0, err
	}
	before := r.orphans()
	err = r.beat(ctx, (*Live).admitted)
	return rows, r.orphans() - before, err
}

// endUnknown ends the rows of this pod that have no stream here, and returns their number.
func (r *Registry) endUnknown(ctx context.Context) (rows int, err error) {
	// The streams' own rows first: what is listed then and has no stream has none, or has just ended.
	known, err := r.o.Store.PodStreams(ctx, r.o.Tenants().IDs(), r.o.Pod, maxPodRows)
	if err != nil {
		return 0, err
	}
	return r.endRows(ctx, r.without(known))
}

// without returns those that no stream has, and no end that waits.
func (r *Registry) without(refs []store.StreamRef) []store.StreamEnd {
	r.mu.Lock()
	defer r.mu.Unlock()
	waits := make(map[store.StreamRef]bool, len(r.kept))
	for _, e := range r.kept {
		waits[e.StreamRef] = true
	}
	var dead []store.StreamEnd
	for _, ref := range refs {
		if r.streams[ref] == nil && !waits[ref] {
			dead = append(dead, store.StreamEnd{StreamRef: ref, Reason: reason.StreamOrphaned})
		}
	}
	return dead
}

func (r *Registry) endRows(ctx context.Context, dead []store.StreamEnd) (total int, err error) {
	for len(dead) > 0 {
		n := min(len(dead), maxEnds)
		ended, err := r.o.Store.EndStreams(ctx, dead[:n])
		if err != nil {
			return total, err
		}
		total += int(ended)
		dead = dead[n:]
	}
	return total, nil
}

// orphans are the streams that were cut off for want of a row, and have not ended yet.
func (r *Registry) orphans() (n int) {
	for _, l := range r.all() {
		l.mu.Lock()
		if l.cut == bridge.Orphaned {
			n++
		}
		l.mu.Unlock()
	}
	return n
}
