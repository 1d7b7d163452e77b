// Package tenantmetrics exports, from PostgreSQL, what waits, what failed and how long recordings took, by tenant. Only the
// replica that leads does so: pods of upload Jobs may live too briefly to be scraped, and nothing they did is lost here.
package tenantmetrics

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
)

const (
	// every is the least time between two rounds.
	every = 15 * time.Second
	// rest is how many times longer than a round the time until the next one is at least: a round of a database with a
	// million waiting recordings must not become its main load.
	rest = 20
	// batch bounds the endings that one transaction counts.
	batch = 5000
	// batches bounds the transactions of a round.
	batches = 20
)

// DefaultMaxTenants is how many tenants have series of their own by default.
const DefaultMaxTenants = 200

// bounds are the upper bounds of the histogram, in seconds: from a short recording that is uploaded at once to one that
// waited for a bucket for two days.
func bounds() []float64 {
	return []float64{5, 10, 20, 40, 60, 120, 300, 600, 1800, 3600, 6 * 3600, 24 * 3600, 48 * 3600}
}

// Store is what the metrics need of PostgreSQL.
type Store interface {
	NameSeries(ctx context.Context, tenants []string, limit int) error
	CountEndings(ctx context.Context, q store.EndingQuery) (n int, err error)
	EndingTotals(ctx context.Context) ([]store.EndingTotal, error)
	BackfillTotals(ctx context.Context) ([]store.BackfillTotal, error)
	TenantCounts(ctx context.Context, known []string) (store.TenantCounts, error)
}

// Exporter counts at an interval and exports the last result.
type Exporter struct {
	client client.Reader
	store  Store
	o      Options
	now    func() time.Time

	mu     sync.Mutex
	latest *snapshot // nil before the first round
}

// snapshot is the result of one round.
type snapshot struct {
	at         time.Time
	tenants    int
	totals     []store.EndingTotal
	backfilled []store.BackfillTotal
	counts     store.TenantCounts
}

// Options of an Exporter.
type Options struct {
	// MaxTenants is how many tenants have series of their own; the others are one, "other".
	MaxTenants int
	// Words are the codes and reasons that have series of their own; the others are one, "other".
	Words store.EndingWords
}

// New returns an Exporter, which is a prometheus.Collector and a Runnable of the leader.
func New(reader client.Reader, db Store, o Options) *Exporter {
	return &Exporter{client: reader, store: db, o: o, now: time.Now}
}

// NeedLeaderElection makes it run on the leader alone.
func (*Exporter) NeedLeaderElection() bool { return true }

// Start counts at once and then at an interval, until ctx is done.
func (e *Exporter) Start(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		began := time.Now()
		if err := e.round(ctx); err != nil && ctx.Err() == nil {
			log.FromContext(ctx).Error(err, "the metrics of the tenants are not up to date; tried again")
		}
		timer.Reset(max(every, rest*time.Since(began)))
	}
}

// round counts once. After an error the last result stays: what waits does not go away by itself.
func (e *Exporter) round(ctx context.Context) error {
	var tenants v1alpha1.TenantList
	if err := e.client.List(ctx, &tenants); err != nil {
		return err
	}
	ids := make([]string, len(tenants.Items))
	for i := range tenants.Items {
		ids[i] = tenants.Items[i].ID()
	}
	if err := e.store.NameSeries(ctx, ids, e.o.MaxTenants); err != nil {
		return err
	}
	if err := e.countEndings(ctx); err != nil {
		return err
	}
	next := &snapshot{at: e.now(), tenants: len(ids)}
	var err error
	if next.totals, err = e.store.EndingTotals(ctx); err != nil {
		return err
	}
	if next.backfilled, err = e.store.BackfillTotals(ctx); err != nil {
		return err
	}
	if next.counts, err = e.store.TenantCounts(ctx, e.o.Words.Recordings); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.latest = next
	return nil
}

// countEndings counts what has ended, in transactions of bounded size. What is left is for the next round.
func (e *Exporter) countEndings(ctx context.Context) error {
	query := store.EndingQuery{Limit: batch, Bounds: bounds(), Words: e.o.Words}
	for range batches {
		n, err := e.store.CountEndings(ctx, query)
		if err != nil || n < batch {
			return err
		}
	}
	return nil
}

// Collect implements prometheus.Collector. Before the first round, and in a replica that does not lead, there is nothing.
func (e *Exporter) Collect(ch chan<- prometheus.Metric) {
	e.mu.Lock()
	latest := e.latest
	e.mu.Unlock()
	if latest != nil {
		latest.collect(ch)
	}
}

// Describe implements prometheus.Collector.
func (e *Exporter) Describe(ch chan<- *prometheus.Desc) { describe(ch) }
