package keyring

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/metric"
)

// Causes for a new ring, as the metric names them.
const (
	missing    = "missing" // there was none: at the first start, or it was deleted
	unreadable = "unreadable"
)

// Metrics of the keyring. The operator that does not lead counts nothing and reports no key.
type Metrics struct {
	created             atomic.Pointer[time.Time] // of the key that signs; nil while it is not known
	made                *prometheus.CounterVec
	rotations, failures prometheus.Counter
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	metrics := &Metrics{
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
	reg.MustRegister(metrics.made, metrics.rotations, metrics.failures, metric.NewTimestamp(
		"caly_keyring_signing_key_created_timestamp_seconds",
		"When the key that signs access tokens was created.",
		metrics.signingKeyCreated,
	))
	return metrics
}

func (m *Metrics) signingKeyCreated() time.Time {
	if at := m.created.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// signs records the key that signs now.
func (m *Metrics) signs(ring *keyring.Ring, now time.Time) {
	if key, ok := ring.Signing(now); ok {
		created := key.CreatedAt
		m.created.Store(&created)
	}
}
