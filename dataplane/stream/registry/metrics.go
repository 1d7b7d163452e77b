package registry

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/stream/bridge"
)

// Outcomes of an admission.
const (
	outcomeAdmitted    = "admitted"
	outcomeTenantLimit = "tenant_limit"
	outcomePodLimit    = "pod_limit"
	outcomeDraining    = "draining"
	outcomeTokenUsed   = "token_used"
	outcomeError       = "error"
)

type metrics struct {
	admissions map[string]prometheus.Counter
	cuts       map[bridge.Reason]prometheus.Counter
	lost       prometheus.Counter
	failures   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, r *Registry) *metrics {
	admissions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caly",
		Subsystem: "stream_sessions",
		Name:      "admissions_total",
		Help: "Streams that wanted in, by outcome: admitted, tenant_limit, pod_limit, draining, token_used, " +
			"error (of the database).",
	}, []string{"outcome"})
	cuts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caly",
		Subsystem: "stream_sessions",
		Name:      "cuts_total",
		Help: "Streams that were cut off, by reason: suspended (the tenant, or gone), closed (by a person), " +
			"orphaned (the row had ended), drained, limit (of age).",
	},
		[]string{"reason"})
	m := &metrics{
		admissions: map[string]prometheus.Counter{},
		cuts:       map[bridge.Reason]prometheus.Counter{},
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "caly",
			Subsystem: "stream_sessions",
			Name:      "ends_lost_total",
			Help: "Ends that could not be written, and were too many to keep. A janitor ends their sessions as " +
				"orphans.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "caly",
			Subsystem: "stream_sessions",
			Name:      "heartbeat_failures_total",
			Help: "Heartbeats that the database did not take. After 45 s of them the pod's sessions are ended " +
				"as orphans.",
		}),
	}
	for _, o := range []string{
		outcomeAdmitted, outcomeTenantLimit, outcomePodLimit, outcomeDraining, outcomeTokenUsed,
		outcomeError,
	} {
		m.admissions[o] = admissions.WithLabelValues(o)
	}
	for _, reason := range []bridge.Reason{
		bridge.Suspended, bridge.Drained, bridge.Closed, bridge.Orphaned, bridge.Limit,
	} {
		m.cuts[reason] = cuts.WithLabelValues(string(reason))
	}
	if reg != nil {
		reg.MustRegister(admissions, cuts, m.lost, m.failures,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Namespace: "caly",
				Subsystem: "stream_sessions",
				Name:      "live",
				Help:      "Streams of this pod now.",
			}, func() float64 { return float64(r.Live()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Namespace: "caly",
				Subsystem: "stream_sessions",
				Name:      "max",
				Help:      "The most streams that this pod may have.",
			}, func() float64 { return float64(r.o.MaxStreams) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Namespace: "caly",
				Subsystem: "stream_sessions",
				Name:      "busiest_namespace",
				Help:      "Streams of the namespace that has most of them in this pod.",
			}, func() float64 { return float64(r.busiest()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Namespace: "caly",
				Subsystem: "stream_sessions",
				Name:      "namespace_max",
				Help:      "The most streams that the Tenants of one namespace may have in this pod.",
			}, func() float64 { return float64(r.o.MaxPerNamespace) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Namespace: "caly",
				Subsystem: "stream_sessions",
				Name:      "ends_kept",
				Help:      "Ends that wait for the database.",
			}, func() float64 { return float64(r.keptEnds()) }))
	}
	return m
}

func (m *metrics) admitted(err error) {
	outcome := outcomeError
	switch {
	case err == nil:
		outcome = outcomeAdmitted
	case errors.Is(err, ErrTenantLimit):
		outcome = outcomeTenantLimit
	case errors.Is(err, ErrPodLimit):
		outcome = outcomePodLimit
	case errors.Is(err, ErrDraining):
		outcome = outcomeDraining
	case errors.Is(err, ErrTokenUsed):
		outcome = outcomeTokenUsed
	}
	m.admissions[outcome].Inc()
}
