package ratelimit

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

var acme = &tenantconfig.Tenant{ID: "acme/support", Auth: &tenantconfig.Auth{}}

func testKey() []byte { return []byte("a key that all pods of the test have") }

// clock stands until it is moved.
type clock struct {
	start time.Time
	ahead atomic.Int64
}

func (c *clock) now() time.Time          { return c.start.Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// pod is a limiter with what it says.
type pod struct {
	*Limiter
	clock    *clock
	asked    *atomic.Int32
	registry *prometheus.Registry
	log      *logLines
}

// logLines keeps what is logged.
type logLines struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *logLines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.lines.String(), what)
}

// counting counts the questions.
type counting struct {
	Store
	asked *atomic.Int32
}

func (c counting) TakeHits(ctx context.Context, t store.HitTake) (store.HitsTaken, error) {
	c.asked.Add(1)
	return c.Store.TakeHits(ctx, t)
}

func newPod(s Store, patience time.Duration, limits map[Name]Limit) *pod {
	p := &pod{
		clock:    &clock{start: time.Now()},
		asked:    &atomic.Int32{},
		registry: prometheus.NewRegistry(),
		log:      &logLines{},
	}
	p.Limiter = New(Options{
		Store:      counting{s, p.asked},
		Key:        testKey,
		Limits:     limits,
		Patience:   patience,
		Registerer: p.registry,
		Log:        slog.New(slog.NewTextHandler(p.log, nil)),
		Now:        p.clock.now,
	})
	return p
}

// openDB has its connections made: what tests look at is not how long those take.
func openDB(t testing.TB, pg *pgtest.Server) *store.Dataplane {
	t.Helper()
	db, err := store.OpenDataplane(t.Context(), pg.DataplaneDSN, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// metric is the value of a counter.
func (p *pod) metric(t testing.TB, name string, labels map[string]string) float64 {
	t.Helper()
	families, err := p.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			same := f.GetName() == name && len(m.GetLabel()) == len(labels)
			for _, l := range m.GetLabel() {
				same = same && labels[l.GetName()] == l.GetValue()
			}
			if same {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s%v", name, labels)
	return 0
}

func (p *pod) outcomes(t testing.TB, name Name) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for _, outcome := range []string{outcomeAllowed, outcomeRejected, outcomeBlocked, outcomeFallback} {
		if n := p.metric(t, "caly_ratelimit_decisions_total", map[string]string{
			"limit":   string(name),
			"outcome": outcome,
		}); n > 0 {
			all[outcome] = n
		}
	}
	return all
}

var errDown = errors.New("down")

// fake is a store in memory that can be down, and sees how many ask at once.
type fake struct {
	mu             sync.Mutex
	down           bool
	takes          []store.HitTake
	busy           map[hash]int
	sameAtOnce     int
	hits           *local
	answersIn      time.Duration // as a slow database does
	lastCtxEnded   error
	lastHasTimeout bool
}

func newFake() *fake { return &fake{busy: map[hash]int{}, hits: newLocal(time.Now())} }

func (f *fake) TakeHits(ctx context.Context, t store.HitTake) (store.HitsTaken, error) {
	f.mu.Lock()
	_, f.lastHasTimeout = ctx.Deadline()
	f.lastCtxEnded = ctx.Err()
	f.takes = append(f.takes, t)
	f.busy[t.Key]++
	f.sameAtOnce = max(f.sameAtOnce, f.busy[t.Key])
	down := f.down
	f.mu.Unlock()
	time.Sleep(f.answersIn)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy[t.Key]--
	if down {
		return store.HitsTaken{}, errDown
	}
	return f.hits.take(t.Key, Limit{Requests: t.Max, Window: t.Window}, t.Wanted, time.Now()), nil
}

func (f *fake) ReturnHit(_ context.Context, r store.HitReturn) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return errDown
	}
	f.hits.giveBack(r.Key)
	return nil
}

func (f *fake) setDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}
