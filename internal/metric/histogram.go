package metric

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// WithNative returns opts with a native histogram in addition to its buckets. A server that does not scrape native
// histograms sees the buckets alone.
func WithNative(opts prometheus.HistogramOpts) prometheus.HistogramOpts {
	opts.NativeHistogramBucketFactor = 1.1
	opts.NativeHistogramMaxBucketNumber = 100
	opts.NativeHistogramMinResetDuration = time.Hour
	return opts
}
