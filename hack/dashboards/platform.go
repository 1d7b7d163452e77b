package main

import "github.com/grafana/grafana-foundation-sdk/go/units"

// platform is the dashboard of what all other parts need: the operator, PostgreSQL and the processes.
func platform() board {
	return board{
		name:        "operator-database",
		title:       "Caly / Operator and database",
		description: "Controllers, PostgreSQL, cleanup and the processes of all pods.",
		variables:   []variable{namespaces, pods},
		rows: []row{
			postgres(),
			controllers(),
			processes(),
		},
	}
}

// postgres is the row of PostgreSQL.
func postgres() row {
	const failover = "how-to/survive-a-failover-of-postgresql.md"
	return row{"PostgreSQL", []panel{
		graph("PostgreSQL reached", units.Short, failover,
			"1 while a pod reaches a PostgreSQL server that accepts writes, else 0.",
			query{"min by (pod) (" + of("caly_database_up", onPods) + ")", "{{pod}}"}),
		graph("Connections in use", units.PercentUnit, "how-to/prepare-the-database.md",
			"Part of each pool's connections that are in use. At 100 % requests wait.",
			query{sum("pod, pool", "caly_database_pool_connections", onPods, `state="acquired"`) + " / " +
				sum("pod, pool", "caly_database_pool_max_connections", onPods), "{{pod}} {{pool}}"}),
		graph("Wait for a connection", units.Seconds, "how-to/prepare-the-database.md",
			"Seconds that requests waited for a connection, a second, by pool. It should be 0: raise "+
				"dataplane.database.",
			query{rate("pool", "caly_database_pool_wait_seconds_total", onPods), "{{pool}}"}),
		graph("Read-only servers met", units.Short, failover,
			"Times in 15 minutes that the server turned out to be read-only, as after a failover.",
			query{"sum by (pod) (increase(" + of("caly_database_read_only_total", onPods) + "[15m]))",
				"{{pod}}"}),
		stack("Rows removed", units.OpsPerSecond, watch,
			"Expired rows that the leading operator removed, by kind.",
			query{rate("kind", "caly_tidy_removed_rows_total"), "{{kind}}"}),
		graph("Age of the last removal", units.Seconds, watch,
			"Time since all expired rows were removed last. The operator does it every minute.",
			query{age("max", "caly_tidy_last_success_timestamp_seconds"), "age"}),
	}}
}

// controllers is the row of the operator.
func controllers() row {
	return row{
		"Operator",
		[]panel{
			graph("Failed reconciles", units.OpsPerSecond, watch,
				"Reconciles that failed, by controller. Errors that stay need a look at the operator's log.",
				query{rate("controller", "controller_runtime_reconcile_errors_total"), "{{controller}}"}),
			graph("Queue of each controller", units.Short, watch,
				"Objects that wait for their controller. A number that only grows: the operator is too slow.",
				query{sum("name", "workqueue_depth"), "{{name}}"}),
			graph("Age of the tenants' figures", units.Seconds, watch,
				"Time since the leading operator last read the figures of the Tenants.",
				query{age("max", "caly_tenant_metrics_last_success_timestamp_seconds"), "age"}),
			stack("Backfill runs", units.OpsPerSecond, "how-to/find-calls-whose-webhooks-were-lost.md",
				"Runs of backfill, by result. `rejected` and `unavailable`: see the Tenant's condition "+
					"BackfillSucceeded.",
				query{rate("result", "caly_backfill_runs_total"), "{{result}}"}),
			graph(
				"Age of the last backfill",
				units.Seconds,
				"how-to/find-calls-whose-webhooks-were-lost.md",
				"Time since the last successful run of each Tenant with backfill.",
				query{
					"topk(10, " + age("max by (tenant)", "caly_backfill_last_success_timestamp_seconds") + ")",
					"{{tenant}}",
				},
			),
			graph("Failed removals and looks at the keyring", units.Short, watch,
				"Times in an hour that the operator could not remove rows of a kind, or could not look at the "+
					"keyring.",
				query{"sum by (kind) (increase(" + of("caly_tidy_failures_total") + "[1h]))", "{{kind}}"},
				query{"sum(increase(" + of("caly_keyring_failures_total") + "[1h]))", "keyring"}),
		},
	}
}

// processes is the row of the processes of all pods.
func processes() row {
	return row{"Processes", []panel{
		stack("Versions", units.Short, "how-to/upgrade.md",
			"Pods by version. Two versions for long: a rollout is stuck.",
			query{"count by (version) (" + of("caly_build_info", onPods) + ")", "{{version}}"}),
		graph("Memory", units.BytesIEC, watch,
			"Resident memory of each process. A number that only grows towards the limit ends with a "+
				"restart.",
			query{sum("pod", "process_resident_memory_bytes", onPods), "{{pod}}"}),
		graph("CPU", units.Short, watch,
			"CPUs that each process uses. Near the limit of the pod, audio and answers become slow.",
			query{rate("pod", "process_cpu_seconds_total", onPods), "{{pod}}"}),
	}}
}
