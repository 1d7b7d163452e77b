// Package monitoring answers what SREs ask in addition to the metrics.
package monitoring

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/resilience"
)

// RetryStatsPath is where RetryStats is served.
const RetryStatsPath = "/api/monitoring/retry-stats"

// Kept are statistics that outlive the processes that counted them. *store.Operator and *store.Dataplane are.
type Kept interface {
	// RetryTotals returns what all processes have added, by dependency.
	RetryTotals(ctx context.Context) (map[string]resilience.Counts, error)
	// AddProcessRetries adds what this process counted: all of it or, with an error, nothing.
	AddProcessRetries(ctx context.Context, counts map[string]resilience.Counts) error
}

const (
	// storeEvery is how often a process stores what it counted, if it counted anything.
	storeEvery = 15 * time.Second
	// answerWithin bounds a question to PostgreSQL.
	answerWithin = 2 * time.Second
)

// RetryStats are the statistics of retries and breakers of the whole installation: what all processes stored in
// PostgreSQL, and what this one has counted since. It answers GET requests, and is a prometheus.Collector.
type RetryStats struct {
	kept Kept
	own  *resilience.Registry

	turn   chan struct{}                // holds a value while one asks: clients that ask at once cost one connection
	last   map[string]resilience.Counts // of kept, as it answered last
	stored map[string]resilience.Counts // of own, those that were added to kept
}

// NewRetryStats returns statistics of the two. Start stores what own counts.
func NewRetryStats(kept Kept, own *resilience.Registry) *RetryStats {
	return &RetryStats{kept: kept, own: own, turn: make(chan struct{}, 1)}
}

// NeedLeaderElection lets every replica store what it counted.
func (*RetryStats) NeedLeaderElection() bool { return false }

// Start stores at an interval what this process counted, until ctx is done, and then a last time.
func (s *RetryStats) Start(ctx context.Context) error {
	tick := time.NewTicker(storeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.store(context.WithoutCancel(ctx))
			return nil
		case <-tick.C:
			s.store(ctx)
		}
	}
}

// store adds what was counted since the last time to the totals. What cannot be added is added the next time.
func (s *RetryStats) store(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if s.enter(ctx) != nil {
		return
	}
	defer s.leave()
	own := s.own.Counts()
	counts := resilience.Since(own, s.stored)
	if len(counts) > 0 && s.kept.AddProcessRetries(ctx, counts) == nil {
		s.stored = own
		s.last = resilience.Sum(s.last, counts)
	}
}

func (s *RetryStats) enter(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *RetryStats) leave() { <-s.turn }

// counts returns what all processes counted. With an error it is what they had counted when PostgreSQL answered last,
// or nil if another question is still unanswered.
func (s *RetryStats) counts(ctx context.Context) (map[string]resilience.Counts, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	kept, err := s.kept.RetryTotals(ctx)
	if err == nil {
		s.last = kept
	}
	return resilience.Sum(s.last, resilience.Since(s.own.Counts(), s.stored)), err
}

// Stats returns the sums over all dependencies. It fails while PostgreSQL does not answer.
func (s *RetryStats) Stats(ctx context.Context) (resilience.Stats, error) {
	counts, err := s.counts(ctx)
	if err != nil {
		return resilience.Stats{}, err
	}
	return resilience.StatsOf(counts), nil
}

// ServeHTTP answers the sums over all dependencies as JSON, see resilience.Stats; 503 while PostgreSQL does not answer.
func (s *RetryStats) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "retry statistics are read with GET", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	stats, err := s.Stats(r.Context())
	if err != nil {
		w.Header().Set("Retry-After", "5")
		http.Error(
			w, "the statistics are kept in PostgreSQL, which does not answer: try again", http.StatusServiceUnavailable,
		)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(stats) // the client is gone if it fails
}

// Describe implements prometheus.Collector.
func (s *RetryStats) Describe(ch chan<- *prometheus.Desc) { resilience.Collector(nil).Describe(ch) }

// Collect implements prometheus.Collector. While PostgreSQL does not answer, it reports the last values: a counter
// that fell would look like a restarted one.
func (s *RetryStats) Collect(ch chan<- prometheus.Metric) {
	counts, _ := s.counts(context.Background()) // the last known ones where it fails
	resilience.Collector(func() map[string]resilience.Counts { return counts }).Collect(ch)
}
