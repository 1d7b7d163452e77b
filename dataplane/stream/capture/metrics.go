package capture

import "github.com/prometheus/client_golang/prometheus"

// Outcomes of captures.
const (
	outcomeUploaded = "uploaded"
	outcomeCut      = "cut"
	// outcomeUnverified means uploaded to a bucket that verifies nothing, without the digests to compare it with.
	outcomeUnverified = "unverified"
	outcomeFailed     = "failed"
	outcomeRejected   = "rejected"
	outcomeEmpty      = "empty"
	outcomeLost       = "lost"
)

type metrics struct {
	outcomes       map[string]prometheus.Counter
	bytes, dropped prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, c *Captures) *metrics {
	ended := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caly",
		Subsystem: "captures",
		Name:      "ended_total",
		Help: "Captures that ended, by outcome: uploaded, cut (uploaded, and shorter than the call), " +
			"unverified (uploaded, and of parts only the length was compared), failed, " +
			"rejected (no room for another), " +
			"empty (the stream had no audio), lost (another pod took it over).",
	}, []string{"outcome"})
	m := &metrics{
		outcomes: map[string]prometheus.Counter{},
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "caly",
			Subsystem: "captures",
			Name:      "bytes_total",
			Help:      "Bytes of captures that are in buckets.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "caly",
			Subsystem: "captures",
			Name:      "dropped_frames_total",
			Help: "Frames of audio that captures lack, because the disk was too slow, the frame no audio, or " +
				"there was no memory for it. The calls had them.",
		}),
	}
	for _, o := range []string{
		outcomeUploaded, outcomeCut, outcomeUnverified, outcomeFailed, outcomeRejected, outcomeEmpty, outcomeLost,
	} {
		m.outcomes[o] = ended.WithLabelValues(o)
	}
	if reg == nil {
		return m
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "caly",
			Subsystem: "captures",
			Name:      name,
			Help:      help,
		}, f)
	}
	reg.MustRegister(
		ended,
		m.bytes,
		m.dropped,
		gauge("live", "Calls that are captured now.", func() float64 { live, _ := c.count(); return float64(live) }),
		gauge("waiting", "Captures whose calls have ended and that are not in their buckets yet.",
			func() float64 { _, waiting := c.count(); return float64(waiting) }),
		gauge(
			"memory_bytes",
			"Bytes of the memory that captures share, in use for audio that waits for the disk or for its time.",
			func() float64 { return float64(c.memory.InUse()) },
		),
		gauge("memory_max_bytes", "The most bytes of this memory.", func() float64 { return sharedMemory }),
		gauge(
			"spool_bytes", "Bytes of the spool that are in use.", func() float64 { return float64(c.budget.inUse()) },
		),
		gauge("spool_max_bytes", "The most bytes of the spool.", func() float64 { return float64(c.o.MaxBytes) }),
		gauge("max", "The most calls that are captured at once.", func() float64 { return float64(c.o.MaxCaptures) }),
	)
	return m
}

func (m *metrics) ended(outcome string) { m.outcomes[outcome].Inc() }
