package outbox

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/metric"
)

// Outcomes of mail, and of a try that is not the last.
const (
	outcomeSent      = "sent"
	outcomeRetried   = "retried"
	outcomeFailed    = "failed"
	outcomeExpired   = "expired"
	outcomeUncertain = "uncertain"
)

// steps are labels of the steps in which a server can fail, by what a mail.Error was doing; the rest are stepOther.
var steps = map[string]string{
	"connect":          "connect",
	"connect with TLS": "tls",
	"start TLS":        "tls",
	"greet":            "greet",
	"sign in":          "sign_in",
}

const stepOther = "other"

type metrics struct {
	sent     *prometheus.CounterVec
	failures *prometheus.CounterVec
	unusable atomic.Bool
	pending  atomic.Int64
	oldest   atomic.Pointer[time.Time] // when the oldest was written; nil before the first count
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{sent: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caly",
		Subsystem: "mail",
		Name:      "sent_total",
		Help: "Tries to send mail, by template and outcome: sent, retried (it will be tried again), failed (refused " +
			"for good), expired (its time " +
			"ran out), uncertain (given to the server without an answer; not sent again).",
	}, []string{"template", "outcome"})}
	for _, t := range mail.Templates() {
		for _, outcome := range []string{outcomeSent, outcomeRetried, outcomeFailed, outcomeExpired, outcomeUncertain} {
			m.sent.WithLabelValues(string(t), outcome) // a rate needs the zero before the first
		}
	}
	m.failures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caly",
		Subsystem: "mail",
		Name:      "server_failures_total",
		Help: "Times that the SMTP server accepted no mail from this pod, by step: connect, tls, greet, " +
			"sign_in, other.",
	}, []string{"step"})
	for _, step := range steps {
		m.failures.WithLabelValues(step)
	}
	m.failures.WithLabelValues(stepOther)
	if r == nil {
		return m
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "caly",
			Subsystem: "mail",
			Name:      name,
			Help:      help,
		}, value)
	}
	r.MustRegister(m.sent, m.failures,
		gauge("server_usable", "0 after the SMTP server accepted no mail from this pod at the last try, else 1.",
			m.usable),
		gauge("pending", "Mail that waits to be sent, up to 10,000. Each pod counts that of all tenants that it "+
			"knows, so take the greatest.", func() float64 { return float64(m.pending.Load()) }),
		metric.NewTimestamp("caly_mail_oldest_pending_timestamp_seconds",
			"When the oldest mail was written that waits to be sent; absent when none waits.", m.oldestPending))
	return m
}

// waiting records how much mail waits and when the oldest was written; the zero time when none waits.
func (m *metrics) waiting(n int, oldest time.Time) {
	m.pending.Store(int64(n))
	m.oldest.Store(&oldest)
}

func (m *metrics) oldestPending() time.Time {
	if at := m.oldest.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// count takes the template from the database. A template that this release does not know does not become a label.
func (m *metrics) count(template, outcome string) {
	for _, t := range mail.Templates() {
		if string(t) == template {
			m.sent.WithLabelValues(template, outcome).Inc()
		}
	}
}

// server counts a failure of the server; nil means that it accepts mail.
func (m *metrics) server(err error) {
	m.unusable.Store(err != nil)
	if err == nil {
		return
	}
	step := stepOther
	var failure *mail.Error
	if errors.As(err, &failure) && steps[failure.Doing] != "" {
		step = steps[failure.Doing]
	}
	m.failures.WithLabelValues(step).Inc()
}

func (m *metrics) usable() float64 {
	if m.unusable.Load() {
		return 0
	}
	return 1
}
