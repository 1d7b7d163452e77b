package verify

import (
	"net/http"
	"net/netip"

	"go.opentelemetry.io/otel/trace"

	"github.com/caly-dev/caly/internal/tracing"
)

// Single returns the value of a header that stands in the request once.
func Single(header http.Header, name string) (string, bool) {
	values := header.Values(name)
	if len(values) != 1 {
		return "", false
	}
	return values[0], true
}

// Parent returns the span that a trusted proxy names as the request's parent in its traceparent. It is not valid for
// every other request: a stranger could make traces, and put requests into the traces of others.
func Parent(r *http.Request, trusted []netip.Prefix) trace.SpanContext {
	parent, ok := Single(r.Header, tracing.Header)
	if !ok || !FromTrusted(r, trusted) {
		return trace.SpanContext{}
	}
	return tracing.Parse(parent)
}
