package monitoring

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/metric"
)

// deadEventsFresh is how long an answer about dead events holds: several may scrape, and a count is not free.
const deadEventsFresh = 15 * time.Second

// deadEventCounter knows the dead events.
type deadEventCounter interface {
	// DeadEvents counts them by reason, from a closed set, and tells when the oldest came; zero without one.
	DeadEvents(ctx context.Context) (counts map[string]int, oldest time.Time, err error)
}

// DeadEvents tells Prometheus of the events that could not be applied and wait for a person. It asks when it is scraped.
type DeadEvents struct {
	counter  deadEventCounter
	count    *prometheus.Desc
	received *prometheus.Desc // when the oldest came
	now      func() time.Time
	mu       sync.Mutex // held while asking, so that one asks at a time
	askedAt  time.Time
	counts   map[string]int // the last answer, nil before the first
	oldest   time.Time
}

// NewDeadEvents makes a prometheus.Collector of what the counter knows.
func NewDeadEvents(counter deadEventCounter) *DeadEvents {
	return &DeadEvents{
		counter: counter,
		now:     time.Now,
		count: prometheus.NewDesc(
			"caly_dead_events",
			"Events that could not be applied, by reason, counted up to 100,000 in all: caly events list.",
			[]string{"reason"},
			nil,
		),
		received: prometheus.NewDesc(
			"caly_dead_events_oldest_timestamp_seconds",
			"When the oldest event came that could not be applied; absent without one.",
			nil,
			nil,
		),
	}
}

// Describe implements prometheus.Collector.
func (d *DeadEvents) Describe(ch chan<- *prometheus.Desc) {
	ch <- d.count
	ch <- d.received
}

// Collect implements prometheus.Collector. While PostgreSQL does not answer, the last answer stays: dead events do not
// end by themselves, and an alert must not either.
func (d *DeadEvents) Collect(ch chan<- prometheus.Metric) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refresh()
	if d.counts == nil {
		return
	}
	for reason, n := range d.counts {
		ch <- prometheus.MustNewConstMetric(d.count, prometheus.GaugeValue, float64(n), reason)
	}
	if !d.oldest.IsZero() {
		ch <- prometheus.MustNewConstMetric(d.received, prometheus.GaugeValue, metric.Seconds(d.oldest))
	}
}

// refresh asks again once the last answer is old, and after a failure no sooner.
func (d *DeadEvents) refresh() {
	if !d.askedAt.IsZero() && d.now().Sub(d.askedAt) < deadEventsFresh {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	counts, oldest, err := d.counter.DeadEvents(ctx)
	d.askedAt = d.now()
	if err == nil {
		d.counts = counts
		d.oldest = oldest
	}
}
