// Package monitoring answers what SREs ask in addition to the metrics.
package monitoring

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/resilience"
)

// RetryStatsPath is where RetryStats is served.
const RetryStatsPath = "/api/monitoring/retry-stats"

// Kept are statistics that outlive the processes that counted them.
type Kept interface {
	RetryTotals(ctx context.Context) (map[string]resilience.Counts, error)
}

// RetryStats are the statistics of retries and breakers: what the upload pods kept in PostgreSQL, since they live too briefly
// to be scraped, and what this process counted itself. It answers GET requests and is a prometheus.Collector.
type RetryStats struct {
	kept Kept
	own  *resilience.Registry

	mu   sync.Mutex
	last map[string]resilience.Counts // of kept, as it answered last
}

// NewRetryStats makes them of the two.
func NewRetryStats(kept Kept, own *resilience.Registry) *RetryStats {
	return &RetryStats{kept: kept, own: own}
}

func (s *RetryStats) counts(ctx context.Context) (map[string]resilience.Counts, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	kept, err := s.kept.RetryTotals(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		return resilience.Sum(s.last, s.own.Counts()), err
	}
	s.last = kept
	return resilience.Sum(kept, s.own.Counts()), nil
}

// ServeHTTP answers the sums over all dependencies as JSON, see resilience.Stats; 503 while PostgreSQL does not answer.
func (s *RetryStats) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "retry statistics are read with GET", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	counts, err := s.counts(r.Context())
	if err != nil {
		w.Header().Set("Retry-After", "5")
		http.Error(
			w, "the statistics are kept in PostgreSQL, which does not answer: try again", http.StatusServiceUnavailable,
		)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(resilience.StatsOf(counts)) // the client is gone if it fails
}

// Describe implements prometheus.Collector.
func (s *RetryStats) Describe(ch chan<- *prometheus.Desc) { resilience.Collector(nil).Describe(ch) }

// Collect implements prometheus.Collector. While PostgreSQL does not answer, it reports the last values: a counter
// that fell would look like a restarted one.
func (s *RetryStats) Collect(ch chan<- prometheus.Metric) {
	counts, _ := s.counts(context.Background()) // the last known ones where it fails
	resilience.Collector(func() map[string]resilience.Counts { return counts }).Collect(ch)
}
