package api

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/metric"
)

// metrics of the API. Their labels are operations and codes: closed sets.
type metrics struct {
	seconds  *prometheus.HistogramVec
	problems *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		seconds: prometheus.NewHistogramVec(metric.WithNative(prometheus.HistogramOpts{
			Name:    "caly_api_request_seconds",
			Help:    "Time to answer a request, by operation.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}), []string{"operation"}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caly_api_problems_total",
			Help: "Requests that were answered with a problem, by its code.",
		}, []string{"code"}),
	}
	for _, row := range problem.Table() {
		m.problems.WithLabelValues(string(row.Code)) // a rate needs the zero before the first
	}
	if r != nil {
		r.MustRegister(m.seconds, m.problems)
	}
	return m
}

// observe is called when a request of an operation begins; what it returns, when it ends.
func (m *metrics) observe(operation string) func() {
	start := time.Now()
	return func() { m.seconds.WithLabelValues(operation).Observe(time.Since(start).Seconds()) }
}

func (m *metrics) fail(code problem.Code) { m.problems.WithLabelValues(string(code)).Inc() }
