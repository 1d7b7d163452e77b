package stream

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/budget"
	"github.com/caly-dev/caly/internal/metric"
)

// Reasons of a refusal, in addition to those of package verify: a closed set, for log and metric.
const (
	reasonPath           = "path"
	reasonMethod         = "method"
	reasonNoWebSocket    = "no_websocket"
	reasonHandshake      = "handshake"
	reasonBody           = "body"
	reasonNoCall         = "no_call"
	reasonNoKey          = "no_key"
	reasonUnknown        = "unknown_tenant"
	reasonNotYetKnown    = "tenants_not_read"
	reasonSuspended      = "suspended"
	reasonNoOneTimeToken = "no_one_time_token"
	reasonWrongToken     = "wrong_one_time_token"
	reasonExpiredToken   = "expired_one_time_token"
	reasonUsedToken      = "used_one_time_token"
	reasonOtherCall      = "other_call"
	reasonTenantLimit    = "tenant_limit"
	reasonPodLimit       = "pod_limit"
	reasonBusy           = "busy"
	reasonTenantBusy     = "tenant_busy"
	reasonDraining       = "draining"
	reasonAgent          = "agent"
	reasonGone           = "client_gone"
	reasonDatabase       = "database"
	reasonInternal       = "internal"
)

func reasons() []string {
	return append(
		verify.Reasons(),
		reasonPath,
		reasonMethod,
		reasonNoWebSocket,
		reasonHandshake,
		reasonBody,
		reasonNoCall,
		reasonNoKey,
		reasonUnknown,
		reasonNotYetKnown,
		reasonSuspended,
		reasonNoOneTimeToken,
		reasonWrongToken,
		reasonExpiredToken,
		reasonUsedToken,
		reasonOtherCall,
		reasonTenantLimit,
		reasonPodLimit,
		reasonBusy,
		reasonTenantBusy,
		reasonDraining,
		reasonAgent,
		reasonGone,
		reasonDatabase,
		reasonInternal,
	)
}

// Why agents were not reached.
const (
	dialTimeout     = "timeout"
	dialRejected    = "rejected"  // it answered, but with something else than a WebSocket
	dialForbidden   = "forbidden" // its address is not allowed for agents
	dialTLS         = "tls"
	dialUnreachable = "unreachable"
)

func dialReasons() []string {
	return []string{dialTimeout, dialRejected, dialForbidden, dialTLS, dialUnreachable}
}

type metrics struct {
	audio     *bridge.Metrics
	rejected  map[string]prometheus.Counter
	dials     map[string]prometheus.Counter
	handshake prometheus.Histogram
	urls      prometheus.Counter
}

func newMetrics(r prometheus.Registerer, memory *budget.Budget) *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "caly", Subsystem: "stream", Name: name, Help: help}
	}
	rejected := prometheus.NewCounterVec(
		prometheus.CounterOpts(
			opts("rejected_total", "Streams and questions for a URL that were rejected, by reason."),
		),
		[]string{"reason"},
	)
	dials := prometheus.NewCounterVec(
		prometheus.CounterOpts(opts("agent_dial_failures_total", "Connections to agents that failed, by reason.")),
		[]string{"reason"},
	)
	m := &metrics{
		audio:    bridge.NewMetrics(r),
		rejected: map[string]prometheus.Counter{},
		dials:    map[string]prometheus.Counter{},
		urls: prometheus.NewCounter(
			prometheus.CounterOpts(opts("urls_total", "Questions for a stream's URL that were answered.")),
		),
		handshake: prometheus.NewHistogram(metric.WithNative(prometheus.HistogramOpts{
			Namespace: "caly",
			Subsystem: "stream",
			Name:      "handshake_seconds",
			Help:      "Time from a stream's request to its upgrade, the agent's included.",
			Buckets:   []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		})),
	}
	for _, reason := range reasons() {
		m.rejected[reason] = rejected.WithLabelValues(reason)
	}
	for _, reason := range dialReasons() {
		m.dials[reason] = dials.WithLabelValues(reason)
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("memory_bytes",
		"Bytes of the memory that all streams share, in use for what waits for slow sides and for long messages.")),
		func() float64 { return float64(memory.InUse()) })
	most := prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("memory_max_bytes", "The most bytes of this memory.")),
		func() float64 { return float64(memory.Max()) })
	r.MustRegister(rejected, dials, m.urls, m.handshake, waiting, most)
	return m
}
