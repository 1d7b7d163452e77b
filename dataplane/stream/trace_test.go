package stream

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/testkit/otlptest"
	"github.com/caly-dev/caly/internal/testkit/wstest"
	"github.com/caly-dev/caly/internal/tracing/export"
)

// newTracedRig returns a rig whose streams are all traced, and what waits for their spans.
func newTracedRig(t *testing.T) (*rig, func() []otlptest.Span, *otlptest.Receiver) {
	t.Helper()
	receiver := otlptest.New(t)
	provider, err := export.New(export.Options{
		Endpoint: receiver.URL,
		Ratio:    1,
		Service:  "caly-dataplane",
		Log:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { provider.Shutdown(context.Background()) })
	rig := newWiredRig(t, func(o *Options, _ *registry.Options) { o.Tracer = provider.Tracer() })
	return rig, func() []otlptest.Span {
		provider.Shutdown(t.Context())
		return receiver.Spans()
	}, receiver
}

// TestTraceOfAStream checks the spans of a stream from its handshake to its end.
func TestTraceOfAStream(t *testing.T) {
	rig, spans, receiver := newTracedRig(t)
	exotel, _ := rig.begin("c1")
	exotel.Text(stop)
	rig.nothingLeft()
	got := spans()
	want := "SERVER GET /audio/exotel/{namespace}/{tenant}/{token}\n  CLIENT connect agent\n  INTERNAL admit stream\n"
	if diff := cmp.Diff(want, receiver.Tree()); diff != "" {
		t.Fatalf("the trace (-want +got):\n%s", diff)
	}
	root := got[0].Attributes
	if root["caly.reason"] != "call_ended" || root["caly.tenant"] != "acme/support" || root["caly.call.sid"] != "c1" ||
		root["caly.stream.session.id"] == "" {
		t.Errorf("the attributes are %v", root)
	}
	if got[0].End < got[2].End {
		t.Error("the trace ends before the stream")
	}
	if text := rig.log.String(); !strings.Contains(text, "trace_id="+got[0].Trace) {
		t.Errorf("no line of the log names the trace:\n%s", text)
	}
	for _, secret := range []string{token, "hush", "opens the agent"} {
		if strings.Contains(receiver.Received(), secret) {
			t.Errorf("the spans hold %q", secret)
		}
	}
}

// TestTraceOfARejectedStream checks that a rejection ends its trace with the reason, that the agent is told of the trace,
// and that a stranger has none.
func TestTraceOfARejectedStream(t *testing.T) {
	rig, spans, _ := newTracedRig(t)
	for _, path := range []string{"/audio/exotel/acme/support/wrong", "/audio/exotel/acme/nobody/" + token} {
		request := strings.Replace(wstest.Request(path), "\r\n", "\r\nTraceparent: "+remoteParent+"\r\n", 1)
		if response, err := wstest.Connect(t, rig.address).Ask(request + "\r\n"); err != nil ||
			response.StatusCode != http.StatusUnauthorized {
			t.Errorf("a stranger is answered %v, %v", response, err)
		}
	}
	told := make(chan string, 1)
	go func() {
		defer close(told)
		conn, err := rig.accept()
		if err != nil {
			return
		}
		if request, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			told <- request.Header.Get("Traceparent")
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
	}()
	request := strings.Replace(wstest.Request(rig.path), "\r\n", "\r\nTraceparent: "+remoteParent+"\r\n", 1)
	response, err := wstest.Connect(t, rig.address).Ask(request + "\r\n")
	if err != nil || response.StatusCode != http.StatusBadGateway {
		t.Errorf("the stream is answered %v, %v", response, err)
	}
	got := spans()
	if len(got) != 2 || got[0].Failed != reasonAgent || got[1].Failed != dialRejected || got[0].Parent != "" {
		t.Fatalf("the spans are %+v", got)
	}
	if header, want := <-told, "00-"+got[1].Trace+"-"+got[1].ID+"-01"; header != want {
		t.Errorf("the agent is told %q, want %q", header, want)
	}
}

// TestTraceOfAProxy checks that the trace of a trusted proxy goes on.
func TestTraceOfAProxy(t *testing.T) {
	rig, spans, _ := newTracedRig(t)
	rig.h.o.TrustedProxies = loopback
	go rig.answerWith("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", false)
	request := strings.Replace(wstest.Request(rig.path), "\r\n", "\r\nTraceparent: "+remoteParent+"\r\n", 1)
	if _, err := wstest.Connect(t, rig.address).Ask(request + "\r\n"); err != nil {
		t.Error(err)
	}
	if got := spans(); len(got) != 2 || !strings.Contains(remoteParent, got[0].Trace+"-"+got[0].Parent) {
		t.Errorf("the spans are %+v", got)
	}
}

// remoteParent is a span of another process.
const remoteParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
