package ratelimit

import "github.com/prometheus/client_golang/prometheus"

// Outcomes of a decision.
const (
	outcomeAllowed  = "allowed"
	outcomeRejected = "rejected"
	outcomeBlocked  = "blocked"
	outcomeFallback = "fallback"
)

type metrics struct {
	decisions map[Name]map[string]prometheus.Counter
	fallback  prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caly",
		Subsystem: "ratelimit",
		Name:      "decisions_total",
		Help: "Decisions on tries, by limit and outcome: allowed, rejected (by the database), blocked (rejected without asking it), " +
			"fallback (by what the pod has seen itself, let through or not).",
	}, []string{"limit", "outcome"})
	m := &metrics{
		decisions: map[Name]map[string]prometheus.Counter{},
		fallback: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "caly",
			Subsystem: "ratelimit",
			Name:      "fallback_total",
			Help:      "Questions that the database did not answer in time. After each the pod decides by itself for a second.",
		}),
	}
	names := append(Names(), TenantAlert)
	for _, name := range addressNames {
		names = append(names, name.Network())
	}
	for _, name := range names {
		m.decisions[name] = map[string]prometheus.Counter{}
		for _, outcome := range []string{outcomeAllowed, outcomeRejected, outcomeBlocked, outcomeFallback} {
			m.decisions[name][outcome] = decisions.WithLabelValues(string(name), outcome)
		}
	}
	if r != nil {
		r.MustRegister(decisions, m.fallback)
	}
	return m
}
