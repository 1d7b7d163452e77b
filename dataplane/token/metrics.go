package token

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of a check that are not a Reason.
const (
	resultValid    = "valid"
	resultNotReady = "not_ready"
)

type checkMetrics struct {
	valid, notReady prometheus.Counter
	refused         map[Reason]prometheus.Counter
}

func newCheckMetrics(reg prometheus.Registerer) *checkMetrics {
	results := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caly_auth_token_checks_total",
		Help: "Checks of access tokens, by result: valid, not_ready (no key yet, or it is not known yet what was " +
			"revoked), or why it was refused.",
	},
		[]string{"result"})
	// Looked up once: a check takes a microsecond, and the lookup would be a tenth of it. A rate needs the zero before the first, too.
	m := &checkMetrics{
		valid:    results.WithLabelValues(resultValid),
		notReady: results.WithLabelValues(resultNotReady),
		refused:  map[Reason]prometheus.Counter{},
	}
	for _, r := range Reasons() {
		m.refused[r] = results.WithLabelValues(string(r))
	}
	if reg != nil {
		reg.MustRegister(results)
	}
	return m
}

func (m *checkMetrics) count(err error) {
	if err == nil {
		m.valid.Inc()
		return
	}
	var refused *Error
	if errors.As(err, &refused) {
		m.refused[refused.Reason].Inc()
		return
	}
	m.notReady.Inc()
}
