package webhook_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/otlptest"
	"github.com/caly-dev/caly/internal/tracing"
	"github.com/caly-dev/caly/internal/tracing/export"
)

const (
	tracePath   = "/webhooks/exotel/acme/support/status"
	remoteTrace = "0af7651916cd43dd8448eb211c80319c"
	remoteSpan  = "b7ad6b7169203331"
	proxyAddr   = "10.0.0.9:1"
)

// traced returns a receiver, a tracer that samples a share of the traces, and what ends it.
func traced(t *testing.T, ratio float64) (*otlptest.Receiver, *tracing.Tracer, func()) {
	t.Helper()
	receiver := otlptest.New(t)
	provider, err := export.New(export.Options{
		Endpoint:  receiver.URL,
		Ratio:     ratio,
		Service:   "caly-dataplane",
		Requested: 10,
		Log:       slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	end := func() { provider.Shutdown(t.Context()) }
	t.Cleanup(end)
	return receiver, provider.Tracer(), end
}

// TestTraceOfAWebhook checks the spans of a webhook, and the column that leads to the upload. No span holds a number or a URL.
func TestTraceOfAWebhook(t *testing.T) {
	_, db, look := realStore(t)
	receiver, tracer, end := traced(t, 1)
	registry := prometheus.NewRegistry()
	handler := handlerWith(t, webhook.Options{Store: db, Tracer: tracer, Metrics: registry})
	body := "CallSid=c1&Status=completed&EventType=terminal&From=09876543210&To=09123456789" +
		"&RecordingUrl=https%3A%2F%2Frecordings.exotel.com%2Fx%2Fc1.mp3%3Fkey%3Dpresigned-key"
	if recorder := post(handler, tracePath, sign(signingSecret, body), body); recorder.Code != http.StatusOK {
		t.Fatalf("answered %d %s", recorder.Code, recorder.Body)
	}
	if recorder := post(handler, tracePath, sign(signingSecret, body), body); recorder.Code != http.StatusOK {
		t.Fatalf("the duplicate is answered %d %s", recorder.Code, recorder.Body)
	}
	end()
	want := "SERVER POST /webhooks/exotel/{namespace}/{tenant}/status\n  PRODUCER commit recordings\n"
	if diff := cmp.Diff(want+want, receiver.Tree()); diff != "" {
		t.Errorf("the traces (-want +got):\n%s", diff)
	}
	spans := receiver.Spans()
	parent := look(`SELECT traceparent FROM recordings`)
	if want := "00-" + spans[1].Trace + "-" + spans[1].ID + "-01"; parent != want {
		t.Errorf("the recording has the span %s, want the first webhook's %s", parent, want)
	}
	root := spans[0].Attributes
	if root["caly.tenant"] != "acme/support" || root["http.response.status_code"] != "200" ||
		root["caly.event.outcome"] != "applied" || spans[1].Attributes["caly.call.sid"] != "c1" {
		t.Errorf("the attributes are %v and %v", root, spans[1].Attributes)
	}
	for _, secret := range []string{"9876543210", "9123456789", "presigned-key", "recordings.exotel.com"} {
		if strings.Contains(receiver.Received(), secret) {
			t.Errorf("the spans hold %q", secret)
		}
	}
	metrics := httptest.NewRecorder()
	scrape := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	scrape.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(metrics, scrape)
	if text := metrics.Body.String(); !strings.Contains(text, `trace_id="`+spans[2].Trace+`"`) {
		t.Errorf("the histogram has no exemplar of the last webhook:\n%s", text)
	}
}

// TestTraceParentOfAWebhook checks who may name the parent, and have a trace sampled.
func TestTraceParentOfAWebhook(t *testing.T) {
	const parent = "00-" + remoteTrace + "-" + remoteSpan + "-01"
	const body = "CallSid=c1&Status=completed&EventType=terminal"
	good := sign(signingSecret, body)
	for name, tc := range map[string]struct {
		ratio             float64
		remote, signature string
		headers           []string
		wantSpans         int
		wantTrace         bool // that of the header
	}{
		"a proxy":                        {0, proxyAddr, good, []string{parent}, 2, true},
		"a proxy that does not sample":   {1, proxyAddr, good, []string{parent[:53] + "00"}, 0, false},
		"a stranger":                     {0, "203.0.113.9:1", good, []string{parent}, 0, false},
		"a stranger, and all sampled":    {1, "203.0.113.9:1", good, []string{parent}, 2, false},
		"a proxy, and nobody verified":   {1, proxyAddr, "wrong", []string{parent}, 0, false},
		"a stranger, and none verified":  {1, "203.0.113.9:1", "wrong", []string{parent}, 0, false},
		"two parents":                    {0, proxyAddr, good, []string{parent, parent}, 0, false},
		"a parent that cannot be read":   {0, proxyAddr, good, []string{strings.Repeat("0", 8000)}, 0, false},
		"no parent, and nothing sampled": {0, proxyAddr, good, nil, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			receiver, tracer, end := traced(t, tc.ratio)
			handler := handlerWith(t, webhook.Options{
				Store:          &fake{outcome: store.Applied},
				Tracer:         tracer,
				TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
			})
			request := httptest.NewRequest(http.MethodPost, tracePath, strings.NewReader(body))
			request.RemoteAddr = tc.remote
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			request.Header.Set("X-Exotel-Signature", tc.signature)
			request.Header["Traceparent"] = tc.headers
			handler.ServeHTTP(httptest.NewRecorder(), request)
			end()
			spans := receiver.Spans()
			if len(spans) != tc.wantSpans {
				t.Fatalf("%d spans, want %d", len(spans), tc.wantSpans)
			}
			if len(spans) > 0 && tc.wantTrace != (spans[0].Trace == remoteTrace && spans[0].Parent == remoteSpan) {
				t.Errorf("the webhook's trace is %s below %q", spans[0].Trace, spans[0].Parent)
			}
		})
	}
}

// TestTraceOfAFailedCommit checks that the trace says what the sender is answered, and that the log leads to it.
func TestTraceOfAFailedCommit(t *testing.T) {
	receiver, tracer, end := traced(t, 1)
	var lines strings.Builder
	handler := handlerWith(t, webhook.Options{
		Store:  &fake{err: store.ErrUnavailable},
		Tracer: tracer,
		Log:    slog.New(slog.NewJSONHandler(&lines, nil)),
	})
	const body = "CallSid=c1&Status=completed&EventType=terminal"
	if recorder := post(
		handler, tracePath, sign(signingSecret, body), body,
	); recorder.Code != http.StatusServiceUnavailable {
		t.Errorf("answered %d", recorder.Code)
	}
	handler.Close()
	end()
	spans := receiver.Spans()
	if len(spans) != 2 || spans[0].Failed != "unavailable" || spans[1].Failed != "not_committed" {
		t.Fatalf("the spans are %+v", spans)
	}
	if !strings.Contains(lines.String(), `"trace_id":"`+spans[0].Trace+`"`) {
		t.Errorf("the log does not name the trace:\n%s", lines.String())
	}
}

// BenchmarkTracing measures what traces add to a webhook's CPU time, without a network and PostgreSQL.
func BenchmarkTracing(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer collector.Close()
	const body = "CallSid=c1&Status=completed&EventType=terminal&RecordingUrl=https%3A%2F%2Frecordings.exotel.com%2Fx%2Fc1.mp3"
	signature := sign(signingSecret, body)
	for name, o := range map[string]export.Options{
		"off":         {},
		"0_percent":   {Endpoint: collector.URL, Ratio: 0},
		"1_percent":   {Endpoint: collector.URL, Ratio: 0.01},
		"100_percent": {Endpoint: collector.URL, Ratio: 1},
	} {
		b.Run(name, func(b *testing.B) {
			o.Log = slog.New(slog.DiscardHandler)
			provider, err := export.New(o)
			if err != nil {
				b.Fatal(err)
			}
			defer provider.Shutdown(context.Background())
			handler := handlerWith(b, webhook.Options{Store: discarding{}, Tracer: provider.Tracer()})
			b.ReportAllocs()
			begun := cpuTime(b)
			for b.Loop() {
				if recorder := post(handler, tracePath, signature, body); recorder.Code != http.StatusOK {
					b.Fatalf("answered %d", recorder.Code)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-begun)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuTime returns the CPU time of the process: other programs of the machine do not count.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// discarding is a store that keeps nothing.
type discarding struct{}

func (discarding) IngestBatch(_ context.Context, events []store.Event) ([]store.Outcome, error) {
	outcomes := make([]store.Outcome, len(events))
	for i := range outcomes {
		outcomes[i] = store.Applied
	}
	return outcomes, nil
}
