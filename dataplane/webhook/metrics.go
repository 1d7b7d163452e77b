package webhook

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/store"
)

type metrics struct {
	received, events, rejected, refused *prometheus.CounterVec
	ack                                 prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "caly", Subsystem: "webhook", Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		received: counter("received_total", "Webhooks on a known path, by kind.", "kind"),
		events:   counter("events_total", "Events committed, by outcome: applied, duplicate, dead.", "outcome"),
		rejected: counter("rejected_total", "Webhooks answered with a problem, by its code.", "code"),
		refused:  counter("refused_total", "Webhooks that did not prove where they come from, by the exact reason.", "reason"),
		ack: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "caly", Subsystem: "webhook", Name: "ack_seconds",
			Help:    "Time from the first byte of a webhook to its 200.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
	}
	r.MustRegister(m.received, m.events, m.rejected, m.refused, m.ack)
	return m
}

func outcomeName(o store.Outcome) string {
	switch o {
	case store.Applied:
		return "applied"
	case store.Duplicate:
		return "duplicate"
	}
	return "dead"
}
