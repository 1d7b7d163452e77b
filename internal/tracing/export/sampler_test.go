package export

import (
	"context"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/caly-dev/caly/internal/tracing"
)

// TestSampler counts which of 1,000 traces are sampled.
func TestSampler(t *testing.T) {
	const id = "0af7651916cd43dd0000000000000001"
	remote := func(flags string) context.Context {
		return trace.ContextWithRemoteSpanContext(t.Context(), tracing.Parse("00-"+id+"-b7ad6b7169203331-"+flags))
	}
	for name, tc := range map[string]struct {
		ctx       context.Context
		requested int
		want      int
	}{
		"a root":                             {t.Context(), 0, 1000},
		"a parent that is sampled":           {remote("01"), 0, 1000},
		"a parent that is not":               {remote("00"), 0, 0},
		"parents beyond the bound":           {remote("01"), 20, 20},
		"parents that are not, with a bound": {remote("00"), 20, 0},
		"roots, with a bound":                {t.Context(), 20, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			sampler := newSampler(tc.requested)
			traceID, err := trace.TraceIDFromHex(id)
			if err != nil {
				t.Fatal(err)
			}
			sampled := 0
			for range 1000 {
				result := sampler.ShouldSample(sdk.SamplingParameters{ParentContext: tc.ctx, TraceID: traceID})
				if result.Decision == sdk.RecordAndSample {
					sampled++
				}
			}
			if sampled < tc.want || sampled > tc.want+1 { // a slow machine refills the bound
				t.Errorf("%d are sampled, want %d", sampled, tc.want)
			}
		})
	}
}
