package backfill

import (
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/reason"
)

// Results of a run, as its metric names them.
const (
	resultSucceeded   = "succeeded"
	resultPending     = "pending"     // it ended at its bounds, and goes on soon
	resultRejected    = "rejected"    // credentials or spec
	resultUnavailable = "unavailable" // Exotel or the database
	resultStopped     = "stopped"     // the Tenant was suspended or deleted meanwhile, or the operator ends
)

// Metrics of all Tenants' runs. The one with a Tenant's label vanishes with the Tenant.
type Metrics struct {
	runs            *prometheus.CounterVec
	found, requests prometheus.Counter
	unread          *prometheus.CounterVec
	lastSuccess     *prometheus.GaugeVec
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	metrics := &Metrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caly_backfill_runs_total",
			Help: "Looks at Exotel's Call Details, by how they ended.",
		}, []string{"result"}),
		unread: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caly_backfill_unread_fields_total",
			Help: "Fields of calls from Call Details that were left out, by field (a known one, or other) and " +
				"reason.",
		}, []string{"field", "reason"}),
		found: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "caly_backfill_found_total",
			Help: "Calls that were missing, unfinished or without their recording, and were filled in.",
		}),
		requests: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "caly_backfill_requests_total",
			Help: "Requests to Exotel's Call Details, repeated tries included.",
		}),
		lastSuccess: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "caly_backfill_last_success_timestamp_seconds",
			Help: "When a Tenant's look at Exotel's Call Details last succeeded.",
		}, []string{"tenant"}),
	}
	for _, result := range []string{resultSucceeded, resultPending, resultRejected, resultUnavailable, resultStopped} {
		metrics.runs.WithLabelValues(result)
	}
	for _, field := range exotel.FieldLabels() {
		for _, why := range reason.Fields() {
			metrics.unread.WithLabelValues(field, why)
		}
	}
	reg.MustRegister(metrics.runs, metrics.found, metrics.unread, metrics.requests, metrics.lastSuccess)
	return metrics
}

// succeeded sets the time of the last successful run; nil leaves it unchanged.
func (m *Metrics) succeeded(tenant string, at *metav1.Time) {
	if at != nil {
		m.lastSuccess.WithLabelValues(tenant).Set(float64(at.Unix()))
	}
}

// forget deletes the series of a deleted Tenant.
func (m *Metrics) forget(tenant string) { m.lastSuccess.DeleteLabelValues(tenant) }
