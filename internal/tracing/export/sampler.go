package export

import (
	"fmt"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"golang.org/x/time/rate"
)

// newSampler decides by the parent, and by ratio where there is none. requested bounds the traces that another process
// asks for, a second; 0 means unlimited.
func newSampler(ratio float64, requested int) sdk.Sampler {
	root := sdk.TraceIDRatioBased(ratio)
	if requested <= 0 {
		return sdk.ParentBased(root)
	}
	bound := &boundedSampler{limit: rate.NewLimiter(rate.Limit(requested), requested)}
	return sdk.ParentBased(root, sdk.WithRemoteParentSampled(bound))
}

// boundedSampler samples up to a number of traces a second. A proxy may pass on a header of its clients, who could have
// every request sampled. The ratio does not bound them: it depends on the trace's id, which they choose too.
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
