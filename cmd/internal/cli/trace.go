package cli

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/pflag"

	"github.com/caly-dev/caly/internal/tracing/export"
)

// traceFlush bounds how long the end of a program waits for its last spans.
const traceFlush = 2 * time.Second

// maxRequested bounds the traces that a proxy has sampled in one process, a second.
const maxRequested = 100

// TraceFlags are the flags of tracing, which all programs have.
type TraceFlags struct {
	Endpoint string
	Ratio    float64
}

// AddTo adds the flags to a command.
func (t *TraceFlags) AddTo(f *pflag.FlagSet) {
	f.StringVar(
		&t.Endpoint,
		"trace-endpoint",
		"",
		"URL of an OpenTelemetry collector, such as http://collector.observability.svc:4318, that traces are sent to as "+
			"OTLP over HTTP; empty: no trace is made",
	)
	f.Float64Var(
		&t.Ratio,
		"trace-sample-ratio",
		0.01,
		"share of the traces that are sampled, from 0 to 1; a trace that a trusted proxy began is sampled as the proxy says",
	)
}

// Enabled reports whether traces are made.
func (t *TraceFlags) Enabled() bool { return t.Endpoint != "" }

// MetricsOptions are those of a handler of metrics. Only OpenMetrics has exemplars, which lead from a metric to a trace. It
// writes the bounds of buckets otherwise ("1.0", not "1"), so that nothing changes while no trace is made.
func (t *TraceFlags) MetricsOptions() promhttp.HandlerOpts {
	return promhttp.HandlerOpts{EnableOpenMetrics: t.Enabled()}
}

// TraceTarget is the program that makes traces.
type TraceTarget struct {
	Service, Version string
	// Proxied is true if proxies may have traces sampled.
	Proxied bool
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Start returns what makes traces, and what ends it: call that last.
func (t *TraceFlags) Start(of TraceTarget) (*export.Provider, func(), error) {
	host, _ := os.Hostname() // empty: unknown
	options := export.Options{
		Endpoint:  t.Endpoint,
		Ratio:     t.Ratio,
		Service:   of.Service,
		Version:   of.Version,
		Pod:       cmp.Or(os.Getenv("POD_NAME"), host),
		Namespace: os.Getenv("POD_NAMESPACE"),
		Metrics:   of.Metrics,
		Log:       of.Log,
	}
	if of.Proxied {
		options.Requested = maxRequested
	}
	provider, err := export.New(options)
	if err != nil {
		return nil, nil, UsageError(nil, err)
	}
	return provider, func() {
		ctx, cancel := context.WithTimeout(context.Background(), traceFlush)
		defer cancel()
		provider.Shutdown(ctx)
	}, nil
}
