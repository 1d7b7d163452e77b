package webhook

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tracing"
)

// visit is a webhook from its headers to its answer.
type visit struct {
	begun time.Time
	// ctx is the request's, with the webhook's span once that has begun.
	ctx  context.Context
	span trace.Span
}

// trace begins the span of a verified webhook, at the time of its headers. A webhook that nobody has verified has none:
// a stranger cannot fill the collector, or the traces of others.
func (h *Handler) trace(r *http.Request, v *visit, tenant string, to destination) {
	if h.o.Tracer == nil {
		return
	}
	ctx := v.ctx
	if parent := verify.Parent(r, h.o.TrustedProxies); parent.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	}
	v.ctx, v.span = tracing.Root(ctx, h.o.Tracer, r.Method+" "+to.pattern, v.begun,
		trace.WithSpanKind(trace.SpanKindServer))
	if v.span.IsRecording() {
		v.span.SetAttributes(
			tracing.Tenant.String(tenant),
			attribute.String("http.request.method", r.Method),
			attribute.String("http.route", to.pattern),
		)
	}
}

// end ends the span with the answer. The reason is empty after a success.
func (v *visit) end(status int, outcomes []store.Outcome, reason string) {
	if v.span == nil || !v.span.IsRecording() {
		return
	}
	v.span.SetAttributes(attribute.Int("http.response.status_code", status))
	if len(outcomes) == 1 {
		v.span.SetAttributes(attribute.String("caly.event.outcome", outcomeName(outcomes[0])))
	}
	if status >= http.StatusInternalServerError {
		tracing.Fail(v.span, reason)
	}
	v.span.End()
}

// sending begins the span of a commit. By the conventions for messaging its context is that of the recordings which the
// events name: it is stored with them, and the spans of their uploads have it as their parent.
func sending(ctx context.Context, events []store.Event) (context.Context, trace.Span) {
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
		tracing.CallSID.String(events[0].CallSID),
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

// endSending ends the span of a commit.
func endSending(span trace.Span, err error) {
	if err != nil {
		tracing.Fail(span, "not_committed")
	}
	span.End()
}
