package export

import (
	"fmt"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"golang.org/x/time/rate"
)

// newSampler decides by the parent. Without one it samples: tracing.Tracer begins only the share of traces that is wanted.
// requested bounds the traces that another process asks for, a second; 0 means unlimited.
func newSampler(requested int) sdk.Sampler {
	if requested <= 0 {
		return sdk.ParentBased(sdk.AlwaysSample())
	}
	bound := &boundedSampler{limit: rate.NewLimiter(rate.Limit(requested), requested)}
	return sdk.ParentBased(sdk.AlwaysSample(), sdk.WithRemoteParentSampled(bound))
}

// boundedSampler samples up to a number of traces a second. A proxy may pass on a header of its clients, who could have
// every request sampled. A ratio by the trace's id would not bound them: they choose that too.
type boundedSampler struct {
	limit *rate.Limiter
}

// ShouldSample samples within the limit.
func (s *boundedSampler) ShouldSample(p sdk.SamplingParameters) sdk.SamplingResult {
	if s.limit.Allow() {
		return sdk.AlwaysSample().ShouldSample(p)
	}
	return sdk.NeverSample().ShouldSample(p)
}

// Description names the sampler.
func (s *boundedSampler) Description() string { return fmt.Sprintf("Bounded{%v/s}", s.limit.Limit()) }
