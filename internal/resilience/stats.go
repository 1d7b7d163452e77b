package resilience

import (
	"encoding/json"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Stats are counted since the process began.
type Stats struct {
	// TotalRetries are calls that were made again.
	TotalRetries int64 `json:"totalRetries"`
	// SuccessfulRetries and FailedRetries are calls that needed more than one try, by how they ended.
	SuccessfulRetries int64 `json:"successfulRetries"`
	FailedRetries     int64 `json:"failedRetries"`
	// CircuitBreakerTriggered is how often a breaker opened.
	CircuitBreakerTriggered int64 `json:"circuitBreakerTriggered"`
	// RetrySuccessRate is SuccessfulRetries of both, 0 to 1; 0 while there were none.
	RetrySuccessRate float64 `json:"retrySuccessRate"`
}

type counters struct {
	total, successful, failed, opened atomic.Int64
}

// Stats returns a snapshot.
func (r *Registry) Stats() Stats {
	s := Stats{
		TotalRetries:            r.stats.total.Load(),
		SuccessfulRetries:       r.stats.successful.Load(),
		FailedRetries:           r.stats.failed.Load(),
		CircuitBreakerTriggered: r.stats.opened.Load(),
	}
	if n := s.SuccessfulRetries + s.FailedRetries; n > 0 {
		s.RetrySuccessRate = float64(s.SuccessfulRetries) / float64(n)
	}
	return s
}

// Handler serves the statistics as JSON, for GET /api/monitoring/retry-stats.
func (r *Registry) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(r.Stats()) // the client is gone if it fails
	})
}

func (r *Registry) retrying(dependency string) {
	r.stats.total.Add(1)
	r.metrics.retries.WithLabelValues(dependency).Inc()
}

func (r *Registry) retried(dependency string, err error) {
	result := "success"
	if err != nil {
		result = "failure"
		r.stats.failed.Add(1)
	} else {
		r.stats.successful.Add(1)
	}
	r.metrics.retried.WithLabelValues(dependency, result).Inc()
}

// metrics are labelled by dependency alone: its values are written in code, a tenant's name is not.
type metrics struct {
	retries, retried, opened *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		retries: counter("caly_retries_total", "Calls to a dependency that were made again.", "dependency"),
		retried: counter("caly_retried_calls_total", "Calls that needed more than one try, by how they ended.", "dependency", "result"),
		opened:  counter("caly_circuit_breaker_opened_total", "Circuit breakers that opened.", "dependency"),
	}
	if reg != nil {
		reg.MustRegister(m.retries, m.retried, m.opened)
	}
	return m
}
