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
	parent := verify.Parent(r, h.o.TrustedProxies)
	if !h.o.Tracer.Wants(parent) {
		return
	}
	v.ctx, v.span = h.o.Tracer.Root(trace.ContextWithRemoteSpanContext(v.ctx, parent), r.Method+" "+to.pattern, v.begun,
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
