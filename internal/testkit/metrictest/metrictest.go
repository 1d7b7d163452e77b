// Package metrictest reads metrics in tests.
package metrictest

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Values returns the values of counters and gauges. A key is the name of the metric, followed by the values of its
// labels in the order of the labels' names, such as "caly_retried_calls_total s3 failure".
func Values(t testing.TB, gatherer prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := gatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			key := family.GetName()
			for _, label := range metric.GetLabel() {
				key += " " + label.GetValue()
			}
			values[key] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue() // a metric is one of the two
		}
	}
	return values
}
