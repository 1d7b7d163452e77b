package tenant

import "github.com/prometheus/client_golang/prometheus"

// Results of an exchange, as its metric names them.
const (
	resultIssued = "issued"
	resultDenied = "denied" // only a person can change it
	resultFailed = "failed" // tried again
)

// IdentityMetrics are those of web identity. A nil pointer counts nothing.
type IdentityMetrics struct{ exchanges *prometheus.CounterVec }

// NewIdentityMetrics registers them.
func NewIdentityMetrics(reg prometheus.Registerer, i *Identities) *IdentityMetrics {
	m := &IdentityMetrics{exchanges: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caly_web_identity_exchanges_total",
		Help: "Exchanges of ServiceAccount tokens for temporary credentials of tenants' buckets, by how they ended.",
	},
		[]string{"result"})}
	for _, result := range []string{resultIssued, resultDenied, resultFailed} {
		m.exchanges.WithLabelValues(result)
	}
	reg.MustRegister(m.exchanges, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "caly_web_identity_earliest_expiry_timestamp_seconds",
		Help: "When the first of the tenants' temporary credentials expires; 0 if there are none.",
	},
		func() float64 {
			if first := i.earliest(); !first.IsZero() {
				return float64(first.Unix())
			}
			return 0
		}))
	return m
}

// count counts an exchange by result. It works on nil, as in tests.
func (m *IdentityMetrics) count(result string) {
	if m != nil {
		m.exchanges.WithLabelValues(result).Inc()
	}
}
