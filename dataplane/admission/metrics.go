package admission

import "github.com/prometheus/client_golang/prometheus"

// Register registers the metrics of the gate; name says which gate of the pod it is.
func (g *Gate) Register(r prometheus.Registerer, name string) {
	opts := func(metric, help string, labels prometheus.Labels) prometheus.Opts {
		labels["gate"] = name
		return prometheus.Opts{Namespace: "caly", Subsystem: "admission", Name: metric, Help: help, ConstLabels: labels}
	}
	const rejected = "Requests that got no place, by gate and reason: full, share (of one client or tenant)."
	for reason, err := range map[string]error{"full": errFull, "share": ErrShare} {
		r.MustRegister(prometheus.NewCounterFunc(
			prometheus.CounterOpts(opts("rejected_total", rejected, prometheus.Labels{"reason": reason})),
			func() float64 { g.mu.Lock(); defer g.mu.Unlock(); return float64(g.refused[err]) }))
	}
	r.MustRegister(
		prometheus.NewCounterFunc(
			prometheus.CounterOpts(opts("evicted_total", "Requests that ended because their peers were slow "+
				"and others needed the places.", prometheus.Labels{})),
			func() float64 { g.mu.Lock(); defer g.mu.Unlock(); return float64(g.evicted) }),
		prometheus.NewGaugeFunc(
			prometheus.GaugeOpts(opts("places", "Places that are taken now, by gate.", prometheus.Labels{})),
			func() float64 { return float64(g.InUse()) }),
		prometheus.NewGaugeFunc(
			prometheus.GaugeOpts(opts("places_max", "All places, by gate.", prometheus.Labels{})),
			func() float64 { return float64(g.Places()) }))
}
