// Package tracing is what the packages of Caly use to trace a call. Programs that export traces use package export too.
//
// Only the beginning of a trace needs a Tracer, which is nil while tracing is off. Every later step finds its parent in
// the context, and does nothing if that is not sampled.
package tracing

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Scope is the instrumentation scope of all spans.
const Scope = "github.com/caly-dev/caly"

// Header is the header of W3C Trace Context that names the parent.
const Header = "Traceparent"

// Attributes of spans that the semantic conventions have no name for.
const (
	// Tenant is namespace/name.
	Tenant = attribute.Key("caly.tenant")
	// CallSID is Exotel's.
	CallSID = attribute.Key("caly.call.sid")
	// RecordingID is the recording's within its tenant.
	RecordingID = attribute.Key("caly.recording.id")
	// SessionID is the stream session's.
	SessionID = attribute.Key("caly.stream.session.id")
	// Reason is why something ended or was rejected, one of a closed set.
	Reason = attribute.Key("caly.reason")
)

// Queue is the queue of recordings, as the conventions for messaging name it.
const Queue = "recordings"

// Messaging returns the attributes of an operation on the queue of recordings: its type in the conventions, and what it
// is called here.
func Messaging(kind, name string) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "postgresql"),
		attribute.String("messaging.destination.name", Queue),
		attribute.String("messaging.operation.type", kind),
		attribute.String("messaging.operation.name", name),
	}
}

// Off is the span of everything that is not traced.
var Off trace.Span = noop.Span{}

// Tracer begins traces. A nil one begins none.
type Tracer struct {
	tracer trace.Tracer
	ratio  float64
}

// NewTracer returns a tracer that samples a share of the traces that begin here, from 0 to 1. What another process began
// is sampled as it says, unless the sampler of the tracer decides otherwise.
func NewTracer(tracer trace.Tracer, ratio float64) *Tracer { return &Tracer{tracer, ratio} }

// Wants reports whether a span with this parent should begin. It costs a random number at most: most calls are not
// traced, and a span that is not sampled would cost a microsecond.
func (t *Tracer) Wants(parent trace.SpanContext) bool {
	switch {
	case t == nil:
		return false
	case parent.IsValid():
		return parent.IsSampled()
	}
	return rand.Float64() < t.ratio //nolint:gosec // no secret
}

// Root begins a span without a parent in this process. Its parent is what the context has of another process, if
// anything. The caller has asked Wants.
func (t *Tracer) Root(
	ctx context.Context, name string, begun time.Time, options ...trace.SpanStartOption,
) (context.Context, trace.Span) {
	return t.tracer.Start(ctx, name, append(options, trace.WithTimestamp(begun))...)
}

// Child begins a span below the one in the context. If that is not recorded, it returns the context as it is and Off.
func Child(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Off
	}
	return parent.TracerProvider().Tracer(Scope).Start(ctx, name, options...)
}

// Fail marks a span as failed for a reason of a closed set. The text of an error may hold what must not leave the
// cluster, and is left out.
func Fail(span trace.Span, reason string) {
	if !span.IsRecording() {
		return
	}
	span.SetStatus(codes.Error, reason)
	span.SetAttributes(Reason.String(reason), attribute.String("error.type", reason))
}

// Logger returns a logger whose lines carry the trace in the context if that is sampled.
func Logger(ctx context.Context, log *slog.Logger) *slog.Logger {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsSampled() {
		return log
	}
	return log.With("trace_id", span.TraceID().String(), "span_id", span.SpanID().String())
}

// LoggerOf returns a logger whose lines carry the trace of a traceparent; the same logger if that is empty.
func LoggerOf(traceparent string, log *slog.Logger) *slog.Logger {
	if traceparent == "" {
		return log
	}
	return Logger(trace.ContextWithSpanContext(context.Background(), Parse(traceparent)), log)
}

// Observe observes a value, with the trace in the context as its exemplar if that is sampled.
func Observe(ctx context.Context, o prometheus.Observer, value float64) {
	if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
		if with, ok := o.(prometheus.ExemplarObserver); ok {
			with.ObserveWithExemplar(value, prometheus.Labels{
				"trace_id": span.TraceID().String(),
				"span_id":  span.SpanID().String(),
			})
			return
		}
	}
	o.Observe(value)
}

// Traceparent returns the context's span for another process, as a header or a column has it; the empty string if it is
// not sampled: without the column, the other process does not begin a trace of its own.
func Traceparent(ctx context.Context) string {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsSampled() {
		return ""
	}
	return "00-" + span.TraceID().String() + "-" + span.SpanID().String() + "-01"
}

// Parse reads a traceparent of W3C Trace Context: version, trace id, parent id and flags, in lower-case hex. It returns
// the zero value, which is not valid, for a text that is not one. Of the flags it keeps "sampled".
func Parse(traceparent string) trace.SpanContext {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if len(traceparent) < length {
		return trace.SpanContext{}
	}
	version := traceparent[:2]
	parts := strings.Split(traceparent[:length], "-")
	longer := len(traceparent) > length
	if len(parts) != 4 || version == "ff" || longer && (version == "00" || traceparent[length] != '-') {
		return trace.SpanContext{}
	}
	for i, size := range []int{2, 32, 16, 2} {
		if len(parts[i]) != size || strings.Trim(parts[i], "0123456789abcdef") != "" {
			return trace.SpanContext{}
		}
	}
	traceID, err := trace.TraceIDFromHex(parts[1])
	if err != nil { // all zeros
		return trace.SpanContext{}
	}
	spanID, err := trace.SpanIDFromHex(parts[2])
	if err != nil {
		return trace.SpanContext{}
	}
	var flags trace.TraceFlags
	if strings.IndexByte("13579bdf", parts[3][1]) >= 0 {
		flags = trace.FlagsSampled
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID:    traceID,
		SpanID:     spanID,
		TraceFlags: flags,
		Remote:     true,
	})
}
