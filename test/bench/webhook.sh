#!/usr/bin/env bash
# Compares the webhook path with pgbench inserting the same row: same PostgreSQL, as many clients, alternating runs.
# Brings a PostgreSQL of its own up on loopback, and removes it. Arguments go to test/bench/webhook.
set -euo pipefail
PROGRAM=bench-webhook
# shellcheck source=test/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

main() {
	cd "$ROOT"
	bench_up 17434
	step "measuring" "about 4 minutes"
	go build -C test/bench -o "$WORK/webhook" ./webhook
	"$WORK/webhook" -pgbench "$(pgbench_binary)" "$@"
}

main "$@"
