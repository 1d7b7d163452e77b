// Package metric has collectors that more than one program or package registers.
package metric

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// timestamp is a gauge in Unix seconds that is absent while there is no time to report.
type timestamp struct {
	desc *prometheus.Desc
	at   func() time.Time
}

// NewTimestamp returns a gauge of a time in Unix seconds. It has no series while at returns the zero time.
func NewTimestamp(name, help string, at func() time.Time) prometheus.Collector {
	return timestamp{desc: prometheus.NewDesc(name, help, nil, nil), at: at}
}

// Describe implements prometheus.Collector.
func (t timestamp) Describe(ch chan<- *prometheus.Desc) { ch <- t.desc }

// Collect implements prometheus.Collector.
func (t timestamp) Collect(ch chan<- prometheus.Metric) {
	if at := t.at(); !at.IsZero() {
		ch <- prometheus.MustNewConstMetric(t.desc, prometheus.GaugeValue, Seconds(at))
	}
}

// Seconds returns a time as Prometheus writes it: Unix seconds with a fraction of microseconds.
func Seconds(at time.Time) float64 { return float64(at.UnixMicro()) / 1e6 }
