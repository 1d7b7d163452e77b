package main

import "github.com/grafana/grafana-foundation-sdk/go/units"

const (
	watch  = "runbooks/README.md"
	upload = "how-to/find-out-why-a-recording-is-not-uploaded.md"
)

func webhooks() board {
	return board{
		name:        "webhooks",
		title:       "Caly / Webhooks",
		description: "From Exotel's request to the committed event.",
		variables:   []variable{namespaces, pods},
		rows: []row{
			{"Requests", []panel{
				stack("Received", units.RequestsPerSecond, watch,
					"Requests on a known path, by kind. None for minutes while calls go on: Exotel does not reach "+
						"Caly.",
					query{rate("kind", "caly_webhook_received_total", onPods), "{{kind}}"}),
				stack("Rejected", units.RequestsPerSecond, watch,
					"Requests answered with a problem, by its code. `unavailable`, `database` and `internal` are "+
						"Caly's faults.",
					query{rate("code", "caly_webhook_rejected_total", onPods), "{{code}}"}),
				stack("Not verified", units.RequestsPerSecond, "how-to/choose-how-webhooks-prove-themselves.md",
					"Requests that did not prove where they come from, by reason. `wrong_...` after a rotation of "+
						"a secret: finish the rotation.",
					query{rate("reason", "caly_webhook_verification_failures_total", onPods), "{{reason}}"}),
			}},
			{"Events", []panel{
				stack("Events by outcome", units.OpsPerSecond, "how-to/correct-dead-events.md",
					"Events committed. `duplicate` is normal. `dead` needs a person. `replayed` may be an attack.",
					query{rate("outcome", "caly_webhook_events_total", onPods), "{{outcome}}"}),
				graph("Fields left out", units.OpsPerSecond, "how-to/find-partial-events.md",
					"The ten fields of applied events that Caly could not read most often, by reason. No line: it "+
						"read every field.",
					query{"topk(10, " + rate("field, reason", "caly_webhook_unread_fields_total", onPods) + " > 0)",
						"{{field}}: {{reason}}"}),
				graph("Events that share a transaction", units.Short, watch,
					"Events committed in one transaction. Larger batches under load are normal.",
					times("caly_webhook_commit_batch_events", onPods)...),
			}},
			{"Time and places", []panel{
				graph("Time to the answer", units.Seconds, watch,
					"From the headers to the 200, with the COMMIT. Exotel gives up after 15 seconds.",
					times("caly_webhook_ack_seconds", onPods)...),
				graph("Webhooks in progress", units.Short, watch,
					"Webhooks in progress in each pod, and its maximum. At the maximum a pod answers 503.",
					query{sum("pod", "caly_webhook_in_flight", onPods), "{{pod}}"},
					query{"max(" + of("caly_webhook_in_flight_max", onPods) + ")", "maximum of a pod"}),
				graph("Wait for the commit", units.Seconds, "how-to/survive-a-failover-of-postgresql.md",
					"How long the oldest event of each pod waits for its commit. More than a second: PostgreSQL "+
						"is slow, or there are too few pods. No line: none waits.",
					query{age("min by (pod)", "caly_webhook_oldest_waiting_timestamp_seconds", onPods),
						"{{pod}}"}),
			}},
			{"Tenant configs", []panel{
				graph("Tenant configs", units.Short, watch,
					"Tenants whose config each pod knows. All pods should know the same number.",
					query{sum("pod", "caly_tenant_configs", onPods), "{{pod}}"}),
				graph("Missing or unreadable configs", units.Short, watch,
					"Configs that a pod does not have or cannot read. Webhooks of these Tenants get 503, or the "+
						"last good config is used.",
					query{sum("pod", "caly_tenant_configs_missing", onPods), "missing, {{pod}}"},
					query{sum("pod", "caly_tenant_configs_unreadable", onPods), "unreadable, {{pod}}"}),
			}},
		},
	}
}
