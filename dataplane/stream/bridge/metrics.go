package bridge

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/exotel/agentstream"
	"github.com/caly-dev/caly/internal/metric"
)

// Metrics of all bridges of a pod. Their labels are bound once: no frame looks one up.
type Metrics struct {
	observer *Observer
	ends     map[Reason]prometheus.Counter
	again    prometheus.Counter
}

// NewMetrics makes and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help, label string) *prometheus.CounterVec {
		counterVec := prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "caly",
			Subsystem: "audio",
			Name:      name,
			Help:      help,
		}, []string{label})
		r.MustRegister(counterVec)
		return counterVec
	}
	frames := counter("frames_total", "Frames passed on, by direction: to_agent, to_exotel.", "direction")
	bytes := counter("bytes_total", "Bytes of the frames passed on, by direction.", "direction")
	dropped := counter(
		"dropped_total",
		"Audio frames that a slow side did not get or that a clear took back, by direction.",
		"direction",
	)
	rejected := counter("rejected_total", "Malformed frames that were left out, by direction.", "direction")
	oddities := counter(
		"oddities_total", "Deviations from the documented protocol that were tolerated, by kind.", "kind",
	)
	ends := counter("ends_total", "Streams that ended, by reason.", "reason")
	added := prometheus.NewHistogramVec(metric.WithNative(prometheus.HistogramOpts{
		Namespace: "caly",
		Subsystem: "audio",
		Name:      "added_latency_seconds",
		Help:      "Time from a frame read to the same frame written, by direction.",
		Buckets: []float64{
			.00001,
			.000025,
			.00005,
			.0001,
			.00025,
			.0005,
			.001,
			.0025,
			.005,
			.01,
			.025,
			.05,
			.1,
			.25,
			1,
		},
	}), []string{"direction"})
	again := prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "caly",
		Subsystem: "audio",
		Name:      "agent_reconnects_total",
		Help:      "Streams whose agent got a second connection.",
	})
	r.MustRegister(added, again)
	direction := func(name string) DirectionObserver {
		return DirectionObserver{
			Frames:  frames.WithLabelValues(name),
			Bytes:   bytes.WithLabelValues(name),
			Dropped: dropped.WithLabelValues(name),
			Refused: rejected.WithLabelValues(name),
			Added:   added.WithLabelValues(name),
		}
	}
	metrics := &Metrics{
		observer: newObserver(Observer{ToAgent: direction("to_agent"), ToExotel: direction("to_exotel")}),
		ends:     map[Reason]prometheus.Counter{},
		again:    again,
	}
	for i := range agentstream.Oddities {
		metrics.observer.Oddities[i] = oddities.WithLabelValues(agentstream.OddityName(i))
	}
	for _, reason := range Reasons() {
		metrics.ends[reason] = ends.WithLabelValues(string(reason)) // a rate needs the zero before the first
	}
	return metrics
}

// Observer is what bridges are given.
func (m *Metrics) Observer() *Observer { return m.observer }

// Ended counts a bridge's end.
func (m *Metrics) Ended(e *End) {
	m.ends[e.Reason].Inc()
	if e.Reconnected {
		m.again.Inc()
	}
}
