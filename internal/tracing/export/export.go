// Package export sends the traces of a program to an OpenTelemetry collector, as OTLP over HTTP. A collector that is slow
// or down costs the spans that it does not take, and nothing else.
package export

import (
	"context"
	"fmt"
	"log/slog"
	"math"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/caly-dev/caly/internal/tracing"
)

// Options of New.
type Options struct {
	// Endpoint is the collector's URL, without the path /v1/traces. Empty: no trace is made.
	Endpoint string
	// Ratio is the share of traces that are sampled, from 0 to 1. It holds for traces that begin here.
	Ratio float64
	// Service and Version name the program.
	Service, Version string
	// Pod and Namespace are where it runs; empty: unknown.
	Pod, Namespace string
	// Requested bounds the traces that are sampled because another process asks for it, a second. 0 means unlimited.
	Requested int
	// Metrics is where metrics are registered; nowhere when nil.
	Metrics prometheus.Registerer
	Log     *slog.Logger

	times times
}

// Provider makes the traces of a program. Nil makes none.
type Provider struct {
	provider *sdk.TracerProvider
	queue    *queue
	ratio    float64
}

// New returns a provider, which must be shut down; nil without an endpoint.
func New(o Options) (*Provider, error) {
	if o.Endpoint == "" {
		return nil, nil // a nil Provider is one that is off
	}
	target, err := parseEndpoint(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("--trace-endpoint: %w", err)
	}
	if math.IsNaN(o.Ratio) || o.Ratio < 0 || o.Ratio > 1 {
		return nil, fmt.Errorf("--trace-sample-ratio %v: it must be between 0 and 1", o.Ratio)
	}
	if o.times == (times{}) {
		o.times = defaultTimes
	}
	queue := newQueue(o.Log, o.times)
	// An exporter that is not started would not close the client's connection at its end. Starting waits for nothing.
	queue.exporter, err = otlptrace.New(context.Background(), newClient(target, o.times.request, queue.reject))
	if err != nil {
		return nil, err
	}
	if o.Metrics != nil {
		o.Metrics.MustRegister(queue.outcomes)
	}
	p := &Provider{queue: queue, ratio: o.Ratio}
	p.provider = sdk.NewTracerProvider(
		sdk.WithSpanProcessor(queue), sdk.WithSampler(newSampler(o.Requested)), sdk.WithResource(o.resource()),
		sdk.WithRawSpanLimits(sdk.SpanLimits{
			AttributeValueLengthLimit:   256,
			AttributeCountLimit:         32,
			EventCountLimit:             16,
			LinkCountLimit:              4,
			AttributePerEventCountLimit: 8,
			AttributePerLinkCountLimit:  8,
		}),
	)
	go queue.run()
	return p, nil
}

// resource names the program and the SDK. The SDK adds what OTEL_RESOURCE_ATTRIBUTES has.
func (o Options) resource() *resource.Resource {
	var attributes []attribute.KeyValue
	for key, value := range map[string]string{
		"service.name":           o.Service,
		"service.version":        o.Version,
		"service.instance.id":    o.Pod,
		"k8s.pod.name":           o.Pod,
		"k8s.namespace.name":     o.Namespace,
		"telemetry.sdk.language": "go",
		"telemetry.sdk.name":     "opentelemetry",
		"telemetry.sdk.version":  otel.Version(),
	} {
		if value != "" {
			attributes = append(attributes, attribute.String(key, value))
		}
	}
	return resource.NewSchemaless(attributes...)
}

// Tracer begins traces; nil if p is.
func (p *Provider) Tracer() *tracing.Tracer {
	if p == nil {
		return nil
	}
	return tracing.NewTracer(p.provider.Tracer(tracing.Scope), p.ratio)
}

// Shutdown exports what is queued, for as long as ctx allows.
func (p *Provider) Shutdown(ctx context.Context) {
	if p != nil {
		_ = p.queue.Shutdown(ctx)
		_ = p.provider.Shutdown(ctx)
	}
}
