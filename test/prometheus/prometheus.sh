#!/usr/bin/env bash
# A Prometheus for the local cluster. It scrapes the installed release as the chart's PodMonitors say, with the chart's rules.
#
#   prometheus.sh up [--faster N]   starts it on 127.0.0.1:17099 (CALY_PROMETHEUS_PORT); replaces one that runs
#   prometheus.sh down              ends it and removes its data
#   prometheus.sh url               prints its address
#
# --faster N divides each duration of a rule by N, and scrapes every second. The release is caly in caly-system, on the cluster of cluster.sh.
# It keeps 12 hours, at most 512 MB. Debian's package prometheus is installed when it is missing; its own service is not started.
set -euo pipefail
# shellcheck source=test/cluster/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
DIR=$BASE/prometheus
PORT=${CALY_PROMETHEUS_PORT:-17099}
# With --faster no range is shorter than this: the operator reads the metrics of Tenants every 10 s.
MIN_WINDOW=30s
# And no age: heartbeats and lists of revoked tokens come in intervals of their own.
MIN_AGE=45s

main() {
	case ${1:-} in
	up) lock prometheus; shift; up "$@" ;;
	down) lock prometheus; down ;;
	url) echo "http://127.0.0.1:$PORT" ;;
	*) sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; [[ ${1:-} == -h || ${1:-} == --help ]] || exit 2 ;;
	esac
}

up() {
	local args=() bin
	if [[ ${1:-} == --faster && ${2:-1} != 1 ]]; then
		args=(-faster "$2" -min-window "$MIN_WINDOW" -min-age "$MIN_AGE" -scrape 1s)
	fi
	[[ $(cat "$STATE/provider" 2>/dev/null) == node ]] || die "there is no cluster of cluster.sh here, or it is kind's, whose pods this machine does not reach"
	[[ ! -d $DIR ]] || down
	install_prometheus
	bin=$("$CLUSTER_SRC/build.sh" helm)
	mkdir -p "$DIR/config" "$DIR/run"
	: >"$DIR/mine"
	manifests "$bin/helm" >"$DIR/manifests.yaml"
	GOWORK=off go build -C "$ROOT/test/prometheus" -o "$DIR/bin/discovery" .
	TOOLS_ROOT=$DIR/bin start discovery "$DIR/bin/discovery" -out "$DIR/config" -kubeconfig "$("$CLUSTER_SRC/cluster.sh" kubeconfig)" \
		-manifests "$DIR/manifests.yaml" "${args[@]}"
	wait_for 20 "the configuration is written" discovery test -s "$DIR/config/prometheus.yml"
	start_prometheus
	wait_for 20 "Prometheus is ready" prometheus curl --silent --fail --max-time 2 --output /dev/null "http://127.0.0.1:$PORT/-/ready"
	say "Prometheus is at http://127.0.0.1:$PORT"
}

# manifests renders what the installed release would have for the Prometheus Operator, whose CRDs are not in this cluster.
manifests() {
	local values
	values=$("$1" get values caly --namespace caly-system --kubeconfig "$("$CLUSTER_SRC/cluster.sh" kubeconfig)" --output yaml)
	"$1" template caly "$ROOT/charts/caly" --namespace caly-system --values - --set metrics.podMonitors.enabled=true,metrics.rules.enabled=true \
		--show-only templates/podmonitors.yaml --show-only templates/rules.yaml <<<"$values"
}

# Bounds: memory by Go's own limit and by samples per query, disk by time and size.
start_prometheus() {
	if (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; then die "127.0.0.1:$PORT is taken by another process"; fi
	local program
	program=$(readlink -f "$(command -v prometheus)")
	GOMEMLIMIT=512MiB TOOLS_ROOT=$(dirname "$program") start prometheus "$program" --config.file="$DIR/config/prometheus.yml" \
		--web.listen-address="127.0.0.1:$PORT" --storage.tsdb.path="$DIR/data" --storage.tsdb.retention.time=12h \
		--storage.tsdb.retention.size=512MB --query.max-samples=5000000 --log.level=warn
}

# install_prometheus installs the package without its service, which would scrape this machine from then on.
install_prometheus() {
	if have prometheus && have promtool; then return; fi
	local policy=/usr/sbin/policy-rc.d ours=""
	if is_root && [[ ! -e $policy ]]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
		ours=1
	fi
	(install_package prometheus) || { [[ -z $ours ]] || rm -f "$policy"; exit 1; }
	[[ -z $ours ]] || rm -f "$policy"
}

down() {
	if [[ ! -d $DIR ]]; then
		say "nothing is running"
	else
		[[ -f $DIR/mine ]] || die "$DIR is not this script's state folder: remove it by hand"
		stop prometheus 20
		stop discovery
		rm -rf "$DIR"
		say "down; its data is removed"
	fi
	[[ ! -d $BASE ]] || rmdir "$BASE" 2>/dev/null || true
}

main "$@"
