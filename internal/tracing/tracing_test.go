package tracing_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/caly-dev/caly/internal/tracing"
)

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	spanID  = "b7ad6b7169203331"
	sampled = "00-" + traceID + "-" + spanID + "-01"
)

// with returns a context with the span of a traceparent.
func with(traceparent string) context.Context {
	return trace.ContextWithSpanContext(context.Background(), tracing.Parse(traceparent))
}

// TestParse checks which traceparents are read, and what another process is told of them.
func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		traceparent string
		wantValid   bool
		wantOut     string // what Traceparent returns
	}{
		"sampled":                 {sampled, true, sampled},
		"not sampled":             {sampled[:53] + "00", true, ""},
		"random and sampled":      {sampled[:53] + "03", true, sampled},
		"only random":             {sampled[:53] + "02", true, ""},
		"unknown flags":           {sampled[:53] + "f8", true, ""},
		"a later version":         {"01" + sampled[2:] + "-more", true, sampled},
		"empty":                   {"", false, ""},
		"short":                   {sampled[:54], false, ""},
		"long":                    {sampled + "-more", false, ""},
		"version ff":              {"ff" + sampled[2:], false, ""},
		"upper case":              {strings.ToUpper(sampled), false, ""},
		"a trace of zeros":        {"00-" + strings.Repeat("0", 32) + sampled[35:], false, ""},
		"a parent of zeros":       {sampled[:36] + strings.Repeat("0", 16) + "-01", false, ""},
		"another separator":       {strings.ReplaceAll(sampled, "-", "_"), false, ""},
		"a megabyte":              {strings.Repeat("0", 1<<20), false, ""},
		"a character of no digit": {sampled[:53] + "0g", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := tracing.Parse(tc.traceparent)
			if got.IsValid() != tc.wantValid {
				t.Errorf("valid is %t, want %t", got.IsValid(), tc.wantValid)
			}
			if out := tracing.Traceparent(with(tc.traceparent)); out != tc.wantOut {
				t.Errorf("another process is told %q, want %q", out, tc.wantOut)
			}
		})
	}
}

// FuzzParse checks that no text panics, and that a valid one is what was read.
func FuzzParse(f *testing.F) {
	f.Add(sampled)
	f.Add("01" + sampled[2:] + "-more")
	f.Add(strings.Repeat("-", 60))
	f.Fuzz(func(t *testing.T, text string) {
		if got := tracing.Parse(text); got.IsValid() &&
			!strings.HasPrefix(text[2:], "-"+got.TraceID().String()+"-"+got.SpanID().String()+"-") {
			t.Errorf("%q leads to %s and %s", text, got.TraceID(), got.SpanID())
		}
	})
}

// TestLogger checks that lines carry a sampled trace and no other.
func TestLogger(t *testing.T) {
	for name, tc := range map[string]struct {
		ctx  context.Context
		want string
	}{
		"sampled":     {with(sampled), `level=INFO msg=m trace_id=` + traceID + ` span_id=` + spanID + "\n"},
		"not sampled": {with(sampled[:53] + "00"), "level=INFO msg=m\n"},
		"none":        {context.Background(), "level=INFO msg=m\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			withoutTime := func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}
			log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
			tracing.Logger(tc.ctx, log).Info("m")
			if diff := cmp.Diff(tc.want, out.String()); diff != "" {
				t.Errorf("the line (-want +got):\n%s", diff)
			}
		})
	}
}

// TestObserve checks that a sampled trace is an exemplar of its histogram.
func TestObserve(t *testing.T) {
	for name, tc := range map[string]struct {
		ctx  context.Context
		want string
	}{
		"sampled":     {with(sampled), traceID},
		"not sampled": {with(sampled[:53] + "00"), ""},
		"none":        {context.Background(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Buckets: []float64{1}})
			tracing.Observe(tc.ctx, histogram, 0.5)
			var m dto.Metric
			if err := histogram.Write(&m); err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, label := range m.GetHistogram().GetBucket()[0].GetExemplar().GetLabel() {
				if label.GetName() == "trace_id" {
					got = label.GetValue()
				}
			}
			if got != tc.want || m.GetHistogram().GetSampleCount() != 1 {
				t.Errorf("the exemplar is %q and the count %d, want %q and 1", got,
					m.GetHistogram().GetSampleCount(), tc.want)
			}
		})
	}
}

// TestChild checks that a child needs a parent that is recorded, and is exported to where the parent is.
func TestChild(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	tracer := sdk.NewTracerProvider(sdk.WithSpanProcessor(recorder)).Tracer("test")
	for _, ctx := range []context.Context{context.Background(), with(sampled)} {
		if got, span := tracing.Child(ctx, "child"); got != ctx || span.IsRecording() {
			t.Error("a span began below one that is not recorded here")
		}
	}
	ctx, root := tracer.Start(t.Context(), "root")
	_, child := tracing.Child(ctx, "child")
	tracing.Fail(child, "why")
	child.End()
	root.End()
	ended := recorder.Ended()
	if len(ended) != 2 || ended[0].Parent().SpanID() != root.SpanContext().SpanID() ||
		ended[0].Status().Description != "why" {
		t.Errorf("ended are %v", ended)
	}
	if allocations := testing.AllocsPerRun(
		100, func() { tracing.Child(context.Background(), "child") },
	); allocations != 0 {
		t.Errorf("a child of nothing allocates %v times", allocations)
	}
}

// TestWants counts which of 10,000 spans begin.
func TestWants(t *testing.T) {
	tracer := sdk.NewTracerProvider().Tracer("test")
	for name, tc := range map[string]struct {
		tracer      *tracing.Tracer
		parent      string
		least, most int
	}{
		"off":                      {nil, "", 0, 0},
		"off, and a parent":        {nil, sampled, 0, 0},
		"no root":                  {tracing.NewTracer(tracer, 0), "", 0, 0},
		"all roots":                {tracing.NewTracer(tracer, 1), "", 10_000, 10_000},
		"a share of roots":         {tracing.NewTracer(tracer, 0.1), "", 700, 1_300},
		"a parent that is sampled": {tracing.NewTracer(tracer, 0), sampled, 10_000, 10_000},
		"a parent that is not":     {tracing.NewTracer(tracer, 1), sampled[:53] + "00", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			wanted := 0
			for range 10_000 {
				if tc.tracer.Wants(tracing.Parse(tc.parent)) {
					wanted++
				}
			}
			if wanted < tc.least || wanted > tc.most {
				t.Errorf("%d spans begin, want %d to %d", wanted, tc.least, tc.most)
			}
		})
	}
}
