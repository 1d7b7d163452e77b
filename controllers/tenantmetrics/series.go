package tenantmetrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/metric"
	"github.com/caly-dev/caly/internal/outcome"
	"github.com/caly-dev/caly/internal/store"
)

// family is a metric with a series for each tenant.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func newFamily(kind prometheus.ValueType, name, help string, labels ...string) family {
	return family{prometheus.NewDesc(name, help, labels, nil), kind}
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

var (
	recordings = newFamily(
		counter,
		"caly_tenant_recordings_total",
		"Recordings whose upload ended, by outcome and, for failed ones, the code of the error.",
		"tenant",
		"outcome",
		"code",
	)
	recordingSeconds = newFamily(counter, "caly_tenant_recording_seconds",
		"Time from the end of a call to its verified object in the bucket.", "tenant")
	captures = newFamily(counter, "caly_tenant_captures_total",
		"Captures that ended, by outcome and the code of the error.", "tenant", "outcome", "code")
	streams = newFamily(counter, "caly_tenant_streams_total",
		"Stream sessions that ended, by the reason of their end.", "tenant", "reason")
	streamSeconds = newFamily(counter, "caly_tenant_stream_seconds_total",
		"Time that ended stream sessions were open.", "tenant")

	waiting = newFamily(
		gauge,
		"caly_tenant_recordings_waiting",
		"Recordings that wait for an upload pod, by the code of their last error; empty: not tried yet.",
		"tenant",
		"code",
	)
	oldestWaiting = newFamily(gauge, "caly_tenant_recordings_oldest_timestamp_seconds",
		"When the oldest recording was queued that is not uploaded; absent without one.",
		"tenant")
	uploading = newFamily(gauge, "caly_tenant_recordings_uploading", "Recordings that an upload pod holds.", "tenant")
	failed    = newFamily(gauge, "caly_tenant_recordings_failed",
		"Recordings whose upload was given up and that wait for a person, by the code of the error.", "tenant", "code")
	deadEvents = newFamily(
		gauge,
		"caly_tenant_dead_events",
		"Events that could not be applied, by reason; at most 10,000 of each tenant are counted: caly events list.",
		"tenant",
		"reason",
	)
	oldestDead = newFamily(gauge, "caly_tenant_dead_events_oldest_timestamp_seconds",
		"When the oldest event came that could not be applied; absent without one.", "tenant")
	partialEvents = newFamily(
		gauge,
		"caly_tenant_partial_events",
		"Events of the last 24 hours that were applied without a field; at most 1,000 of each tenant are counted.",
		"tenant",
	)
	unended = newFamily(
		gauge,
		"caly_tenant_calls_unended",
		"Calls that began 15 minutes to 7 days ago and have no end; at most 1,000 of each tenant.",
		"tenant",
	)
	backfilled = newFamily(counter, "caly_tenant_backfill_calls_total",
		"Calls that backfill filled in (found, found_partial) or could not use (left_out).", "tenant", "result")
	calls = newFamily(gauge, "caly_tenant_calls",
		"Calls whose first event came within the last hour, by outcome.", "tenant", "outcome")

	tenantsKnown = newFamily(gauge, "caly_tenants", "Tenants in the cluster.")
	lastSuccess  = newFamily(gauge, "caly_tenant_metrics_last_success_timestamp_seconds",
		"When the metrics of the tenants were read from PostgreSQL last.")
)

func describe(ch chan<- *prometheus.Desc) {
	for _, f := range []family{
		recordings, recordingSeconds, captures, streams, streamSeconds, waiting, oldestWaiting, uploading, failed,
		deadEvents, oldestDead, partialEvents, unended, backfilled, calls, tenantsKnown, lastSuccess,
	} {
		ch <- f.desc
	}
}

func (f family) send(ch chan<- prometheus.Metric, value float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
}

// collect sends the series of a round.
func (s *snapshot) collect(ch chan<- prometheus.Metric) {
	lastSuccess.send(ch, metric.Seconds(s.at))
	tenantsKnown.send(ch, float64(s.tenants))
	s.collectTotals(ch)
	s.collectWaiting(ch)
	sendCounts(ch, failed, s.counts.Failed)
	sendCounts(ch, deadEvents, s.counts.Dead)
	sendOldest(ch, oldestDead, s.counts.Dead)
	for _, c := range s.counts.Partial {
		partialEvents.send(ch, float64(c.Count), c.Tenant)
	}
	for _, c := range s.counts.Unended {
		unended.send(ch, float64(c.Count), c.Tenant)
	}
	for _, t := range s.backfilled {
		backfilled.send(ch, float64(t.Calls), t.Tenant, t.Result)
	}
	for _, c := range s.counts.Calls {
		calls.send(ch, float64(c.Count), c.Tenant, outcomeOf(c.Label))
	}
}

func sendCounts(ch chan<- prometheus.Metric, f family, counts []store.TenantCount) {
	for _, c := range counts {
		f.send(ch, float64(c.Count), c.Tenant, c.Label)
	}
}

// outcomeOf returns the name of a state that the database has as a number.
func outcomeOf(state string) string {
	n, _ := strconv.ParseInt(state, 10, 16) // 0, Unknown, for what is not a number
	return outcome.State(n).String()
}

// collectWaiting sends what is not uploaded yet, with the time of the oldest of each tenant.
func (s *snapshot) collectWaiting(ch chan<- prometheus.Metric) {
	for _, c := range s.counts.Waiting {
		waiting.send(ch, float64(c.Count), c.Tenant, c.Label)
	}
	for _, c := range s.counts.Uploading {
		uploading.send(ch, float64(c.Count), c.Tenant)
	}
	sendOldest(ch, oldestWaiting, s.counts.Waiting, s.counts.Uploading)
}

// sendOldest sends the time of the oldest row of each tenant in some lists.
func sendOldest(ch chan<- prometheus.Metric, f family, lists ...[]store.TenantCount) {
	oldest := map[string]store.TenantCount{}
	for _, list := range lists {
		for _, c := range list {
			if o, found := oldest[c.Tenant]; !c.Oldest.IsZero() && (!found || c.Oldest.Before(o.Oldest)) {
				oldest[c.Tenant] = c
			}
		}
	}
	for tenant, c := range oldest {
		f.send(ch, metric.Seconds(c.Oldest), tenant)
	}
}

// ended names a series of stream sessions that ended.
type ended struct{ tenant, reason string }

// collectTotals sends what ended since the totals exist.
func (s *snapshot) collectTotals(ch chan<- prometheus.Metric) {
	ends := map[ended]float64{}
	open := map[string]float64{} // seconds that the streams of a tenant were open
	for _, t := range s.totals {
		n := float64(t.Count)
		switch t.Kind {
		case store.EndingRecording:
			recordings.send(ch, n, t.Tenant, t.Outcome, t.Code)
			if t.Outcome == string(store.StateUploaded) && t.Code == "" {
				ch <- histogram(t)
			}
		case store.EndingCapture:
			captures.send(ch, n, t.Tenant, t.Outcome, t.Code)
		case store.EndingStream:
			ends[ended{t.Tenant, t.Outcome}] += n
			open[t.Tenant] += t.Seconds
		}
	}
	for of, n := range ends {
		streams.send(ch, n, of.tenant, of.reason)
	}
	for tenant, seconds := range open {
		streamSeconds.send(ch, seconds, tenant)
	}
}

// histogram makes one of a total. Prometheus counts in each bucket what the smaller ones have, too.
func histogram(t store.EndingTotal) prometheus.Metric {
	buckets := make(map[float64]uint64, len(t.Bounds))
	var sum uint64
	for i, upper := range t.Bounds[:min(len(t.Bounds), len(t.Buckets))] {
		sum += uint64(max(t.Buckets[i], 0))
		buckets[upper] = sum
	}
	return prometheus.MustNewConstHistogram(
		recordingSeconds.desc, uint64(max(t.Count, 0)), t.Seconds, buckets, t.Tenant,
	)
}
