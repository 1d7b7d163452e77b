package ingest

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tracing"
)

// Trace begins the span of a commit, below the one in the context if that is recorded. By the conventions for messaging
// its context is that of the recordings which the events name: it is stored with them, and the spans of their uploads
// have it as their parent. EndTrace ends it.
func Trace(ctx context.Context, events []store.Event) (context.Context, trace.Span) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, tracing.Off
	}
	recordings := 0
	for i := range events {
		recordings += len(events[i].Recordings)
	}
	name, kind := "commit events", trace.SpanKindClient
	attributes := []attribute.KeyValue{
		attribute.String("db.system.name", "postgresql"),
		attribute.Int("caly.events", len(events)),
	}
	if len(events) == 1 {
		attributes = append(attributes, tracing.CallSID.String(events[0].CallSID))
	}
	if recordings > 0 {
		name, kind = "commit "+tracing.Queue, trace.SpanKindProducer
		attributes = append(attributes, tracing.Messaging("send", "commit")...)
		attributes = append(attributes, attribute.Int("messaging.batch.message_count", recordings))
	}
	ctx, span := tracing.Child(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attributes...))
	for i := range events {
		events[i].Traceparent = tracing.Traceparent(ctx)
	}
	return ctx, span
}

// EndTrace ends the span of a commit.
func EndTrace(span trace.Span, err error) {
	if err != nil {
		tracing.Fail(span, "not_committed")
	}
	span.End()
}
