#!/usr/bin/env bash
# Measures authenticated calls of bin/caly dataplane: alone, during a flood of wrong logins, and against pgbench reading the same rows.
# Brings a PostgreSQL and a kube-apiserver of its own up on loopback, and removes them. Arguments go to test/bench/auth.
set -euo pipefail
PROGRAM=bench-auth
# shellcheck source=test/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

main() {
	cd "$ROOT"
	step "looking for a kube-apiserver" "15 minutes to build, once"
	KUBEBUILDER_ASSETS=$("$CLUSTER/build.sh" envtest)
	export KUBEBUILDER_ASSETS
	bench_up 17435
	step "measuring" "about 7 minutes"
	go build -C test/bench -o "$WORK/auth" ./auth
	"$WORK/auth" -pgbench "$(pgbench_binary)" "$@"
}

main "$@"
