package main

import (
	"fmt"
	"strings"
)

// onPods limits a metric to the chosen pods.
const onPods = `pod=~"$pod"`

// of returns a metric of the chosen namespace. Further matchers narrow it.
func of(metric string, matchers ...string) string {
	return metric + "{" + strings.Join(append([]string{`namespace="$namespace"`}, matchers...), ",") + "}"
}

// rate returns the rate of a counter, a second, summed by the given labels.
func rate(by, counter string, matchers ...string) string {
	return fmt.Sprintf("sum by (%s) (rate(%s[$__rate_interval]))", by, of(counter, matchers...))
}

// sum returns a gauge summed by the given labels.
func sum(by, gauge string, matchers ...string) string {
	return fmt.Sprintf("sum by (%s) (%s)", by, of(gauge, matchers...))
}

// age returns the seconds since a timestamp that an aggregation such as "max" or "min by (pod)" chooses.
func age(aggregation, timestamp string, matchers ...string) string {
	return fmt.Sprintf("time() - %s (%s)", aggregation, of(timestamp, matchers...))
}

// tenantSum returns a gauge of Tenants by the given labels. A replica of the operator that led before counts no second time.
func tenantSum(by, labels, gauge string, matchers ...string) string {
	return fmt.Sprintf("sum by (%s) (max by (%s) (%s))", by, labels, of(gauge, matchers...))
}

// quantile returns a quantile of a histogram, by le and the given labels.
func quantile(q, by, histogram string, matchers ...string) string {
	return fmt.Sprintf("histogram_quantile(%s, sum by (%s) (rate(%s[$__rate_interval])))",
		q, strings.TrimPrefix(by+",le", ","), of(histogram+"_bucket", matchers...))
}

// times returns the median and the slow end of a histogram.
func times(histogram string, matchers ...string) []query {
	return []query{
		{quantile("0.5", "", histogram, matchers...), "50 %"},
		{quantile("0.95", "", histogram, matchers...), "95 %"},
		{quantile("0.99", "", histogram, matchers...), "99 %"},
	}
}

// orZero returns the query of a metric of the Tenants that has no series while there is nothing to count. It is 0 then,
// and without data when no operator leads.
func orZero(query string) string {
	return query + " or 0 * max(" + of("caly_tenants") + ")"
}
