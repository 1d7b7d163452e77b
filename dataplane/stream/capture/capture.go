// Package capture records audio streams, both directions, into WAV files that go to the tenants' buckets while the calls run.
//
// A capture never holds its call up. The bridge leaves copies of the audio in a bounded queue. A goroutine writes them
// to a spool on disk, in segments that are an upload's parts. Another goroutine sends full segments. The first part is
// sent with a header that says that the file's size is unknown; players read such a file to its end. At the call's end
// the first part is sent again, with the right size. If a process dies in between, the parts in the bucket can still
// become a playable file. A row in PostgreSQL names the bucket and the key before the first request, so that another
// pod can do that: see rescue.go.
package capture

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/internal/budget"
	"github.com/caly-dev/caly/internal/exotel/agentstream"
	"github.com/caly-dev/caly/internal/fair"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Store keeps the rows. *store.Dataplane is one.
type Store interface {
	BeginCapture(ctx context.Context, c store.Capture) error
	RefuseCapture(ctx context.Context, c store.Capture, code, message string) error
	SetCaptureUpload(ctx context.Context, ref store.CaptureRef, pod, uploadID string) error
	FinishCapture(ctx context.Context, ref store.CaptureRef, pod string, e store.CaptureEnd) error
	HeartbeatCaptures(ctx context.Context, pod string, refs []store.CaptureRef) (map[store.CaptureRef]bool, error)
	ReleaseCaptures(ctx context.Context, pod string, refs []store.CaptureRef) error
	ClaimCaptures(
		ctx context.Context,
		tenants []string,
		pod string,
		unseen time.Duration,
		limit int,
	) ([]store.Capture, error)
	OpenCapture(ctx context.Context, ref store.CaptureRef, pod string) (store.Capture, error)
}

// Options of Captures. Zero durations and numbers are the defaults.
type Options struct {
	Store Store
	// Pod is a name that no other living pod has.
	Pod string
	// Dir is the spool's, which is this pod's alone. What is in it when New is called is of a process before this one.
	Dir string
	// Tenants are those that the pod knows now.
	Tenants func() *tenantconfig.Snapshot
	// MaxCaptures at once, of calls that run; 200 by default, three quarters of them for the tenants of one namespace.
	// Further calls are not captured.
	MaxCaptures int
	// MaxBytes of the spool; 2 GiB by default. A tenant gets half of it at most. A capture for which there is no room ends.
	MaxBytes int64
	// Stores is what the platform allows of the stores that tenants name.
	Stores objectstore.Policy
	// HeartbeatEvery is how often rows are told that their captures are in good hands; 10 s by default.
	HeartbeatEvery time.Duration
	// SweepEvery is how often what could not be brought to a bucket is tried again, and captures of pods that are gone are looked for;
	// 15 s by default.
	SweepEvery time.Duration
	// Unseen is after how long without a heartbeat a capture's pod counts as gone; 90 s by default.
	Unseen time.Duration
	// RequestWithin bounds one request of a bucket; 2 min by default.
	RequestWithin time.Duration
	// FinishWithin bounds the tries right after a call's end; 30 s by default. Then it is the sweep's.
	FinishWithin time.Duration
	// StopWithin bounds what Run does after its context is over; 15 s by default.
	StopWithin time.Duration
	// Breakers of the buckets; nil makes some that try each request once: what else is tried again is told above.
	Breakers *resilience.Registry
	// GiveUpAfter is how long after its call's end a capture is tried; 6 h by default.
	GiveUpAfter time.Duration
	Log         *slog.Logger
	// Registerer of metrics; nil registers none.
	Registerer prometheus.Registerer
	now        func() time.Duration // audio.Now
}

// setDefaults replaces options that are zero.
func (o *Options) setDefaults() {
	for _, d := range []struct {
		option *time.Duration
		value  time.Duration
	}{
		{&o.HeartbeatEvery, 10 * time.Second},
		{&o.SweepEvery, 15 * time.Second},
		{&o.Unseen, 90 * time.Second},
		{&o.RequestWithin, 2 * time.Minute},
		{&o.FinishWithin, 30 * time.Second}, {&o.StopWithin, 15 * time.Second}, {&o.GiveUpAfter, 6 * time.Hour}} {
		if *d.option <= 0 {
			*d.option = d.value
		}
	}
	if o.MaxCaptures <= 0 {
		o.MaxCaptures = 200
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 2 << 30
	}
	if o.Breakers == nil {
		o.Breakers = resilience.NewRegistry(resilience.Options{Policy: resilience.Policy{MaxAttempts: 1}}, o.Registerer)
		o.Breakers.Announce(dependency)
	}
	if o.now == nil {
		o.now = bridge.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Captures are those of this pod. A nil *Captures captures nothing.
type Captures struct {
	o         Options
	m         *metrics
	budget    *spoolBudget
	memory    *budget.Parts // each tenant has half
	gate      *fair.Gate    // of tenants whose buckets are asked by sweeps
	transport *objectstore.Transport
	ctx       context.Context // of all work; it is over when Run has ended
	cancel    context.CancelFunc
	work      sync.WaitGroup

	mu       sync.Mutex
	attended time.Time // since when the database has answered without a break
	stopped  bool
	live     map[*Capture]bool
	waiting  map[store.CaptureRef]*tape // ended, and not in the bucket yet
	busy     map[store.CaptureRef]*tape // ended, and being sent by their own goroutines
	attends  map[string]bool            // tenants whose captures a sweep brings now
}

// New makes them, with what the spool has of a process before this one. Run keeps them.
func New(o Options) (*Captures, error) {
	o.setDefaults()
	captures := &Captures{
		o:         o,
		budget:    newBudget(o.MaxBytes),
		memory:    budget.New(sharedMemory).Parts(sharedMemory / 2),
		gate:      fair.NewGate(fair.Options{Places: bringers}),
		transport: objectstore.NewTransport(o.Stores, 16),
		live:      map[*Capture]bool{},
		waiting:   map[store.CaptureRef]*tape{},
		busy:      map[store.CaptureRef]*tape{},
		attends:   map[string]bool{},
	}
	captures.ctx, captures.cancel = context.WithCancel(context.Background())
	captures.m = newMetrics(o.Registerer, captures)
	if err := captures.load(); err != nil {
		captures.cancel()
		return nil, err
	}
	return captures, nil
}

// Capture is a stream's. A nil *Capture captures nothing.
type Capture struct {
	c        *Captures
	tape     *tape
	refused  bool
	queue    queue
	recorder recorder
	full     chan struct{} // there may be something to send
	ended    chan struct{}
	endOnce  sync.Once
	// namespace of the tenant, whose captures share a bound.
	namespace string
	closedAt  time.Duration
	recorded  chan struct{} // the spool has all
	cut       chan struct{} // closed when another pod has it
	cutOnce   sync.Once
}

// Breakers returns the breakers of the buckets, with what they counted. Those of a nil *Captures count nothing.
func (c *Captures) Breakers() *resilience.Registry {
	if c == nil {
		return resilience.NewRegistry(resilience.Options{}, nil)
	}
	return c.o.Breakers
}

// Wants tells whether the tenant's streams are to be captured.
func (c *Captures) Wants(t *tenantconfig.Tenant) bool {
	return c != nil && t.Audio != nil && t.Audio.Capture != nil && t.Storage != nil
}

// Begin captures a stream, if its tenant wants that. The rate counts until Started tells one.
func (c *Captures) Begin(t *tenantconfig.Tenant, session string, rate int) *Capture {
	if !c.Wants(t) {
		return nil
	}
	if rate <= 0 {
		rate = defaultRate
	}
	capture := &Capture{
		c:        c,
		tape:     newTape(c, t, session),
		full:     make(chan struct{}, 1),
		ended:    make(chan struct{}),
		recorded: make(chan struct{}),
		cut:      make(chan struct{}),
		recorder: recorder{rate: rate, origin: c.o.now()},
	}
	capture.queue.wake = make(chan struct{}, 1)
	capture.queue.room = c.memory.Of(capture.tape.m.Tenant).Share(2 * wakeAt)
	c.mu.Lock()
	defer c.mu.Unlock()
	capture.namespace, _ = v1alpha1.SplitTenantID(t.ID)
	if len(c.live) >= c.o.MaxCaptures || c.ofNamespace(capture.namespace) >= c.o.MaxCaptures-c.o.MaxCaptures/4 ||
		c.stopped {
		capture.refused = true
		return capture
	}
	c.live[capture] = true
	c.work.Go(capture.record)
	c.work.Go(capture.send)
	return capture
}

// ofNamespace returns how many captures the tenants of a namespace have. c.mu is held.
func (c *Captures) ofNamespace(namespace string) (n int) {
	for s := range c.live {
		if s.namespace == namespace {
			n++
		}
	}
	return n
}

// Tap for the bridge; nil if nothing is captured.
func (s *Capture) Tap() bridge.Tap {
	if s == nil || s.refused {
		return nil
	}
	return &s.queue
}

// Started notes what Exotel told of the stream.
func (s *Capture) Started(info agentstream.StartInfo) {
	if s == nil {
		return
	}
	s.queue.start(info)
}

// End ends the capture with its stream. It does not wait.
func (s *Capture) End() {
	if s == nil {
		return
	}
	s.endOnce.Do(func() {
		if s.refused {
			s.c.m.ended(outcomeRejected)
			s.c.inWork(s.refuse)
			return
		}
		s.closedAt = s.c.o.now()
		close(s.ended)
	})
}

// inWork runs what Run waits for, unless it waits already.
func (c *Captures) inWork(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.work.Go(f)
	}
}

// refuseWithin bounds the row of a call that was not captured.
const refuseWithin = 5 * time.Second

// refuse keeps that the call was not captured.
func (s *Capture) refuse() {
	ctx, cancel := context.WithTimeout(s.c.ctx, refuseWithin)
	defer cancel()
	info, _ := s.queue.started()
	row := s.tape.m.row(s.c.o.Pod)
	row.CallSID = store.BoundedSID(info.CallSID)
	err := s.c.o.Store.RefuseCapture(
		ctx, row, reason.NoRoom,
		"the call was not captured: its pod had as many captures as it may, in all or of one namespace "+
			"(--max-captures)",
	)
	if err != nil {
		s.c.o.Log.Warn("a call was not captured, and no row tells of it",
			"tenant", row.Tenant,
			"session", row.Session,
			"call", row.CallSID,
			"error", err,
		)
	}
}

// forget gives the place back.
func (c *Captures) forget(s *Capture) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.live, s)
}

// count returns how many captures record, and how many wait to be finished.
func (c *Captures) count() (live, waiting int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.live) - len(c.busy), len(c.waiting) + len(c.busy)
}
