package registry_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/background"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

var (
	acme   = &tenantconfig.Tenant{ID: "acme/support", UID: "1"}
	globex = &tenantconfig.Tenant{ID: "globex/sales", UID: "2"}
)

// soon bounds a wait for what must happen without delay.
const soon = eventually.Within(15 * time.Second)

// cluster is pods on one database.
type cluster struct {
	t       *testing.T
	db      *storetest.DB
	tenants atomic.Pointer[tenantconfig.Snapshot]
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	r := &cluster{t: t, db: storetest.New(t)}
	r.tenants.Store(tenantconfig.NewSnapshot(acme, globex))
	return r
}

// pod is a registry that runs until it is stopped.
type pod struct {
	*registry.Registry
	metrics *prometheus.Registry
	stop    func()
}

// pod starts one with the options, whose times are short unless they are set.
func (r *cluster) pod(name string, o registry.Options) *pod {
	r.t.Helper()
	o.Pod = name
	o.Tenants = r.tenants.Load
	if o.Store == nil {
		o.Store = r.db.Dataplane
	}
	for _, d := range []*time.Duration{&o.HeartbeatEvery, &o.LookEvery} {
		if *d == 0 {
			*d = 20 * time.Millisecond
		}
	}
	if o.EndWithin == 0 {
		o.EndWithin = 2 * time.Second // streams that a test leaves are waited for, for more than half of it
	}
	p := &pod{metrics: prometheus.NewPedanticRegistry()}
	o.Registerer = p.metrics
	p.Registry = registry.New(o)
	p.stop = background.Run(r.t, p.Run)
	return p
}

func (r *cluster) admit(p *pod, t *tenantconfig.Tenant) *registry.Live {
	r.t.Helper()
	live, err := p.Admit(r.t.Context(), t, 100, registry.Stream{CallSID: "call", Agent: "bot.example"})
	if err != nil {
		r.t.Fatal(err)
	}
	return live
}

// reason of a session's row; empty while it lives.
func (r *cluster) reason(l *registry.Live) string {
	r.t.Helper()
	return pgtest.Value[string](r.t, r.db.Server, `SELECT end_reason FROM stream_sessions WHERE id = $1`, l.ID())
}

// cutOff ends a stream as a bridge does that is cut off, and returns what it was cut off with.
func cutOff(t *testing.T, l *registry.Live) bridge.Cut {
	t.Helper()
	select {
	case <-l.Context().Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the stream is not cut off")
	}
	var cut *bridge.Cut
	if !errors.As(context.Cause(l.Context()), &cut) {
		t.Fatalf("the cause is %v", context.Cause(l.Context()))
	}
	l.End(context.Background(), &bridge.End{Reason: cut.Reason})
	return *cut
}

// value of a metric's only series with the label value.
func (p *pod) value(t *testing.T, name, label string) float64 {
	t.Helper()
	families, err := p.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s %s of %d", name, label, len(families))
	return 0
}

// faulty is a database that can be away, for a pod.
type faulty struct {
	*store.Dataplane
	away      atomic.Bool
	forgetful atomic.Bool // it commits admissions, and the answer is lost
}

func (f *faulty) AdmitStream(ctx context.Context, tenant string, n store.NewStream, limit int) error {
	if f.away.Load() {
		return store.ErrUnavailable
	}
	if err := f.Dataplane.AdmitStream(ctx, tenant, n, limit); err != nil || !f.forgetful.Load() {
		return err
	}
	return store.ErrUnavailable
}

func (f *faulty) HeartbeatStreams(ctx context.Context, beats []store.StreamBeat) (map[store.StreamRef]bool, error) {
	if f.away.Load() {
		return nil, store.ErrUnavailable
	}
	return f.Dataplane.HeartbeatStreams(ctx, beats)
}

func (f *faulty) EndStreams(ctx context.Context, ends []store.StreamEnd) (int64, error) {
	if f.away.Load() {
		return 0, store.ErrUnavailable
	}
	return f.Dataplane.EndStreams(ctx, ends)
}
