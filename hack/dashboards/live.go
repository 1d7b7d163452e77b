package main

import "github.com/grafana/grafana-foundation-sdk/go/units"

func live() board {
	const (
		give    = "how-to/give-a-tenant-live-audio.md"
		see     = "how-to/see-and-close-live-calls.md"
		scale   = "how-to/scale-by-live-calls.md"
		capture = "how-to/capture-calls.md"
	)
	return board{
		name:        "live-audio",
		title:       "Caly / Live audio",
		description: "Streams between Exotel and the agents, and captures of them.",
		variables:   []variable{namespaces, pods},
		rows: []row{
			{"Streams", []panel{
				graph("Live streams", units.Short, scale,
					"Audio streams of each pod, and the maximum of a pod. At the maximum the pod answers 503.",
					query{sum("pod", "caly_stream_sessions_live", onPods), "{{pod}}"},
					query{"max(" + of("caly_stream_sessions_max", onPods) + ")", "maximum of a pod"}),
				stack("Admissions", units.OpsPerSecond, scale,
					"Streams that asked for a place, by outcome. `pod_limit`: add pods. `tenant_limit`: the "+
						"Tenant's own maximum.",
					query{rate("outcome", "caly_stream_sessions_admissions_total", onPods), "{{outcome}}"}),
				stack("Ends", units.OpsPerSecond, see,
					"Streams that ended, by reason. docs/reference.md lists the reasons.",
					query{rate("reason", "caly_audio_ends_total", onPods), "{{reason}}"}),
			}},
			{"Handshakes and agents", []panel{
				graph("Time of a handshake", units.Seconds, give,
					"From a stream's request to its upgrade, with the connection to the agent.",
					times("caly_stream_handshake_seconds", onPods)...),
				stack("Rejected", units.OpsPerSecond, give,
					"Streams and questions for a URL that were rejected, by reason. `busy`: all places for "+
						"handshakes are taken.",
					query{rate("reason", "caly_stream_rejected_total", onPods), "{{reason}}"}),
				stack("Agents not reached", units.OpsPerSecond, give,
					"Connections to agents that failed, by reason. The agent is the Tenant's, so inform its team.",
					query{rate("reason", "caly_stream_agent_dial_failures_total", onPods), "{{reason}}"}),
			}},
			{"Audio", []panel{
				graph("Added latency, 99 %", units.Seconds, scale,
					"From a frame read to the same frame written, by direction. More than 20 ms can be heard. The "+
						"pod lacks CPU then.",
					query{quantile("0.99", "direction", "caly_audio_added_latency_seconds", onPods), "{{direction}}"}),
				graph("Frames dropped", units.OpsPerSecond, give,
					"Frames that a slow side did not get, or that a clear took back.",
					query{rate("direction", "caly_audio_dropped_total", onPods), "{{direction}}"}),
				graph("Memory of streams", units.BytesIEC, scale,
					"Memory in use for frames that wait, and the maximum of a pod. Near the maximum the oldest "+
						"audio is dropped.",
					query{sum("pod", "caly_stream_memory_bytes", onPods), "{{pod}}"},
					query{"max(" + of("caly_stream_memory_max_bytes", onPods) + ")", "maximum of a pod"}),
			}},
			{
				"Captures",
				[]panel{
					graph("Captures", units.Short, capture,
						"Calls that are captured now, captures that are not in their buckets yet, and the maximum of "+
							"all pods.",
						query{"sum(" + of("caly_captures_live", onPods) + ")", "live"},
						query{"sum(" + of("caly_captures_waiting", onPods) + ")", "waiting"},
						query{"sum(" + of("caly_captures_max", onPods) + ")", "maximum"}),
					stack("Captures by outcome", units.OpsPerSecond, capture,
						"Captures that ended. `failed`, `rejected` and `cut` lack audio or all of it.",
						query{rate("outcome", "caly_captures_ended_total", onPods), "{{outcome}}"}),
					graph(
						"Room for captures", units.PercentUnit, capture,
						"Part of the disk space for captures that is in use in each pod. At 100 % captures end before "+
							"their calls.",
						query{
							sum("pod", "caly_captures_spool_bytes", onPods) + " / " + sum(
								"pod", "caly_captures_spool_max_bytes", onPods,
							),
							"{{pod}}",
						},
					),
				},
			},
		},
	}
}
