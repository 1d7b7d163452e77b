package upload

import (
	"log/slog"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/logtest"
	"github.com/caly-dev/caly/internal/testkit/otlptest"
	"github.com/caly-dev/caly/internal/tracing/export"
)

const (
	queuedTrace = "0af7651916cd43dd8448eb211c80319c"
	queuedSpan  = "b7ad6b7169203331"
)

// queueTraced adds a recording as the data plane does for a traced webhook.
func (r *rig) queueTraced(sid, u, traceparent string) {
	r.t.Helper()
	e := store.Event{
		Tenant:      tenant,
		Kind:        "status",
		Source:      "webhook",
		CallSID:     sid,
		DedupKey:    [32]byte([]byte(sid + strings.Repeat(" ", 32))[:32]),
		Recordings:  []store.NewRecording{{ID: recording.ID(sid, u), SourceURL: u}},
		Traceparent: traceparent,
	}
	if _, err := r.db.Dataplane.Ingest(r.t.Context(), e); err != nil {
		r.t.Fatal(err)
	}
}

// TestTraceOfAnUpload checks the spans of a recording from the queue to its verified object, over a real database and a
// real S3 server, and those of one that cannot be fetched. A recording without a trace has none.
func TestTraceOfAnUpload(t *testing.T) {
	rig := newRig(t)
	receiver := otlptest.New(t)
	provider, err := export.New(export.Options{
		Endpoint: receiver.URL,
		Service:  "caly-upload",
		Log:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	exotel := guarded(t, rig.exotel.URL())
	rig.cfg.AllowedSourceHosts = []string{exotel.Host}
	rig.cfg.ExotelAPI = exotel.String()
	rig.cfg.Endpoint = guarded(t, rig.s3.Endpoint).String()
	registry := prometheus.NewRegistry()
	var lines logtest.Buffer
	rig.o.Tracer = provider.Tracer()
	rig.o.Metrics = registry
	rig.o.Log = slog.New(lines.Handler())
	traceparent := "00-" + queuedTrace + "-" + queuedSpan + "-01"
	rig.queueTraced(
		"good", exotelsim.RecordingURL(exotel.String(), "acme1", "good", 100_000)+"&key=presigned", traceparent,
	)
	rig.queueTraced("untraced", exotelsim.RecordingURL(exotel.String(), "acme1", "untraced", 100_000), "")
	if err := rig.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	provider.Shutdown(t.Context())
	var got strings.Builder
	byName := map[string]otlptest.Span{}
	names := map[string]string{queuedSpan: "the webhook"}
	for _, s := range receiver.Spans() {
		names[s.ID] = s.Name
		byName[s.Name] = s
	}
	for _, s := range receiver.Spans() {
		got.WriteString(s.Kind + " " + s.Name + " below " + names[s.Parent] + " " + s.Failed + "\n")
		if s.Trace != queuedTrace {
			t.Errorf("%s is in the trace %s, want the webhook's", s.Name, s.Trace)
		}
	}
	want := `INTERNAL wait in recordings below the webhook 
CONSUMER process recordings below the webhook 
CLIENT download below process recordings 
CLIENT PUT object below process recordings 
CLIENT settle recordings below process recordings 
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("the spans (-want +got):\n%s", diff)
	}
	process := byName["process recordings"]
	if diff := cmp.Diff([]string{queuedSpan}, process.Links); diff != "" {
		t.Errorf("the links (-want +got):\n%s", diff)
	}
	if process.Attributes["caly.object.size"] != "100000" || byName["download"].Attributes["caly.bytes"] != "100000" ||
		process.Attributes["messaging.operation.type"] != "process" {
		t.Errorf("the attributes are %v and %v", process.Attributes, byName["download"].Attributes)
	}
	for _, secret := range []string{"presigned", "acme1/good", rig.cfg.ExotelToken.Reveal() + ":", "size="} {
		if strings.Contains(receiver.Received(), secret) {
			t.Errorf("the spans hold %q", secret)
		}
	}
	if n := strings.Count(lines.String(), queuedTrace); n != 1 {
		t.Errorf("%d lines of the log name the trace, want the one of its upload:\n%s", n, lines.String())
	}
}

// guarded returns a server in front of another one, which fails the test if a request names a trace: what another company
// runs must not learn of it.
func guarded(t *testing.T, target string) *url.URL {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // which signatures cover
		for _, name := range []string{"Traceparent", "Tracestate", "Baggage"} {
			if r.In.Header.Get(name) != "" {
				t.Errorf("%s is told of the trace in %s", target, name)
			}
		}
	}})
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return address
}
