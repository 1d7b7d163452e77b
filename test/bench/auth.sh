#!/usr/bin/env bash
# Measures authenticated calls of bin/caly dataplane: alone, beside a flood of wrong logins, and against pgbench reading the same rows.
# Brings a PostgreSQL and a kube-apiserver of its own up on loopback, and removes them. Arguments go to test/bench/auth.
set -euo pipefail
PROGRAM=bench-auth
# shellcheck source=test/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

main() {
	cd "$ROOT"
	WORK=$(mktemp -d)
	chmod 711 "$WORK" # PostgreSQL runs as a user of its own
	trap finish EXIT
	trap "exit 143" TERM INT # which ends what this started
	step "looking for a kube-apiserver" "15 minutes to build, once"
	KUBEBUILDER_ASSETS=$("$CLUSTER/build.sh" envtest)
	export KUBEBUILDER_ASSETS
	step "starting PostgreSQL" "a few seconds"
	"$CLUSTER/postgres.sh" up --dir "$WORK/postgres" --listen 127.0.0.1 --port 17435
	CALY_BENCH_DSN_OWNER=$("$CLUSTER/postgres.sh" dsn owner --dir "$WORK/postgres")
	CALY_BENCH_DSN_DATAPLANE=$("$CLUSTER/postgres.sh" dsn dataplane --dir "$WORK/postgres")
	export CALY_BENCH_DSN_OWNER CALY_BENCH_DSN_DATAPLANE
	CALY_DATABASE_URL=$CALY_BENCH_DSN_OWNER bin/caly migrate up
	step "measuring" "about 7 minutes"
	go build -C test/bench -o "$WORK/auth" ./auth
	"$WORK/auth" -pgbench "$(pgbench_binary)" "$@"
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
