#!/usr/bin/env bash
# Compares the webhook path with pgbench inserting the same row: same PostgreSQL, as many clients, alternating runs.
# Brings a PostgreSQL of its own up on loopback, and removes it. Arguments go to test/bench/webhook.
set -euo pipefail
PROGRAM=bench-webhook
# shellcheck source=test/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

main() {
	cd "$ROOT"
	WORK=$(mktemp -d)
	chmod 711 "$WORK" # PostgreSQL runs as a user of its own
	trap finish EXIT
	trap "exit 143" TERM INT # which ends what this started
	step "starting PostgreSQL" "a few seconds"
	"$CLUSTER/postgres.sh" up --dir "$WORK/postgres" --listen 127.0.0.1 --port 17434
	CALY_BENCH_DSN_OWNER=$("$CLUSTER/postgres.sh" dsn owner --dir "$WORK/postgres")
	CALY_BENCH_DSN_DATAPLANE=$("$CLUSTER/postgres.sh" dsn dataplane --dir "$WORK/postgres")
	export CALY_BENCH_DSN_OWNER CALY_BENCH_DSN_DATAPLANE
	CALY_DATABASE_URL=$CALY_BENCH_DSN_OWNER bin/caly migrate up
	step "measuring" "about 4 minutes"
	go build -C test/bench -o "$WORK/webhook" ./webhook
	"$WORK/webhook" -pgbench "$(pgbench_binary)" "$@"
}

pgbench_binary() {
	if have pgbench; then
		command -v pgbench
	else
		compgen -G '/usr/lib/postgresql/*/bin/pgbench' | sort -V | tail -n 1
	fi
}

finish() {
	local status=$?
	"$CLUSTER/postgres.sh" down --dir "$WORK/postgres" >/dev/null 2>&1 || true
	rm -rf "$WORK"
	exit "$status"
}

main "$@"
