#!/usr/bin/env bash
# Builds the programs of the local cluster from their Go modules, each once for each version.
#
#   build.sh [name ...|all|envtest]   builds what is missing, then prints the folder of the programs (default: all)
#   build.sh --print-bin              prints that folder, builds nothing
#   build.sh --list                   names, versions and which are there
#   build.sh --prune                  removes the programs of other versions
#
# Layout under $CALY_TOOLS (default ~/.cache/caly/tools):
#   store/<name>-<version>-<key>/     one program; the key covers its module, flags, compiler and platform
#   bin-<key>/                        links to the programs that belong to one state of this folder
set -euo pipefail
# shellcheck source=test/cluster/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# name | folder of the module | module that gives the version | package | path under bin | usual cold build on two cores
RECIPES='
etcd|etcd|go.etcd.io/etcd/server/v3|go.etcd.io/etcd/server/v3|etcd|30 s
kube-apiserver|kubernetes|k8s.io/kubernetes|k8s.io/kubernetes/cmd/kube-apiserver|kube-apiserver|5 min
kubectl|kubernetes|k8s.io/kubernetes|k8s.io/kubernetes/cmd/kubectl|kubectl|30 s
kube-controller-manager|kubernetes|k8s.io/kubernetes|k8s.io/kubernetes/cmd/kube-controller-manager|kube-controller-manager|2 min
kube-scheduler|kubernetes|k8s.io/kubernetes|k8s.io/kubernetes/cmd/kube-scheduler|kube-scheduler|20 s
kubelet|kubernetes|k8s.io/kubernetes|k8s.io/kubernetes/cmd/kubelet|kubelet|30 s
kube-proxy|kubernetes|k8s.io/kubernetes|k8s.io/kubernetes/cmd/kube-proxy|kube-proxy|15 s
containerd|containerd|github.com/containerd/containerd/v2|github.com/containerd/containerd/v2/cmd/containerd|containerd|1 min
containerd-shim-runc-v2|containerd|github.com/containerd/containerd/v2|github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2|containerd-shim-runc-v2|10 s
ctr|containerd|github.com/containerd/containerd/v2|github.com/containerd/containerd/v2/cmd/ctr|ctr|10 s
runc|runc|github.com/opencontainers/runc|github.com/opencontainers/runc|runc|10 s
cni-ptp|cni|github.com/containernetworking/plugins|github.com/containernetworking/plugins/plugins/main/ptp|cni/ptp|5 s
cni-bridge|cni|github.com/containernetworking/plugins|github.com/containernetworking/plugins/plugins/main/bridge|cni/bridge|5 s
cni-loopback|cni|github.com/containernetworking/plugins|github.com/containernetworking/plugins/plugins/main/loopback|cni/loopback|5 s
cni-host-local|cni|github.com/containernetworking/plugins|github.com/containernetworking/plugins/plugins/ipam/host-local|cni/host-local|5 s
cni-portmap|cni|github.com/containernetworking/plugins|github.com/containernetworking/plugins/plugins/meta/portmap|cni/portmap|5 s
versitygw|s3|github.com/versity/versitygw|github.com/versity/versitygw/cmd/versitygw|versitygw|90 s
helm|helm|helm.sh/helm/v4|helm.sh/helm/v4/cmd/helm|helm|2 min
kubeconform|kubeconform|github.com/yannh/kubeconform|github.com/yannh/kubeconform/cmd/kubeconform|kubeconform|10 s
coredns|coredns|github.com/coredns/coredns|github.com/coredns/coredns|coredns|2 min
netpol|netpol|sigs.k8s.io/kube-network-policies|.|netpol|30 s
pause|../pause||.|pause.tar|5 s
'
# Only this much of a Kubernetes is needed by tests that talk to an API server and run no pod.
ENVTEST='etcd kube-apiserver kubectl'

main() {
	local names=() group=()
	check_go
	case ${1:-all} in
	-h | --help) sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; return ;;
	--print-bin) load_keys; echo "$BIN"; return ;;
	--list) load_keys; list; return ;;
	--prune) load_keys; prune; return ;;
	esac
	local name
	for name in "${@:-all}"; do
		case $name in
		all) mapfile -t -O "${#names[@]}" names < <(recipe_names) ;;
		envtest) read -ra group <<<"$ENVTEST" && names+=("${group[@]}") ;;
		*) names+=("$name") ;;
		esac
	done
	load_keys
	for name in "${names[@]}"; do
		[[ -n ${KEY[$name]:-} ]] || die "unknown name '$name'; known: all, envtest, $(recipe_names | paste -sd' ')"
	done
	for name in "${names[@]}"; do ensure "$name"; done
	echo "$BIN"
}

check_go() {
	have go || die "Go is missing: install Go $(go_wanted) or newer (https://go.dev/dl)"
	GOVERSION=$(GOWORK=off GOTOOLCHAIN=local go env GOVERSION)
	local oldest
	oldest=$(printf '%s\n%s\n' "$(go_wanted)" "${GOVERSION#go}" | sort -V | head -n 1)
	[[ $oldest == "$(go_wanted)" ]] || die "Go ${GOVERSION#go} is too old: $(go_wanted) or newer is needed"
}

go_wanted() { awk '$1 == "go" { print $2 }' "$CLUSTER_SRC/tools/kubernetes/go.mod"; }
recipe_names() { awk -F'|' 'NF > 1 { print $1 }' <<<"$RECIPES"; }

# load_keys fills KEY (name -> key), VERSION (name -> version), RECIPE (name -> the rest of its line) and BIN.
load_keys() {
	declare -gA KEY=() VERSION=() RECIPE=() MODSUM=()
	local name dir module rest all=""
	while IFS='|' read -r name dir module rest; do
		[[ -n $name ]] || continue
		if [[ -z ${MODSUM[$dir]:-} ]]; then MODSUM[$dir]=$(module_sum "$dir"); fi
		RECIPE[$name]="$dir|$module|$rest"
		VERSION[$name]=$(module_version "$dir" "$module")
		KEY[$name]=$(printf '%s\n' "$name|$dir|$module|${rest%|*}" "${MODSUM[$dir]}" "$GOVERSION" "$(uname -m)" "$(flags "$name" "${VERSION[$name]}")" | sha256sum | cut -c1-10)
		all+="$name ${KEY[$name]}"$'\n'
	done <<<"$RECIPES"
	BIN=$TOOLS_ROOT/bin-$(sha256sum <<<"$all" | cut -c1-12)
}

module_sum() {
	local dir=$CLUSTER_SRC/tools/$1
	# The pause image is written by hack/image, so it depends on both.
	if [[ $1 == ../pause ]]; then
		cat "$dir"/*.go "$dir/go.mod" "$CLUSTER_SRC"/../../hack/image/{main.go,go.mod,go.sum} | sha256sum
	else
		# Some folders hold a program of their own, which uses the module.
		find "$dir" -maxdepth 1 \( -name go.mod -o -name go.sum -o -name '*.go' \) -print0 | sort -z | xargs -0 cat | sha256sum
	fi
}

module_version() {
	if [[ -z $2 ]]; then echo 1; return; fi
	awk -v m="$2" '$1 == m { print $2; exit } $1 == "require" && $2 == m { print $3; exit }' "$CLUSTER_SRC/tools/$1/go.mod"
}

# flags NAME VERSION: one word a line, for go build.
flags() {
	local ld="-s -w" k=k8s.io/component-base/version minor
	case $1 in
	kube*)
		minor=${2#v*.}
		# Without it the nodes say v0.0.0-master, and clients judge the server's features by its version.
		[[ $1 == kubeconform ]] || ld+=" -X $k.gitVersion=$2 -X $k.gitMajor=1 -X $k.gitMinor=${minor%%.*}"
		;;
	containerd* | ctr) ld+=" -X github.com/containerd/containerd/v2/version.Version=${2#v}" ;;
	helm) ld+=" -X helm.sh/helm/v4/internal/version.version=$2" ;;
	versitygw) ld+=" -X main.Version=$2" ;;
	esac
	printf '%s\n' -trimpath -buildvcs=false "-ldflags=$ld"
	case $1 in
	containerd | ctr) echo -tags=no_btrfs,no_devmapper,no_zfs ;;
	runc) echo -tags=seccomp ;;
	esac
}

store_of() { echo "$TOOLS_ROOT/store/$1-${VERSION[$1]}-${KEY[$1]}"; }

# ensure NAME: its program is in the store and linked in bin.
ensure() {
	local name=$1 store dir package path usual
	IFS='|' read -r dir _ package path usual <<<"${RECIPE[$name]}"
	store=$(store_of "$name")
	[[ -e $store/${path##*/} ]] || build_locked "$name" "$dir" "$package" "$store" "${path##*/}" "$usual"
	link "$store/${path##*/}" "$BIN/$path"
}

build_locked() {
	local name=$1 dir=$2 package=$3 store=$4 file=$5 usual=$6 began=$SECONDS
	mkdir -p "$TOOLS_ROOT/store" "$TOOLS_ROOT/lock"
	exec 8>"$TOOLS_ROOT/lock/$name"
	if ! flock -n 8; then
		say "$name: another run builds it; waiting"
		flock 8
	fi
	# Another run may have built it while this one waited.
	if [[ ! -e $store/$file ]]; then
		say "$name ${VERSION[$name]}: building (cold: about $usual)"
		rm -rf "$store.tmp"
		mkdir -p "$store.tmp"
		if [[ $name == pause ]]; then build_pause "$store.tmp/$file"; else build "$name" "$dir" "$package" "$store.tmp/$file"; fi
		rm -rf "$store"
		mv -T "$store.tmp" "$store"
		say "$name ${VERSION[$name]}: done in $((SECONDS - began)) s"
	fi
	exec 8>&-
}

build() {
	local name=$1 dir=$2 package=$3 out=$4 args cgo=0
	if [[ $name == runc ]]; then
		# Without libseccomp runc refuses every pod that has a seccomp profile, which the restricted standard demands.
		need_command gcc gcc
		need_command pkg-config pkg-config
		pkg-config --exists libseccomp || install_package libseccomp-dev
		cgo=1
	fi
	mapfile -t args < <(flags "$name" "${VERSION[$name]}")
	(cd "$CLUSTER_SRC/tools/$dir" && run_go "$cgo" build "${args[@]}" -o "$out" "$package")
}

build_pause() {
	local tmp
	tmp=$(dirname "$1")
	(cd "$CLUSTER_SRC/pause" && run_go 0 build -trimpath -buildvcs=false -ldflags="-s -w" -o "$tmp/pause" .)
	(cd "$CLUSTER_SRC/../../hack/image" && run_go 0 run . --binary "$tmp/pause" --tag localhost/caly-pause:1 --entrypoint /pause --out "$1" >&2)
	rm "$tmp/pause"
}

# run_go CGO ARGS...: the caller's own settings (a workspace, -mod, a newer toolchain) must not decide what is built.
run_go() {
	local cgo=$1
	shift
	env CGO_ENABLED="$cgo" GOWORK=off GOFLAGS= GOTOOLCHAIN=local nice go "$@" 8>&-
}

link() {
	[[ $(readlink "$2" 2>/dev/null) == "$1" ]] && return
	mkdir -p "$(dirname "$2")"
	# Renamed into place, so that a concurrent run never finds a missing link.
	ln -s "$1" "$2.$$"
	mv -T "$2.$$" "$2"
}

list() {
	local name there
	while read -r name; do
		there=missing
		[[ -d $(store_of "$name") ]] && there=built
		printf '%-24s %-8s %s\n' "$name" "${VERSION[$name]}" "$there"
	done < <(recipe_names)
}

prune() {
	local wanted entry
	wanted=$(while read -r name; do store_of "$name"; done < <(recipe_names))
	for entry in "$TOOLS_ROOT"/store/* "$TOOLS_ROOT"/bin-*; do
		[[ -e $entry ]] || continue
		if [[ $entry != "$BIN" ]] && ! grep -qxF "$entry" <<<"$wanted"; then
			say "removing $entry"
			rm -rf "$entry"
		fi
	done
}

main "$@"
