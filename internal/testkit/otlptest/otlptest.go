// Package otlptest gives tests a receiver of traces, which reads them as a collector does: OTLP over HTTP.
package otlptest

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// Span is a span that arrived.
type Span struct {
	// Name and Kind are the span's, and Service is the program's.
	Name, Kind, Service string
	// Trace, ID and Parent are in hex; Parent is empty for a root.
	Trace, ID, Parent string
	// Links are the spans that it links to, in hex.
	Links []string
	// Attributes and Resource are in text.
	Attributes, Resource map[string]string
	// Failed has the message of an error status.
	Failed string
	// Start and End are in Unix nanoseconds.
	Start, End uint64
}

// Receiver is a collector that accepts everything that is well formed. What is not fails the test.
type Receiver struct {
	// URL is the endpoint, without a path.
	URL string
	t   testing.TB

	mu     sync.Mutex
	spans  []Span
	bodies [][]byte
}

// New starts a receiver, which ends with the test.
func New(t testing.TB) *Receiver {
	t.Helper()
	r := &Receiver{t: t}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

// ServeHTTP receives one request.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(io.LimitReader(request.Body, 16<<20))
	if err != nil {
		return // the sender gave up
	}
	spans, err := Decode(request, body)
	if err != nil {
		r.t.Error(err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.spans = append(r.spans, spans...)
	r.bodies = append(r.bodies, body)
	r.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-protobuf") // and an empty message: all were accepted
}

// Decode reads the spans of a request, and returns an error for one that a collector would reject.
func Decode(request *http.Request, body []byte) ([]Span, error) {
	if request.Method != http.MethodPost || request.URL.Path != "/v1/traces" ||
		request.Header.Get("Content-Type") != "application/x-protobuf" {
		return nil, fmt.Errorf("otlptest: %s %s of type %q is not OTLP", request.Method, request.URL.Path,
			request.Header.Get("Content-Type"))
	}
	// A collector's ExportTraceServiceRequest has the same fields; its package would bring gRPC.
	var data tracepb.TracesData
	if err := proto.Unmarshal(body, &data); err != nil {
		return nil, fmt.Errorf("otlptest: %w", err)
	}
	var spans []Span
	for _, resource := range data.GetResourceSpans() {
		of := texts(resource.GetResource().GetAttributes())
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				if len(span.GetTraceId()) != 16 || len(span.GetSpanId()) != 8 ||
					span.GetEndTimeUnixNano() < span.GetStartTimeUnixNano() {
					return nil, fmt.Errorf(
						"otlptest: the span %q has a wrong id or ends before it starts", span.GetName(),
					)
				}
				spans = append(spans, read(span, of))
			}
		}
	}
	return spans, nil
}

// read returns a span of a resource.
func read(span *tracepb.Span, resource map[string]string) Span {
	s := Span{
		Name:       span.GetName(),
		Kind:       strings.TrimPrefix(span.GetKind().String(), "SPAN_KIND_"),
		Service:    resource["service.name"],
		Trace:      hex.EncodeToString(span.GetTraceId()),
		ID:         hex.EncodeToString(span.GetSpanId()),
		Parent:     hex.EncodeToString(span.GetParentSpanId()),
		Attributes: texts(span.GetAttributes()),
		Resource:   resource,
		Start:      span.GetStartTimeUnixNano(),
		End:        span.GetEndTimeUnixNano(),
	}
	if span.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR {
		s.Failed = span.GetStatus().GetMessage()
	}
	for _, link := range span.GetLinks() {
		s.Links = append(s.Links, hex.EncodeToString(link.GetSpanId()))
	}
	return s
}

// texts returns attributes in text.
func texts(attributes []*commonpb.KeyValue) map[string]string {
	all := map[string]string{}
	for _, attribute := range attributes {
		switch value := attribute.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			all[attribute.GetKey()] = value.StringValue
		case *commonpb.AnyValue_IntValue:
			all[attribute.GetKey()] = fmt.Sprint(value.IntValue)
		case *commonpb.AnyValue_BoolValue:
			all[attribute.GetKey()] = fmt.Sprint(value.BoolValue)
		case *commonpb.AnyValue_DoubleValue:
			all[attribute.GetKey()] = fmt.Sprint(value.DoubleValue)
		default:
			all[attribute.GetKey()] = attribute.GetValue().String()
		}
	}
	return all
}

// Spans returns what has arrived, in the order of their starts.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	spans := slices.Clone(r.spans)
	slices.SortStableFunc(spans, func(a, b Span) int { return int(int64(a.Start) - int64(b.Start)) })
	return spans
}

// Received returns all bytes that have arrived, for a search for what must not be in them.
func (r *Receiver) Received() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all strings.Builder
	for _, body := range r.bodies {
		all.Write(body)
	}
	return all.String()
}

// Await waits for a span with the name and returns the first.
func (r *Receiver) Await(name string) Span {
	r.t.Helper()
	var found Span
	eventually.Holds(r.t, "a span "+name, func() bool {
		spans := r.Spans()
		at := slices.IndexFunc(spans, func(s Span) bool { return s.Name == name })
		if at >= 0 {
			found = spans[at]
		}
		return at >= 0
	})
	return found
}

// Tree returns the spans as an indented text: kind and name, each below its parent, in the order of their starts.
func (r *Receiver) Tree() string {
	spans := r.Spans()
	var text strings.Builder
	var write func(parent string, depth int)
	write = func(parent string, depth int) {
		for _, s := range spans {
			if s.Parent == parent {
				fmt.Fprintf(&text, "%s%s %s\n", strings.Repeat("  ", depth), s.Kind, s.Name)
				write(s.ID, depth+1)
			}
		}
	}
	write("", 0)
	return text.String()
}
