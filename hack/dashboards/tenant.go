package main

import "github.com/grafana/grafana-foundation-sdk/go/units"

// What the panels of one Tenant have in common.
const (
	this       = `tenant="$tenant"`
	callsGuide = "how-to/find-calls-whose-webhooks-were-lost.md"
)

func oneTenant() board {
	return board{
		name:        "tenant",
		title:       "Caly / One tenant",
		description: "Calls, recordings and streams of one Tenant. Tenants without series of their own share `other`.",
		variables:   []variable{namespaces, tenants},
		rows: []row{
			{"Calls and events", callsOfTenant()},
			{"Recordings", recordingsOfTenant()},
			{"Live audio", streamsOfTenant()},
		},
	}
}

// callsOfTenant returns the panels of a Tenant's calls and events.
func callsOfTenant() []panel {
	return []panel{
		stack("Calls of the last hour", units.Short, callsGuide,
			"Calls whose first event came within the last hour, by outcome. None in the Tenant's working "+
				"hours: Exotel does not reach Caly.",
			query{tenantSum("outcome", "outcome", "caly_tenant_calls", this), "{{outcome}}"}),
		stack("Dead events", units.Short, "how-to/correct-dead-events.md",
			"Events of the Tenant that could not be applied, by reason. They need a person. No line: "+
				"there are none.",
			query{tenantSum("reason", "reason", "caly_tenant_dead_events", this), "{{reason}}"}),
		graph("Partial events", units.Short, "how-to/find-partial-events.md",
			"Events of the last 24 hours that were applied without a field.",
			query{"max(" + of("caly_tenant_partial_events", this) + ")", "events"}),
	}
}

// recordingsOfTenant returns the panels of a Tenant's recordings.
func recordingsOfTenant() []panel {
	return []panel{
		stack(
			"Recordings in progress",
			units.Short,
			upload,
			"Recordings that wait, by the code of their last error, and those that a pod uploads. No line: "+
				"there are none.",
			query{tenantSum("code", "code", "caly_tenant_recordings_waiting", this), "waiting {{code}}"},
			query{"max(" + of("caly_tenant_recordings_uploading", this) + ")", "uploading"},
		),
		graph("Oldest recording", units.Seconds, upload,
			"Age of the oldest recording that is not uploaded. No line: none waits.",
			query{age("min", "caly_tenant_recordings_oldest_timestamp_seconds", this), "age"}),
		stack("Failed, waiting for a person", units.Short, "how-to/retry-a-failed-recording.md",
			"Recordings whose upload Caly gave up, by code. Correct the cause, then retry "+
				"them. No line: none failed.",
			query{tenantSum("code", "code", "caly_tenant_recordings_failed", this), "{{code}}"}),
		stack("Recordings that ended in an hour", units.Short, upload,
			"Recordings uploaded or failed in the last hour, by outcome and code.",
			query{"sum by (outcome, code) (increase(" + of("caly_tenant_recordings_total", this) + "[1h]))",
				"{{outcome}} {{code}}"}),
		graph("Time to the object", units.Seconds, upload, "From the end of a call to its verified object.",
			times("caly_tenant_recording_seconds", this)...),
		stack(
			"Calls that backfill found in an hour", units.Short, callsGuide,
			"Calls whose webhooks were lost, by result. found_partial lacks a field or a recording. left_out could "+
				"not be used: the log of the operator says why.",
			query{"sum by (result) (increase(" + of("caly_tenant_backfill_calls_total", this) + "[1h]))",
				"{{result}}"},
		),
		graph(
			"Calls without an end",
			units.Short,
			callsGuide,
			"Calls that began 15 minutes to 7 days ago and whose end nobody reported. Long calls count too.",
			query{"max(" + of("caly_tenant_calls_unended", this) + ")", "calls"},
		),
		graph("Age of the last backfill", units.Seconds, callsGuide,
			"Time since the last successful backfill. No line: the Tenant has no backfill, or none "+
				"succeeded yet.",
			query{age("max", "caly_backfill_last_success_timestamp_seconds", this), "age"}),
	}
}

// streamsOfTenant returns the panels of a Tenant's streams and captures.
func streamsOfTenant() []panel {
	const (
		capture = "how-to/capture-calls.md"
		see     = "how-to/see-and-close-live-calls.md"
	)
	return []panel{
		stack("Streams that ended in an hour", units.Short, see,
			"Streams that ended in the last hour, by reason.",
			query{"sum by (reason) (increase(" + of("caly_tenant_streams_total", this) + "[1h]))",
				"{{reason}}"}),
		graph("Streams open on average", units.Short, see,
			"Stream time that ended, a second. It is the average number of open streams, counted at their "+
				"ends.",
			query{"sum(rate(" + of("caly_tenant_stream_seconds_total", this) + "[1h]))", "streams"}),
		stack("Captures that ended in an hour", units.Short, capture,
			"Captures uploaded or failed in the last hour, by outcome and code. No line: none ended.",
			query{"sum by (outcome, code) (increase(" + of("caly_tenant_captures_total", this) + "[1h]))",
				"{{outcome}} {{code}}"}),
	}
}
