package keyring

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/keyring"
)

// Causes for a new ring, as the metric names them.
const (
	missing    = "missing" // there was none: at the first start, or it was deleted
	unreadable = "unreadable"
)

// Metrics of the keyring. The operator that does not lead has them at 0.
type Metrics struct {
	age                 prometheus.Gauge
	made                *prometheus.CounterVec
	rotations, failures prometheus.Counter
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	metrics := &Metrics{
		age: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "caly_keyring_signing_key_age_seconds",
			Help: "For how long the key that signs access tokens has done so.",
		}),
		made: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caly_keyring_made_total",
			Help: "Keyrings that were replaced, by cause: missing (at the first start, or deleted), unreadable. " +
				"Everybody must log in again.",
		},
			[]string{"cause"}),
		rotations: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "caly_keyring_rotations_total",
			Help: "Changes of the keys of a keyring: one published, brought forward or dropped.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "caly_keyring_failures_total",
			Help: "Looks at the keyring that failed; the keys stay as they are.",
		}),
	}
	metrics.made.WithLabelValues(missing)
	metrics.made.WithLabelValues(unreadable)
	reg.MustRegister(metrics.age, metrics.made, metrics.rotations, metrics.failures)
	return metrics
}

// signs sets the age of the key that signs now, in seconds.
func (m *Metrics) signs(ring *keyring.Ring, now time.Time) {
	if key, ok := ring.Signing(now); ok {
		m.age.Set(max(0, now.Sub(key.SignsFrom).Seconds()))
	}
}
