package main

import "github.com/grafana/grafana-foundation-sdk/go/units"

func accounts() board {
	const (
		people = "how-to/give-a-tenant-accounts.md"
		smtp   = "how-to/when-the-smtp-server-cannot-be-used.md"
	)
	return board{
		name:        "accounts",
		title:       "Caly / Accounts and API",
		description: "The tenant API, logins, limits and mail.",
		variables:   []variable{namespaces, pods},
		rows: []row{
			{"Requests", []panel{
				stack("Requests", units.RequestsPerSecond, "api.md", "Requests of the tenant API, by operation.",
					query{rate("operation", "caly_api_request_seconds_count", onPods), "{{operation}}"}),
				graph("Time of a request, 95 %", units.Seconds, "api.md",
					"Time to answer a request, by operation. Logins take longer on purpose: they hash a password.",
					query{quantile("0.95", "operation", "caly_api_request_seconds", onPods), "{{operation}}"}),
				stack("Problems", units.RequestsPerSecond, "api.md#errors",
					"Requests answered with a problem, by its code. `internal`, `database` and `unavailable` are "+
						"Caly's faults.",
					query{rate("code", "caly_api_problems_total", onPods), "{{code}}"}),
			}},
			{"Limits and tokens", []panel{
				stack("Tries over a limit", units.OpsPerSecond, people,
					"Tries rejected by a limit, by limit. Many of `login`: an attacker guesses passwords. The "+
						"Tenant's audit log has the addresses.",
					query{rate("limit", "caly_ratelimit_decisions_total", onPods, `outcome=~"rejected|blocked"`),
						"{{limit}}"}),
				stack("Checks of access tokens", units.OpsPerSecond, people,
					"Checks of access tokens, by result: `valid`, or why a token was rejected.",
					query{rate("result", "caly_auth_token_checks_total", onPods), "{{result}}"}),
				graph("Age of the list of revoked tokens", units.Seconds, watch,
					"How long ago each pod read which tokens are revoked. Above 30 seconds revoked tokens are "+
						"still accepted: see PostgreSQL.",
					query{age("min by (pod)", "caly_auth_revocations_read_timestamp_seconds", onPods),
						"{{pod}}"}),
			}},
			{"Mail and keys", []panel{
				stack("Mail", units.OpsPerSecond, smtp,
					"Mail by outcome. `retried` for long: the SMTP server accepts none.",
					query{rate("outcome", "caly_mail_sent_total", onPods), "{{outcome}}"}),
				graph("Oldest mail that waits", units.Seconds, smtp,
					"Age of the oldest mail in the outbox. More than 10 minutes: people wait for their codes. No "+
						"line: none waits.",
					query{age("min", "caly_mail_oldest_pending_timestamp_seconds"), "age"}),
				graph("Pods whose SMTP server is unusable", units.Short, smtp,
					"Pods from which the SMTP server accepted no mail at the last try.",
					query{"sum(" + of("caly_mail_server_usable", onPods) + " == bool 0)", "pods"}),
				graph("Age of the signing key", units.Seconds, people,
					"Age of the key that signs access tokens. Above the signing key's period, rotation does not "+
						"work.",
					query{age("max", "caly_keyring_signing_key_created_timestamp_seconds"), "age"}),
				graph("Keyrings replaced", units.Short, people,
					"Keyrings that the operator replaced in an hour, by cause. Each signs everybody out.",
					query{"sum by (cause) (increase(" + of("caly_keyring_made_total") + "[1h]))", "{{cause}}"}),
				graph("Limits without the database", units.OpsPerSecond, watch,
					"Questions for limits that PostgreSQL did not answer within a second. Each pod counts for "+
						"itself then.",
					query{"sum(rate(" + of("caly_ratelimit_fallback_total", onPods) + "[$__rate_interval]))",
						"questions"}),
			}},
		},
	}
}
