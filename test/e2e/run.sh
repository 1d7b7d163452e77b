#!/usr/bin/env bash
# The end-to-end suite on a local cluster with Caly on it: brings up what is missing, runs the tests, says how they went.
#
#   run.sh [go test flags]     such as -run TestRotation -v; without flags also the check of dashboards and rules after the suite
#   run.sh drill               the drill: induced faults, while a Prometheus with the chart's rules watches
#
# A cluster that was up before stays up; one that this made goes again, unless CALY_E2E_KEEP is set.
set -euo pipefail
PROGRAM=e2e
# shellcheck source=test/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# In the drill the durations of rules are divided by this.
FASTER=40
# And a pod has this many places for streams, and cleans up each minute in place of each half hour.
PLACES=20

main() {
	cd "$ROOT"
	require_rights e2e
	"$CLUSTER/cluster.sh" status >/dev/null 2>&1 && CALY_E2E_KEEP=1
	trap finish EXIT
	trap "exit 143" TERM INT # which ends what this started
	build_tools
	build_image
	start_servers
	"$CLUSTER/cluster.sh" load-image "$BIN/pause.tar" >/dev/null 2>&1 || die "the image of the probe pods cannot be loaded"
	export CALY_E2E_SMTP="$HOSTIP:17025" # the suite's own server, while a test needs one
	CALY_E2E_STREAM_GRACE=30 # seconds; most calls of the suite are shorter
	CHART_ARGS=(--set "dataplane.streamGraceSeconds=$CALY_E2E_STREAM_GRACE")
	if [[ ${1:-} == drill ]]; then
		CHART_ARGS+=(--set "dataplane.maxStreams=$PLACES,dataplane.cleanupInterval=1m")
	else
		CHART_ARGS+=(--set "mail.address=$CALY_E2E_SMTP" --set mail.from=caly@example.com --set mail.tls=none)
	fi
	install_chart
	CALY_E2E_AUTOSCALER=$DEMO/autoscaler.yaml # of the chart, for the test that applies it
	helm template caly charts/caly --namespace caly-system --show-only templates/dataplane-autoscaler.yaml --set "publicURL=http://$NODE:$NODE_PORT" \
		--set dataplane.autoscaling.enabled=true,dataplane.autoscaling.maxReplicas=3,dataplane.autoscaling.streamsPerPod=20 \
		>"$CALY_E2E_AUTOSCALER"
	CALY_E2E_DSN=$("$CLUSTER/postgres.sh" dsn operator)
	export CALY_E2E_STREAM_GRACE CALY_E2E_AUTOSCALER CALY_E2E_DSN CALY_E2E_WEBHOOKS="http://$NODE:$NODE_PORT" CALY_E2E_HOST_IP="$HOSTIP"
	if [[ ${1:-} == drill ]]; then
		drill
	else
		suite "$@"
	fi
}

suite() {
	start_prometheus --faster 1
	step "running the suite" "about 12 minutes"
	go_test -timeout 20m "$@" ./test/e2e/
	if [[ $# == 0 && -n $PROMETHEUS ]]; then
		step "comparing the dashboards and rules with what Prometheus has scraped"
		CALY_E2E_PROMETHEUS=$PROMETHEUS go_test -C test/prometheus -run 'TestDashboardsHaveData|TestRulesNameMetrics' .
	fi
	step "the suite passed"
}

drill() {
	start_prometheus --faster "$FASTER"
	[[ -n $PROMETHEUS ]] || die "the drill needs a cluster whose pods this machine reaches: CALY_PROVIDER=node"
	step "running the drill" "about 6 minutes"
	CALY_E2E_DRILL=$PROMETHEUS go_test -timeout 20m -run '^TestDrill$' ./test/e2e/
	step "the drill passed"
}

go_test() {
	local folder=()
	if [[ $1 == -C ]]; then folder=(-C "$2"); shift 2; fi
	go test "${folder[@]}" -tags e2e -count=1 -v "$@" | grep --line-buffered -Ev '^=== (RUN|PAUSE|CONT|NAME)'
}

finish() {
	local status=$?
	if [[ $status != 0 ]]; then
		diagnose >&2 || true
		echo "e2e: failed while $STEP" >&2
	fi
	if [[ -z ${CALY_E2E_KEEP:-} ]]; then
		"$ROOT/test/demo/down.sh" || status=1
	fi
	exit "$status"
}

main "$@"
