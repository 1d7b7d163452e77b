package main

import "github.com/grafana/grafana-foundation-sdk/go/units"

// overview answers one question: is every call's recording safe?
func overview() board {
	return board{
		name:  "overview",
		title: "Caly / Overview",
		description: "Is every call's recording safe? The first row is green then. Each panel links to the " +
			"page that says what to do.",
		variables: []variable{namespaces},
		rows: []row{
			{"Is every call's recording safe?", safety()},
			{"Calls and recordings", overviewFlow()},
			{"Live calls and PostgreSQL", overviewLive()},
		},
	}
}

func safety() []panel {
	return []panel{
		{
			title: "Webhooks not stored",
			unit:  units.RequestsPerSecond,
			stat:  true,
			bad:   at(0.0001),
			description: "Webhooks that Caly could not store, a second. Exotel repeats one after 5 and 15 minutes. " +
				"Correct the cause within 20 minutes; after that only backfill finds these calls.",
			page: "runbooks/CalyWebhookErrorBudgetBurn.md",
			queries: one(
				`sum(rate(caly_webhook_rejected_total{namespace="$namespace",code=~"unavailable|database|internal"}[$__rate_interval]))`+
					` or 0 * sum(caly_webhook_in_flight{namespace="$namespace"})`,
				"webhooks",
			),
		},
		{
			title: "Pods without PostgreSQL",
			unit:  units.Short,
			stat:  true,
			bad:   at(1),
			description: "Pods that reach no PostgreSQL server that accepts writes. Data plane pods answer " +
				"webhooks with 503 meanwhile.",
			page:    "runbooks/CalyPodWithoutDatabase.md",
			queries: one(`sum(caly_database_up{namespace="$namespace"} == bool 0)`, "pods"),
		},
		{
			title: "Dead events",
			unit:  units.Short,
			stat:  true,
			bad:   at(1),
			description: "Events that Caly stored and could not apply. Their recordings wait until a person " +
				"corrects the cause and replays them.",
			page: "runbooks/CalyDeadEvents.md",
			queries: one(
				orZero(`sum(max by (tenant, reason) (caly_tenant_dead_events{namespace="$namespace"}))`), "events",
			),
		},
		{
			title: "Failed recordings",
			unit:  units.Short,
			stat:  true,
			bad:   at(1),
			description: "Recordings whose upload Caly gave up. They wait for a person. Exotel deletes its " +
				"copy one day.",
			page: "runbooks/CalyRecordingsFailed.md",
			queries: one(
				orZero(`sum(max by (tenant, code) (caly_tenant_recordings_failed{namespace="$namespace"}))`),
				"recordings",
			),
		},
		{
			title: "Oldest waiting recording",
			unit:  units.Seconds,
			stat:  true,
			warn:  at(1800),
			bad:   at(7200),
			description: "Age of the oldest recording that is not in its bucket yet. 0: every recording is " +
				"uploaded or failed.",
			page: "runbooks/CalyRecordingsOverdue.md",
			queries: one(
				orZero(age("min", "caly_tenant_recordings_oldest_timestamp_seconds")), "age",
			),
		},
		{
			title: "Age of these figures",
			unit:  units.Seconds,
			stat:  true,
			warn:  at(60),
			bad:   at(300),
			description: "Time since the leading operator last read the figures of the Tenants from PostgreSQL. " +
				"While it is red, the panels about recordings show an old state. No data: no operator runs, or " +
				"Prometheus reaches none.",
			page: "runbooks/CalyTenantMetricsStale.md",
			queries: one(age("max", "caly_tenant_metrics_last_success_timestamp_seconds"),
				"age"),
		},
	}
}

func overviewFlow() []panel {
	return []panel{
		{
			title:       "Events",
			unit:        units.OpsPerSecond,
			stacked:     true,
			description: "Events committed, by outcome. `duplicate` is normal: Exotel repeats. `dead` needs a person.",
			page:        watch,
			queries: one(`sum by (outcome) (rate(caly_webhook_events_total{namespace="$namespace"}[$__rate_interval]))`,
				"{{outcome}}"),
		},
		{
			title:   "Rejected webhooks",
			unit:    units.RequestsPerSecond,
			stacked: true,
			description: "Webhooks answered with a problem, by its code. `unavailable`, `database` and " +
				"`internal` are Caly's faults.",
			page: watch,
			queries: one(`sum by (code) (rate(caly_webhook_rejected_total{namespace="$namespace"}[$__rate_interval]))`,
				"{{code}}"),
		},
		{
			title: "Lost webhooks found by backfill",
			unit:  units.Short,
			description: "Calls in an hour whose webhooks did not come and that backfill filled in. Some are always lost. " +
				"Many mean that Exotel does not reach Caly.",
			page:    "how-to/find-calls-whose-webhooks-were-lost.md",
			queries: one(`sum(increase(caly_backfill_found_total{namespace="$namespace"}[1h]))`, "calls"),
		},
		{
			title:       "Recordings that ended",
			unit:        units.OpsPerSecond,
			stacked:     true,
			description: "Recordings uploaded and failed, all Tenants together.",
			page:        "how-to/find-out-why-a-recording-is-not-uploaded.md",
			queries: one(
				`sum by (outcome) (rate(caly_tenant_recordings_total{namespace="$namespace"}[$__rate_interval]))`,
				"{{outcome}}",
			),
		},
		{
			title:   "Recordings in progress",
			unit:    units.Short,
			stacked: true,
			description: "Recordings that wait for an upload pod, and those that a pod uploads. " +
				"A number of waiting recordings that only grows means that uploads are too slow or fail.",
			page: "how-to/find-out-why-a-recording-is-not-uploaded.md",
			queries: []query{
				{
					orZero(`sum(max by (tenant, code) (caly_tenant_recordings_waiting{namespace="$namespace"}))`),
					"waiting",
				},
				{
					orZero(`sum(max by (tenant) (caly_tenant_recordings_uploading{namespace="$namespace"}))`),
					"uploading",
				},
			},
		},
		{
			title:       "Time from the end of a call to its object",
			unit:        units.Seconds,
			description: "How long it takes until a recording is verified in its bucket. Minutes are normal.",
			page:        "how-to/find-out-why-a-recording-is-not-uploaded.md",
			queries: []query{
				{quantile("0.5", "", "caly_tenant_recording_seconds"), "half of the recordings"},
				{quantile("0.95", "", "caly_tenant_recording_seconds"), "95 %"},
			},
		},
	}
}

func overviewLive() []panel {
	return []panel{
		{
			title:       "Live calls",
			unit:        units.Short,
			description: "Audio streams of all pods, and how many the pods accept together.",
			page:        "how-to/scale-by-live-calls.md",
			queries: []query{
				{`sum(caly_stream_sessions_live{namespace="$namespace"})`, "live"},
				{`sum(caly_stream_sessions_max{namespace="$namespace"})`, "maximum"},
			},
		},
		{
			title: "Captures",
			unit:  units.Short,
			description: "Calls that are captured now, and captures that are not in their buckets yet. The " +
				"latter should fall to 0.",
			page: "how-to/capture-calls.md",
			queries: []query{
				{`sum(caly_captures_live{namespace="$namespace"})`, "live"},
				{`sum(caly_captures_waiting{namespace="$namespace"})`, "waiting"},
			},
		},
		{
			title: "Database connections in use",
			unit:  units.PercentUnit,
			description: "Part of each pool's connections that are in use, in the pod that uses most. At 100 % " +
				"requests wait.",
			page: "how-to/prepare-the-database.md",
			queries: one(
				`max by (pool) (sum by (pod, pool) (caly_database_pool_connections{namespace="$namespace",state="acquired"})`+
					` / sum by (pod, pool) (caly_database_pool_max_connections{namespace="$namespace"}))`,
				"{{pool}}",
			),
		},
	}
}
