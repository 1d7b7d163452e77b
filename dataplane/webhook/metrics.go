package webhook

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/metric"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
)

type metrics struct {
	received, events, rejected, unproven *prometheus.CounterVec
	unread                               *prometheus.CounterVec
	verified                             prometheus.Counter
	ack, batch                           prometheus.Histogram
}

func newMetrics() *metrics {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(options(name, help), []string{label})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(metric.WithNative(prometheus.HistogramOpts{
			Namespace: "caly",
			Subsystem: "webhook",
			Name:      name,
			Help:      help,
			Buckets:   buckets,
		}))
	}
	return &metrics{
		received: counter("received_total", "Webhooks on a known path, by kind: status, passthru, leg.", "kind"),
		verified: prometheus.NewCounter(options("verified_total", "Webhooks that are verified and got a place.")),
		events: counter("events_total", "Events committed, by outcome: applied, duplicate, replayed (signed bytes or "+
			"webhook-id that were received before as another kind, without effect), dead (stored with a reason, "+
			"not applied).", "outcome"),
		unread: prometheus.NewCounterVec(options("unread_fields_total",
			"Fields of applied events that were left out, by field (a known one, or "+
				"other) and reason: malformed, too_large, unknown_value, unknown_field, repeated, "+
				"rejected."),
			[]string{"field", "reason"}),
		rejected: counter("rejected_total", "Webhooks answered with a problem, by its code.", "code"),
		unproven: counter("verification_failures_total",
			"Webhooks that did not prove where they come from, by the exact reason.", "reason"),
		ack: histogram("ack_seconds", "Time from a webhook's headers to its 200, COMMIT included.",
			[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}),
		batch: histogram(
			"commit_batch_events", "Events that share one transaction.", prometheus.ExponentialBuckets(1, 2, 8),
		),
	}
}

func options(name, help string) prometheus.CounterOpts {
	return prometheus.CounterOpts{Namespace: "caly", Subsystem: "webhook", Name: name, Help: help}
}

func (m *metrics) register(r prometheus.Registerer, h *Handler) {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(options(name, help)), value)
	}
	for _, why := range append(verify.Reasons(), reasonUnknown, reasonAmbiguous) {
		m.unproven.WithLabelValues(why) // a rate needs the zero before the first
	}
	for _, kind := range kinds {
		m.received.WithLabelValues(kind)
	}
	for _, outcome := range []store.Outcome{store.Applied, store.Duplicate, store.Replayed, store.Dead} {
		m.events.WithLabelValues(outcomeName(outcome))
	}
	for _, field := range exotel.FieldLabels() {
		for _, why := range reason.Fields() {
			m.unread.WithLabelValues(field, why)
		}
	}
	for _, row := range problem.Table() {
		m.rejected.WithLabelValues(string(row.Code))
	}
	h.gate.Register(r, "webhook")
	r.MustRegister(
		m.received, m.verified, m.events, m.unread, m.rejected, m.unproven, m.ack, m.batch,
		gauge("in_flight", "Webhooks in work: being read, verified or waiting for their commit.",
			func() float64 { return float64(h.gate.InUse()) }),
		gauge("in_flight_max", "The most webhooks in work at once; those beyond are answered 503.",
			func() float64 { return float64(h.gate.Places()) }),
		metric.NewTimestamp("caly_webhook_oldest_waiting_timestamp_seconds",
			"When the oldest event came that waits for its commit; absent when none waits.", h.commits.oldest),
	)
}

// unreadFields counts what an applied event was stored without.
func (m *metrics) unreadFields(unread []store.Unread) {
	for _, u := range unread {
		m.unread.WithLabelValues(exotel.FieldLabel(u.Field), u.Reason).Inc()
	}
}

func outcomeName(o store.Outcome) string {
	switch o {
	case store.Applied:
		return "applied"
	case store.Duplicate:
		return "duplicate"
	case store.Replayed:
		return "replayed"
	}
	return "dead"
}
