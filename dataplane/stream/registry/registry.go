package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Store keeps the rows. *store.Dataplane is one.
type Store interface {
	AdmitStream(ctx context.Context, tenant string, n store.NewStream, limit int) error
	HeartbeatStreams(ctx context.Context, beats []store.StreamBeat) (map[store.StreamRef]bool, error)
	StreamsToClose(ctx context.Context, tenants []string, pod string) ([]store.StreamRef, error)
	EndStreams(ctx context.Context, ends []store.StreamEnd) (int64, error)
	PodStreams(ctx context.Context, tenants []string, pod string, limit int) ([]store.StreamRef, error)
}

// Options of a Registry. Zero durations and numbers are the defaults.
type Options struct {
	Store Store
	// Pod is a name that no other living pod has.
	Pod string
	// Tenants are those that the pod knows now.
	Tenants func() *tenantconfig.Snapshot
	// MaxStreams of this pod; 1000 by default.
	MaxStreams int
	// MaxPerNamespace bounds the streams that the tenants of one namespace have in this pod; three quarters of
	// MaxStreams by default.
	MaxPerNamespace int
	// HeartbeatEvery is how often rows are told that they live; 10 s by default. The janitors give rows 45 s.
	HeartbeatEvery time.Duration
	// LookEvery is how often the registry looks for tenants that were suspended and streams that somebody wants closed; 1 s by default.
	LookEvery time.Duration
	// MaxAge is how long a stream may live; 65 min by default: Exotel ends its own after 60.
	MaxAge time.Duration
	// EndWithin bounds the writing of an end, and what Run does after its context is over; 5 s by default.
	EndWithin time.Duration
	// MaxKept bounds the ends that wait for the database; 10,000 by default. What is over that is ended by a janitor as an orphan.
	MaxKept int
	Log     *slog.Logger
	// Registerer of metrics; nil registers none.
	Registerer prometheus.Registerer
}

func (o *Options) setDefaults() {
	for _, d := range []struct {
		option *time.Duration
		value  time.Duration
	}{{&o.HeartbeatEvery, 10 * time.Second}, {&o.LookEvery, time.Second}, {&o.MaxAge, 65 * time.Minute}, {&o.EndWithin, 5 * time.Second}} {
		if *d.option <= 0 {
			*d.option = d.value
		}
	}
	if o.MaxStreams <= 0 {
		o.MaxStreams = 1000
	}
	if o.MaxPerNamespace <= 0 {
		o.MaxPerNamespace = o.MaxStreams - o.MaxStreams/4
	}
	if o.MaxKept <= 0 {
		o.MaxKept = 10_000
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Registry is the streams of this pod.
type Registry struct {
	o Options
	m *metrics

	mu       sync.Mutex
	streams  map[store.StreamRef]*Live
	used     map[string]int // streams by namespace
	draining bool
	kept     []store.StreamEnd // the database has not taken them yet
	changed  chan struct{}     // closed and replaced whenever a stream ends
}

// New makes a registry. Run keeps it.
func New(o Options) *Registry {
	o.setDefaults()
	registry := &Registry{
		o:       o,
		streams: map[store.StreamRef]*Live{},
		used:    map[string]int{},
		changed: make(chan struct{}),
	}
	registry.m = newMetrics(o.Registerer, registry)
	return registry
}

// Live is the number of streams.
func (r *Registry) Live() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.streams)
}

// Admit accepts a stream of a tenant that may have at most limit streams over all pods. The caller must end the
// returned Live.
func (r *Registry) Admit(ctx context.Context, t *tenantconfig.Tenant, limit int, s Stream) (*Live, error) {
	live, err := r.admit(ctx, t, limit, s)
	r.m.admitted(err)
	return live, err
}

func (r *Registry) admit(ctx context.Context, t *tenantconfig.Tenant, limit int, s Stream) (*Live, error) {
	live := &Live{
		registry: r,
		ref:      store.StreamRef{Tenant: t.ID, ID: store.NewID()},
		uid:      t.UID,
		began:    time.Now(),
		callSID:  store.BoundedSID(s.CallSID),
	}
	live.ctx, live.cancel = context.WithCancelCause(context.Background())
	// It is known before its row is there, so that nobody takes the row for one without a stream.
	if err := r.enter(live); err != nil {
		live.cancel(err)
		return nil, err
	}
	row := store.NewStream{
		ID:      live.ref.ID,
		CallSID: live.callSID,
		Pod:     r.o.Pod,
		Agent:   s.Agent,
		Address: s.Address,
		TokenID: s.TokenID,
	}
	if s.Captured {
		row.CaptureID = recording.CaptureID(live.ref.ID)
	}
	err := r.o.Store.AdmitStream(ctx, t.ID, row, limit)
	if err == nil {
		live.mu.Lock()
		live.row = true
		live.mu.Unlock()
		return live, nil
	}
	end, _ := live.finish(nil)
	switch {
	case errors.Is(err, store.ErrStreamLimit):
		err = ErrTenantLimit
	case errors.Is(err, store.ErrStreamTokenUsed):
		err = ErrTokenUsed
	default:
		r.keep(end) // perhaps the row is there, and only the answer was lost
		err = fmt.Errorf("begin the stream's session: %w", err)
	}
	r.forget(live)
	return nil, err
}

// enter takes a place.
func (r *Registry) enter(l *Live) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.draining:
		return ErrDraining
	case len(r.streams) >= r.o.MaxStreams, r.used[l.namespace()] >= r.o.MaxPerNamespace:
		return ErrPodLimit
	}
	r.streams[l.ref] = l
	r.used[l.namespace()]++
	return nil
}

func (r *Registry) forget(l *Live) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.streams[l.ref] == l {
		delete(r.streams, l.ref)
		if r.used[l.namespace()]--; r.used[l.namespace()] <= 0 {
			delete(r.used, l.namespace())
		}
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// busiest returns the number of streams of the namespace that has most.
func (r *Registry) busiest() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	most := 0
	for _, streams := range r.used {
		most = max(most, streams)
	}
	return most
}

// namespace returns the namespace of a stream's tenant. Its author can create many Tenants.
func (l *Live) namespace() string {
	namespace, _ := v1alpha1.SplitTenantID(l.ref.Tenant)
	return namespace
}

// all streams now.
func (r *Registry) all() []*Live {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*Live, 0, len(r.streams))
	for _, l := range r.streams {
		list = append(list, l)
	}
	return list
}

// end writes an end, or keeps it for later.
func (r *Registry) end(ctx context.Context, e store.StreamEnd) {
	if _, err := r.o.Store.EndStreams(ctx, []store.StreamEnd{e}); err != nil {
		r.keep(e)
	}
}

func (r *Registry) keep(ends ...store.StreamEnd) {
	r.mu.Lock()
	defer r.mu.Unlock()
	room := max(r.o.MaxKept-len(r.kept), 0)
	if lost := len(ends) - room; lost > 0 {
		r.m.lost.Add(float64(lost))
		ends = ends[:room]
	}
	r.kept = append(r.kept, ends...)
}

// maxEnds of one statement.
const maxEnds = 500

// writeKept writes the ends that are kept, as far as the database takes them.
func (r *Registry) writeKept(ctx context.Context) error {
	for {
		r.mu.Lock()
		n := min(len(r.kept), maxEnds)
		batch := r.kept[:n:n]
		r.kept = r.kept[n:]
		if len(r.kept) == 0 {
			r.kept = nil
		}
		r.mu.Unlock()
		if n == 0 {
			return nil
		}
		if _, err := r.o.Store.EndStreams(ctx, batch); err != nil {
			r.keep(batch...)
			return err
		}
	}
}
