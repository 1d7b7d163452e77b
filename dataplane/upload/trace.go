package upload

import (
	"context"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tracing"
)

// trace begins the span of an attempt at a recording whose webhook is traced. By the conventions for messaging the
// webhook's span is linked. It is the parent too, since an attempt is for one recording: so the trace ends with the
// verified object.
func (w *worker) trace(ctx context.Context, rec *store.Recording, begun time.Time) (context.Context, trace.Span) {
	queued := tracing.Parse(rec.Traceparent)
	if !queued.IsValid() || !w.o.Tracer.Wants(queued) {
		return ctx, tracing.Off
	}
	ctx = trace.ContextWithRemoteSpanContext(ctx, queued)
	about := trace.WithAttributes(append(
		tracing.Messaging("process", "process"),
		attribute.String("messaging.message.id", rec.ID),
		tracing.Tenant.String(rec.Tenant),
		tracing.CallSID.String(rec.CallSID),
		tracing.RecordingID.String(rec.ID),
		attribute.Int("caly.attempt", rec.Attempts+1),
	)...)
	if rec.Attempts == 0 {
		_, waited := w.o.Tracer.Root(ctx, "wait in "+tracing.Queue, rec.CreatedAt, about)
		waited.End(trace.WithTimestamp(begun))
	}
	return w.o.Tracer.Root(ctx, "process "+tracing.Queue, begun, about,
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(trace.Link{SpanContext: queued}))
}

// downloading begins the span of a download, which body.close ends. It has the source's host, never its URL.
func downloading(ctx context.Context, rawURL string) (context.Context, trace.Span) {
	ctx, span := tracing.Child(ctx, "download", trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(attribute.String("http.request.method", "GET"))
		if address, err := url.Parse(rawURL); err == nil {
			span.SetAttributes(attribute.String("server.address", address.Hostname()))
		}
	}
	return ctx, span
}

// storing begins the span of an operation on the bucket.
func (m *mover) storing(ctx context.Context, name string) (context.Context, trace.Span) {
	ctx, span := tracing.Child(ctx, name, trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(attribute.String("aws.s3.bucket", m.cfg.Bucket))
	}
	return ctx, span
}

// settling begins the span of what is told to the queue.
func settling(ctx context.Context) (context.Context, trace.Span) {
	ctx, span := tracing.Child(ctx, "settle "+tracing.Queue, trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(tracing.Messaging("settle", "settle")...)
	}
	return ctx, span
}

// ended ends a span with the code of an error, if there is one.
func ended(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		tracing.Fail(span, asFault(err).code)
	}
	span.End()
}

// settled ends the span of what was told to the queue.
func settled(span trace.Span, err error) {
	if err != nil {
		tracing.Fail(span, "not_settled")
	}
	span.End()
}
