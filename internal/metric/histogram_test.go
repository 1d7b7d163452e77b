package metric

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func TestWithNative(t *testing.T) {
	histogram := prometheus.NewHistogram(WithNative(prometheus.HistogramOpts{
		Name:    "caly_test_seconds",
		Buckets: []float64{.1, 1},
	}))
	for i := range 10_000 {
		histogram.Observe(float64(i) / 7)
	}
	var got dto.Metric
	if err := histogram.Write(&got); err != nil {
		t.Fatal(err)
	}
	h := got.GetHistogram()
	if n := len(h.GetBucket()); n != 2 {
		t.Errorf("%d classic buckets, want 2", n)
	}
	if h.GetBucket()[1].GetCumulativeCount() != 8 {
		t.Errorf("%d values up to 1, want 8", h.GetBucket()[1].GetCumulativeCount())
	}
	if n := len(h.GetPositiveDelta()); n < 10 || n > 100 {
		t.Errorf("%d native buckets, want 10 to 100", n)
	}
}
