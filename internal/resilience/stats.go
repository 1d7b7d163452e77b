package resilience

import (
	"fmt"
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Counts of one dependency since the process began.
type Counts struct {
	// Retries are calls that were made again.
	Retries int64
	// Successful and Failed are calls that needed more than one try, by how they ended.
	Successful, Failed int64
	// BreakerOpened is how often a circuit breaker opened.
	BreakerOpened int64
}

// Minus is what was counted since an earlier reading.
func (c Counts) Minus(earlier Counts) Counts {
	return Counts{
		c.Retries - earlier.Retries,
		c.Successful - earlier.Successful,
		c.Failed - earlier.Failed,
		c.BreakerOpened - earlier.BreakerOpened,
	}
}

// Plus is the sum.
func (c Counts) Plus(o Counts) Counts {
	return Counts{
		c.Retries + o.Retries,
		c.Successful + o.Successful,
		c.Failed + o.Failed,
		c.BreakerOpened + o.BreakerOpened,
	}
}

// Since is what was counted, by dependency, since an earlier reading; what did not change is left out.
func Since(now, earlier map[string]Counts) map[string]Counts {
	changed := map[string]Counts{}
	for dependency, c := range now {
		if counts := c.Minus(earlier[dependency]); counts != (Counts{}) {
			changed[dependency] = counts
		}
	}
	return changed
}

// Sum adds readings up, dependency by dependency.
func Sum(readings ...map[string]Counts) map[string]Counts {
	sum := map[string]Counts{}
	for _, r := range readings {
		for dependency, c := range r {
			sum[dependency] = sum[dependency].Plus(c)
		}
	}
	return sum
}

// Stats are statistics over all dependencies, as GET /api/monitoring/retry-stats answers them.
type Stats struct {
	// TotalRetries are calls that were made again.
	TotalRetries int64 `json:"totalRetries"`
	// SuccessfulRetries and FailedRetries are calls that needed more than one try, by how they ended.
	SuccessfulRetries int64 `json:"successfulRetries"`
	FailedRetries     int64 `json:"failedRetries"`
	// CircuitBreakerTriggered is how often a breaker opened.
	CircuitBreakerTriggered int64 `json:"circuitBreakerTriggered"`
	// RetrySuccessRate is RetrySuccessRatio in percent, with two decimals: "86.67%".
	RetrySuccessRate string `json:"retrySuccessRate"`
	// RetrySuccessRatio is SuccessfulRetries of both, 0 to 1; 0 while there were none.
	RetrySuccessRatio float64 `json:"retrySuccessRatio"`
}

// StatsOf sums counts up, whatever they are by.
func StatsOf(counts map[string]Counts) Stats {
	var sum Counts
	for _, c := range counts {
		sum = sum.Plus(c)
	}
	stats := Stats{
		TotalRetries:            sum.Retries,
		SuccessfulRetries:       sum.Successful,
		FailedRetries:           sum.Failed,
		CircuitBreakerTriggered: sum.BreakerOpened,
	}
	if n := sum.Successful + sum.Failed; n > 0 {
		stats.RetrySuccessRatio = float64(sum.Successful) / float64(n)
	}
	stats.RetrySuccessRate = fmt.Sprintf("%.2f%%", 100*stats.RetrySuccessRatio)
	return stats
}

// Counts returns a snapshot by dependency.
func (r *Registry) Counts() map[string]Counts {
	return r.stats.snapshot()
}

// Announce has the metrics of dependencies begin at zero: a rate needs that before the first failure.
func (r *Registry) Announce(dependencies ...string) {
	for _, d := range dependencies {
		r.stats.add(d, Counts{})
	}
}

// Stats returns a snapshot over all dependencies.
func (r *Registry) Stats() Stats { return StatsOf(r.stats.snapshot()) }

// tally keeps the counts. Its keys are written in code, so that it stays small.
type tally struct {
	mu     sync.Mutex
	counts map[string]Counts
}

func (t *tally) add(dependency string, c Counts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]Counts{}
	}
	t.counts[dependency] = t.counts[dependency].Plus(c)
}

func (t *tally) snapshot() map[string]Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		return map[string]Counts{}
	}
	return maps.Clone(t.counts)
}

func (r *Registry) retrying(dependency string) {
	r.stats.add(dependency, Counts{Retries: 1})
}

func (r *Registry) retried(dependency string, err error) {
	if err != nil {
		r.stats.add(dependency, Counts{Failed: 1})
		return
	}
	r.stats.add(dependency, Counts{Successful: 1})
}

// Descriptions of the statistics as metrics. They are labelled by dependency alone: its values are written in code, a
// tenant's name is not.
var (
	descRetries = prometheus.NewDesc(
		"caly_retries_total", "Calls to a dependency that were made again.", []string{"dependency"}, nil,
	)
	descRetried = prometheus.NewDesc(
		"caly_retried_calls_total",
		"Calls that needed more than one try, by how they ended.",
		[]string{"dependency", "result"},
		nil,
	)
	descOpened = prometheus.NewDesc(
		"caly_circuit_breaker_opened_total", "Circuit breakers that opened.", []string{"dependency"}, nil,
	)
)

// Collector exports counts as Prometheus metrics. It asks for them at every scrape.
type Collector func() map[string]Counts

// Describe implements prometheus.Collector.
func (Collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descRetries
	ch <- descRetried
	ch <- descOpened
}

// Collect implements prometheus.Collector.
func (f Collector) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	for dependency, c := range f() {
		counter(descRetries, c.Retries, dependency)
		counter(descRetried, c.Successful, dependency, "success")
		counter(descRetried, c.Failed, dependency, "failure")
		counter(descOpened, c.BreakerOpened, dependency)
	}
}
