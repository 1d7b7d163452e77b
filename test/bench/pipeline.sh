#!/usr/bin/env bash
# Measures the whole pipeline on the local cluster: 2,000 recordings of 64 KB queued at once, compared with one Job for each recording.
# A cluster that was up before stays up; one that this made goes again. Arguments go to test/bench/pipeline.
set -euo pipefail
PROGRAM=bench-pipeline
# shellcheck source=test/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

main() {
	cd "$ROOT"
	require_rights bench-pipeline
	KEEP=""
	if "$CLUSTER/cluster.sh" status >/dev/null 2>&1; then KEEP=1; fi
	trap finish EXIT
	trap "exit 143" TERM INT # which ends what this started
	build_tools
	build_image
	start_servers
	install_chart
	CALY_BENCH_DSN=$("$CLUSTER/postgres.sh" dsn operator)
	export CALY_BENCH_DSN
	mkdir -p "$DEMO"
	go build -C test/bench -o "$DEMO/pipeline" ./pipeline
	step "measuring" "about 3 minutes"
	"$DEMO/pipeline" -image "localhost/caly:$TAG" -host-ip "$HOSTIP" "$@"
}

finish() {
	local status=$?
	[[ $status == 0 ]] || diagnose >&2 || true
	if [[ -z $KEEP ]]; then "$ROOT/test/demo/down.sh" >/dev/null || status=1; fi
	exit "$status"
}

main "$@"
