package stream

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/tracing"
)

// trace begins the span of a verified stream, at the time of its handshake, and returns the request with it. A request
// that is not verified has none: a stranger cannot fill the collector, or the traces of others.
func (h *Handler) trace(r *http.Request, g guest, to destination, arrived time.Time) (*http.Request, trace.Span) {
	parent := verify.Parent(r, h.o.TrustedProxies)
	if !h.o.Tracer.Wants(parent) {
		return r, tracing.Off
	}
	ctx := trace.ContextWithRemoteSpanContext(r.Context(), parent)
	ctx, span := h.o.Tracer.Root(ctx, r.Method+" "+to.pattern, arrived,
		trace.WithSpanKind(trace.SpanKindServer))
	if !span.IsRecording() {
		return r, tracing.Off
	}
	span.SetAttributes(
		tracing.Tenant.String(g.tenant.ID),
		attribute.String("http.request.method", r.Method),
		attribute.String("http.route", to.pattern),
	)
	return r.WithContext(ctx), span
}

// endStep ends a span, with the reason of a rejection if there is one.
func endStep(span trace.Span, err error) {
	if err != nil {
		reason := reasonInternal
		var p *refusal
		if errors.As(err, &p) {
			reason = p.reason
		}
		tracing.Fail(span, reason)
	}
	span.End()
}

// dialling begins the span of a connection to the agent. It has the agent's host, never its URL.
func dialling(ctx context.Context, a *tenantconfig.Audio) (context.Context, trace.Span) {
	ctx, span := tracing.Child(ctx, "connect agent", trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(attribute.String("server.address", hostOf(a.AgentURL)))
	}
	return ctx, span
}

// endTrace ends the span of the stream with what became of it.
func (s admitted) endTrace(end *bridge.End) {
	if !s.span.IsRecording() {
		return
	}
	s.span.SetAttributes(
		tracing.SessionID.String(s.ID()),
		tracing.CallSID.String(s.CallSID()),
		tracing.Reason.String(string(end.Reason)),
		attribute.String("caly.stream.side", string(end.Side)),
		attribute.Int("caly.stream.close_code", end.Code),
		attribute.Bool("caly.stream.reconnected", end.Reconnected),
	)
	s.span.End()
}
