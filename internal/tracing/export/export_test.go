package export

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/logtest"
	"github.com/caly-dev/caly/internal/testkit/otlptest"
	"github.com/caly-dev/caly/internal/tracing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hurry has times that do not slow tests down.
var hurry = times{
	gather:  5 * time.Millisecond,
	request: 200 * time.Millisecond,
	retry:   10 * time.Millisecond,
	quiet:   time.Minute,
}

// start returns a provider that samples everything, and a function that counts spans by their outcome.
func start(t *testing.T, o Options) (*Provider, func() map[string]int) {
	t.Helper()
	registry := prometheus.NewRegistry()
	o.Metrics = registry
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.times == (times{}) {
		o.times = hurry
	}
	o.Ratio = 1
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		p.Shutdown(ctx)
	})
	return p, func() map[string]int {
		counts := map[string]int{}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range families[0].GetMetric() {
			if n := int(m.GetCounter().GetValue()); n > 0 {
				counts[m.GetLabel()[0].GetValue()] = n
			}
		}
		return counts
	}
}

// spans ends this many spans.
func spans(p *Provider, n int) {
	for range n {
		_, span := p.Tracer().Root(context.Background(), "span", time.Now())
		span.End()
	}
}

// TestExport checks what arrives at a collector.
func TestExport(t *testing.T) {
	receiver := otlptest.New(t)
	p, counts := start(t, Options{
		Endpoint:  receiver.URL + "/",
		Service:   "caly-test",
		Version:   "v1.2.3",
		Pod:       "pod-1",
		Namespace: "caly-system",
	})
	ctx, parent := p.Tracer().Root(t.Context(), "parent", time.Now(), trace.WithSpanKind(trace.SpanKindServer))
	_, child := tracing.Child(ctx, "child", trace.WithAttributes(attribute.String("long", strings.Repeat("x", 1000))))
	tracing.Fail(child, "why")
	child.End()
	parent.End()
	got := receiver.Await("child")
	if got.Parent != parent.SpanContext().SpanID().String() || got.Failed != "why" || got.Service != "caly-test" {
		t.Errorf("the child is %+v", got)
	}
	if size := len(got.Attributes["long"]); size != 256 {
		t.Errorf("an attribute of 1,000 bytes has %d, want 256", size)
	}
	want := map[string]string{
		"service.name":           "caly-test",
		"service.version":        "v1.2.3",
		"service.instance.id":    "pod-1",
		"k8s.pod.name":           "pod-1",
		"k8s.namespace.name":     "caly-system",
		"telemetry.sdk.language": "go",
		"telemetry.sdk.name":     "opentelemetry",
		"telemetry.sdk.version":  otel.Version(),
	}
	if diff := cmp.Diff(want, got.Resource); diff != "" {
		t.Errorf("the resource (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("SERVER parent\n  INTERNAL child\n", receiver.Tree()); diff != "" {
		t.Errorf("the trace (-want +got):\n%s", diff)
	}
	eventually.Holds(t, "two spans are exported", func() bool { return counts()["exported"] == 2 })
}

// TestOptions checks which options are rejected.
func TestOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		o    Options
		want string // of the error
	}{
		"off":              {Options{Ratio: 7}, ""},
		"a collector":      {Options{Endpoint: "http://collector.observability.svc:4318", Ratio: 0.01}, ""},
		"no scheme":        {Options{Endpoint: "collector:4318"}, "not a URL"},
		"gRPC":             {Options{Endpoint: "grpc://collector:4317"}, "not a URL"},
		"no host":          {Options{Endpoint: "http:///v1/traces"}, "not a URL"},
		"credentials":      {Options{Endpoint: "http://user:secret@collector:4318"}, "neither credentials nor a query"},
		"a key in a query": {Options{Endpoint: "http://collector:4318?key=secret"}, "neither credentials nor a query"},
		"a great ratio":    {Options{Endpoint: "http://collector:4318", Ratio: 1.1}, "between 0 and 1"},
		"a negative ratio": {Options{Endpoint: "http://collector:4318", Ratio: -0.1}, "between 0 and 1"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := New(tc.o)
			p.Shutdown(t.Context())
			text := ""
			if err != nil {
				text = err.Error()
			}
			if (err != nil) != (tc.want != "") || !strings.Contains(text, tc.want) || strings.Contains(text, "secret") {
				t.Errorf("the error is %q, want %q", text, tc.want)
			}
			if off := tc.o.Endpoint == "" || err != nil; off != (p.Tracer() == nil) {
				t.Error("a tracer exists that exports nothing, or does not exist")
			}
		})
	}
}

// message returns an ExportTraceServiceResponse that rejects spans.
func message(rejected int64, why string) []byte {
	inner := protowire.AppendTag(nil, 1, protowire.VarintType)
	inner = protowire.AppendVarint(inner, uint64(rejected))
	inner = protowire.AppendTag(inner, 2, protowire.BytesType)
	inner = protowire.AppendString(inner, why)
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), inner)
}

// TestBadCollectors checks that no collector makes a span wait, keeps the program from ending, or has more than a bounded
// number of spans and requests.
func TestBadCollectors(t *testing.T) {
	protobuf := func(w http.ResponseWriter, body []byte) {
		w.Header().Set("Content-Type", protobufType)
		_, _ = w.Write(body)
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("spans went to where a collector sent them")
	}))
	defer elsewhere.Close()
	for name, tc := range map[string]struct {
		answer       func(w http.ResponseWriter, r *http.Request)
		want         map[string]int
		wantRequests int32
	}{
		"answers 500": {
			func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "no\x1b[31m", http.StatusInternalServerError)
			},
			map[string]int{"failed": 10}, 1,
		},
		"answers 503": {
			func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusServiceUnavailable) },
			map[string]int{"failed": 10}, 3,
		},
		"redirects": {
			func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			},
			map[string]int{"failed": 10}, 1,
		},
		"hangs up": {
			func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			map[string]int{"failed": 10}, 3,
		},
		"rejects some": {
			func(w http.ResponseWriter, _ *http.Request) { protobuf(w, message(3, "too old")) },
			map[string]int{"exported": 7, "rejected": 3}, 1,
		},
		"rejects more than it got": {
			func(w http.ResponseWriter, _ *http.Request) { protobuf(w, message(1<<62, "")) },
			map[string]int{"rejected": 10}, 1,
		},
		"rejects a negative number": {
			func(w http.ResponseWriter, _ *http.Request) { protobuf(w, message(-5, "")) },
			map[string]int{"exported": 10}, 1,
		},
		"answers garbage": {
			func(w http.ResponseWriter, _ *http.Request) { protobuf(w, []byte("\x0a\xff\xff\xff\xff\xff")) },
			map[string]int{"exported": 10}, 1,
		},
		"answers without end": {
			func(w http.ResponseWriter, r *http.Request) {
				for r.Context().Err() == nil {
					protobuf(w, make([]byte, 1<<16))
				}
			},
			map[string]int{"exported": 10}, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				tc.answer(w, r)
			}))
			defer server.Close()
			var lines logtest.Buffer
			slow := hurry
			slow.gather = 100 * time.Millisecond // so that the spans are one batch
			p, counts := start(t, Options{Endpoint: server.URL, Log: slog.New(lines.Handler()), times: slow})
			spans(p, 10)
			eventually.Holds(t, "all spans are counted", func() bool {
				total := 0
				for n := range maps.Values(counts()) {
					total += n
				}
				return total == 10
			})
			if diff := cmp.Diff(tc.want, counts()); diff != "" {
				t.Errorf("spans by outcome (-want +got):\n%s", diff)
			}
			if n := requests.Load(); n != tc.wantRequests {
				t.Errorf("the collector got %d requests, want %d", n, tc.wantRequests)
			}
			if text := lines.String(); strings.Count(text, "\n") > 1 || strings.Contains(text, "\x1b") {
				t.Errorf("the log is %q", text)
			}
		})
	}
}

// TestHangingCollector checks that a collector that never answers costs what the queue holds: ends of spans do not wait,
// and what finds no room is dropped and counted.
func TestHangingCollector(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and never reads
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	long := hurry
	long.request = time.Hour
	p, counts := start(t, Options{Endpoint: "http://" + listener.Addr().String(), times: long})
	const sent = 10 * maxQueued
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		spans(p, sent)
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatalf("%d spans wait for the collector", sent)
	}
	dropped := counts()["dropped"]
	if least := sent - maxQueued - 2*maxBatch; dropped < least {
		t.Errorf("%d spans were dropped, want at least %d", dropped, least)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begun := time.Now()
	p.Shutdown(ctx)
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("the end took %s, want 100 ms", took)
	}
	want := map[string]int{"dropped": dropped, "failed": sent - dropped}
	if diff := cmp.Diff(want, counts()); diff != "" {
		t.Errorf("spans by outcome (-want +got):\n%s", diff)
	}
	spans(p, 1) // after the end
	if got := counts(); got["dropped"] > dropped+1 {
		t.Errorf("after the end, spans by outcome are %v", got)
	}
}

// TestDeadCollector checks a collector that refuses connections, and its return.
func TestDeadCollector(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	p, counts := start(t, Options{Endpoint: "http://" + address})
	spans(p, 5)
	eventually.Holds(t, "the spans are lost", func() bool { return counts()["failed"] == 5 })
	listener, err = net.Listen("tcp", address)
	if err != nil {
		t.Skip("another program took the port")
	}
	receiver := otlptest.New(t)
	server := &http.Server{Handler: receiver}
	go func() { _ = server.Serve(listener) }()
	defer func() { _ = server.Close() }()
	spans(p, 3)
	eventually.Holds(t, "spans are exported again", func() bool { return counts()["exported"] == 3 })
}

// TestShutdownExports checks that spans that ended just before the program are exported.
func TestShutdownExports(t *testing.T) {
	receiver := otlptest.New(t)
	patient := hurry
	patient.gather = time.Hour
	p, _ := start(t, Options{Endpoint: receiver.URL, times: patient})
	const sent = maxBatch*2 + 7
	spans(p, sent)
	p.Shutdown(t.Context())
	if got := len(receiver.Spans()); got != sent {
		t.Errorf("%d spans arrived, want %d", got, sent)
	}
}

// TestRetryAfter checks how long a collector may ask to wait.
func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"":                              0,
		"2":                             2 * time.Second,
		"3600":                          maxRetryAfter,
		"-1":                            0,
		"99999999999999":                maxRetryAfter,
		"Wed, 21 Oct 2026 07:28:00 GMT": 0,
	} {
		answer := &http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {value}}}
		var failed *exportError
		if !errors.As(refused(answer, nil), &failed) || !failed.again || failed.after != want {
			t.Errorf("Retry-After %q: %+v, want %s", value, failed, want)
		}
	}
}

// FuzzPartial checks that no answer of a collector panics.
func FuzzPartial(f *testing.F) {
	f.Add(message(3, "too old"))
	f.Add([]byte("\x0a\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		if _, text := parsePartial(answer); len(text) > len(answer) {
			t.Errorf("%q has the message %q", answer, text)
		}
	})
}
