# shellcheck shell=bash
# What the demo, the end-to-end suite and the benchmarks share: a local cluster with Caly on it. Sourced, never run.

# shellcheck disable=SC2034 # the scripts that source this use them
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CLUSTER=$ROOT/test/cluster
STATE=${CALY_STATE:-/var/tmp/caly/cluster}
DEMO=$(dirname "$STATE")/demo
PROGRAM=${PROGRAM:-demo} # the make target that runs, for messages
NODE_PORT=30080
STEP=starting
CHART_ARGS=() # of one script's own

die() {
	printf '%s: failed: %s\n' "$PROGRAM" "$*" >&2
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

kind_answers() { have docker && have kind && timeout 10 docker info >/dev/null 2>&1; }

require_rights() {
	[[ $(uname -s) == Linux && $(id -u) == 0 ]] || kind_answers || die "a local cluster needs root on Linux, or a Docker engine and kind that work for this user.
  With root:       sudo -E make $1
  With Docker:     install kind (https://kind.sigs.k8s.io), start Docker, then make $1
  With neither:    'make test' runs every test that needs no pod; an existing cluster takes the chart: see charts/caly/README.md"
	have go || die "Go is missing: install it from https://go.dev/dl, then run make $1 again"
}

diagnose() {
	[[ -n ${KUBECONFIG:-} && -s ${KUBECONFIG:-} ]] || return 0
	echo "--- state of the cluster"
	kubectl get tenants -A -o wide
	kubectl -n caly-system get pods
	kubectl -n caly-uploads get jobs,pods
	local component
	for component in operator dataplane; do
		echo "--- last words of the $component"
		kubectl -n caly-system logs "deployment/caly-$component" --tail=5
	done
}

step() {
	STEP=$1
	printf '%s: [%3d s] %s\n' "$PROGRAM" "$SECONDS" "$1${2:+ ($2)}"
}

build_tools() {
	local names=(all) missing
	if kind_answers && [[ ${CALY_PROVIDER:-} != node ]]; then names=(kubectl helm versitygw pause); fi
	missing=$("$CLUSTER/build.sh" --list | grep -c 'missing$' || true)
	if [[ ${names[0]} == all && $missing != 0 ]]; then
		step "building the cluster's programs" "$missing to build; all of them take 15 to 20 minutes on two cores, once"
	else
		step "looking for the cluster's programs" "built once, then kept"
	fi
	BIN=$("$CLUSTER/build.sh" "${names[@]}")
	export PATH="$BIN:$PATH"
}

# build_image names the image after the program in it, so that a changed program is a changed Deployment.
build_image() {
	step "building caly and its image" "about 3 minutes the first time, then seconds"
	make --no-print-directory build
	TAG=demo-$(cat bin/caly bin/caly-upload | sha256sum | cut -c1-12)
	IMAGE_FILE=$ROOT/dist/caly-$TAG.tar
	[[ -s $IMAGE_FILE ]] && return
	mkdir -p dist
	rm -f dist/caly-demo-*.tar
	go run -C hack/image . --binary "$ROOT/bin/caly" --also "$ROOT/bin/caly-upload" --tag "localhost/caly:$TAG" --out "$IMAGE_FILE.tmp" \
		--license "$ROOT/LICENSE" --license "$ROOT/THIRD_PARTY_NOTICES"
	mv "$IMAGE_FILE.tmp" "$IMAGE_FILE"
}

start_servers() {
	step "starting the cluster" "about 10 s"
	"$CLUSTER/cluster.sh" up
	KUBECONFIG=$("$CLUSTER/cluster.sh" kubeconfig)
	export KUBECONFIG
	HOSTIP=$("$CLUSTER/cluster.sh" host-ip)
	export HOSTIP
	mkdir -p "$DEMO"
	chmod 700 "$DEMO"
	step "loading the image"
	if [[ $(cat "$DEMO/image" 2>/dev/null) != "$TAG $(stat -c %Y "$KUBECONFIG")" ]]; then
		"$CLUSTER/cluster.sh" load-image "$IMAGE_FILE" >/dev/null 2>"$DEMO/load-image.log" || die "the image cannot be loaded: $(cat "$DEMO/load-image.log")"
		echo "$TAG $(stat -c %Y "$KUBECONFIG")" >"$DEMO/image"
	fi
	step "starting PostgreSQL and the S3 server" "a few seconds"
	"$CLUSTER/postgres.sh" up
	"$CLUSTER/s3.sh" up
	eval "$("$CLUSTER/s3.sh" env)"
	umask 077
	printf %s "$CALY_S3_ACCESS_KEY" >"$DEMO/access-key"
	printf %s "$CALY_S3_SECRET_KEY" >"$DEMO/secret-key"
}

# secret NAMESPACE NAME KEY=FILE...: values come from files, since arguments are visible to every user.
secret() {
	local namespace=$1 name=$2
	shift 2
	kubectl create secret generic "$name" --namespace "$namespace" "${@/#/--from-file=}" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
}

namespace() {
	kubectl create namespace "$1" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
}

install_chart() {
	step "installing the chart" "20 to 40 s"
	local role
	namespace caly-system
	kubectl label namespace caly-system --overwrite pod-security.kubernetes.io/enforce=restricted >/dev/null
	for role in owner operator dataplane; do
		"$CLUSTER/postgres.sh" dsn "$role" >"$DEMO/dsn-$role"
		secret caly-system "caly-database-$role" "url=$DEMO/dsn-$role"
	done
	NODE=$(kubectl get nodes -o 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}')
	network_values >"$DEMO/network.yaml"
	helm upgrade --install caly charts/caly --namespace caly-system --wait --timeout 4m --values "$DEMO/network.yaml" \
		--set image.repository=localhost/caly --set "image.tag=$TAG" --set "publicURL=http://$NODE:$NODE_PORT" \
		--set sources.allowHTTP=true --set "sources.allowedCIDRs={$HOSTIP/32}" --set "dataplane.allowedAgentCIDRs={$HOSTIP/32}" \
		--set storage.allowHTTP=true --set "storage.allowedCIDRs={$HOSTIP/32}" \
		--set dataplane.service.type=NodePort --set "dataplane.service.nodePort=$NODE_PORT" "${CHART_ARGS[@]}" >"$DEMO/helm.log" ||
		die "helm could not install the chart; see above and $DEMO/helm.log"
	kubectl -n caly-system get deployments,services
}

# network_values prints the chart's values for this cluster's network: all servers are on the machine itself, on ports of their own.
network_values() {
	cat <<-K
		networkPolicies:
		  dns:
		    to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}, {ipBlock: {cidr: $HOSTIP/32}}]
		    ports: [53, 10053]
		  database:
		    to: [{ipBlock: {cidr: $HOSTIP/32}}]
		    ports: [17432]
		  mail:
		    to: [{ipBlock: {cidr: $HOSTIP/32}}]
	K
}

# start_prometheus sets PROMETHEUS to the address of a Prometheus that watches the release; empty where it cannot reach the pods.
start_prometheus() { # [--faster N]
	PROMETHEUS=""
	if [[ $(cat "$STATE/provider") == kind ]]; then
		step "leaving Prometheus out" "this machine does not reach the pods of kind"
		return
	fi
	step "starting Prometheus" "a minute the first time, then seconds"
	"$ROOT/test/prometheus/prometheus.sh" up "$@"
	PROMETHEUS=$("$ROOT/test/prometheus/prometheus.sh" url)
}

random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# bench_up PORT: a folder in WORK, and a migrated PostgreSQL of the benchmark's own on loopback, whose URLs are in CALY_BENCH_DSN_OWNER and
# CALY_BENCH_DSN_DATAPLANE. Both go when the script ends.
bench_up() {
	WORK=$(mktemp -d)
	chmod 711 "$WORK" # PostgreSQL runs as a user of its own
	trap bench_down EXIT
	trap "exit 143" TERM INT # which ends what this started
	step "starting PostgreSQL" "a few seconds"
	"$CLUSTER/postgres.sh" up --dir "$WORK/postgres" --listen 127.0.0.1 --port "$1"
	CALY_BENCH_DSN_OWNER=$("$CLUSTER/postgres.sh" dsn owner --dir "$WORK/postgres")
	CALY_BENCH_DSN_DATAPLANE=$("$CLUSTER/postgres.sh" dsn dataplane --dir "$WORK/postgres")
	export CALY_BENCH_DSN_OWNER CALY_BENCH_DSN_DATAPLANE
	CALY_DATABASE_URL=$CALY_BENCH_DSN_OWNER bin/caly migrate up
}

bench_down() {
	local status=$?
	"$CLUSTER/postgres.sh" down --dir "$WORK/postgres" >/dev/null 2>&1 || true
	rm -rf "$WORK"
	exit "$status"
}

pgbench_binary() {
	if have pgbench; then
		command -v pgbench
	else
		compgen -G '/usr/lib/postgresql/*/bin/pgbench' | sort -V | tail -n 1
	fi
}
