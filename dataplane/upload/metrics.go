package upload

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/metric"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/tracing"
)

// metrics of a worker. Labels are this package's codes; the tenant is the pod's.
type metrics struct {
	transfers *prometheus.CounterVec
	bytes     prometheus.Counter
	resumes   prometheus.Counter
	active    prometheus.Gauge
	duration  prometheus.Histogram
}

// newMetrics registers the worker's metrics. It panics if the registry has them already.
func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		transfers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caly_upload_transfers_total",
			Help: "Transfers of recordings that ended, by result: Uploaded, or why not.",
		}, []string{"result"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "caly_upload_bytes_total",
			Help: "Bytes of recordings that were uploaded and verified.",
		}),
		resumes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "caly_upload_source_resumes_total",
			Help: "Recordings' downloads that broke off and were continued.",
		}),
		active: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "caly_upload_active_transfers",
			Help: "Transfers under way.",
		}),
		duration: prometheus.NewHistogram(metric.WithNative(prometheus.HistogramOpts{
			Name:    "caly_upload_duration_seconds",
			Help:    "From the claim of a recording to its verified object.",
			Buckets: prometheus.ExponentialBuckets(0.05, 2.5, 10),
		})),
	}
	results := append(reason.Uploads(), "Uploaded", "LeaseLost", "Unsettled")
	for _, cause := range objectstore.Reasons() {
		results = append(results, reason.Storage(string(cause)))
	}
	for _, result := range results {
		m.transfers.WithLabelValues(result) // a rate needs the zero before the first
	}
	if reg != nil {
		reg.MustRegister(m.transfers, m.bytes, m.resumes, m.active, m.duration)
	}
	return m
}

func (m *metrics) end(result string) { m.transfers.WithLabelValues(result).Inc() }

func (m *metrics) uploaded(ctx context.Context, size int64, took time.Duration) {
	m.end("Uploaded")
	m.bytes.Add(float64(size))
	tracing.Observe(ctx, m.duration, took.Seconds())
}
