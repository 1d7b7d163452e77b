#!/usr/bin/env bash
# A real single-node Kubernetes for tests: kubelet, containerd and runc as processes of this machine, built by build.sh.
# Where a Docker engine and kind answer, it is a kind cluster instead (CALY_PROVIDER=node or kind decides otherwise).
#
#   cluster.sh up                 starts it; says so and returns when it already runs; replaces a half-dead one
#   cluster.sh down               ends it and leaves nothing behind
#   cluster.sh status             0: healthy, 3: not running, 4: half-dead (and what is missing)
#   cluster.sh kubeconfig         prints the path of the kubeconfig
#   cluster.sh load-image TAR     loads an image archive (docker save, OCI layout or hack/image)
#   cluster.sh host-ip            prints the address at which pods reach this machine
#
# Environment: CALY_STATE (default /var/tmp/caly/cluster), CALY_TOOLS (see build.sh), HOSTIP (default 10.99.0.1).
set -euo pipefail
# shellcheck source=test/cluster/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

DIR=$STATE
KUBECONFIG_FILE=$DIR/kubeconfig
KIND_NAME=caly
NODE=node1
POD_CIDR=10.244.0.0/16
SERVICE_CIDR=10.96.0.0/16
API_SERVICE_IP=10.96.0.1
DNS_IP=10.96.0.10
DNS_PORT=10053
ETCD=http://127.0.0.1:12379
# All pods live under this control group, so that what belongs to the cluster is told from everything else.
CGROUP=caly-cluster
NFT_TABLE=caly_cluster
CNI_NETWORK=caly-cluster
# Packets wait in this netfilter queue for the verdict of the network policies.
NETPOL_CHAIN=CALY-NETPOL
NETPOL_QUEUE=100
SOCKET=$DIR/containerd/containerd.sock
# In the order of starting; `down` goes backwards.
DAEMONS=(etcd kube-apiserver kube-controller-manager kube-scheduler containerd coredns netpol kubelet kube-proxy)
# kubelet, kube-proxy and this script write these; `down` puts the old values back.
SYSCTLS=(net.ipv4.ip_forward vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops
	kernel.keys.root_maxkeys kernel.keys.root_maxbytes net.netfilter.nf_conntrack_max
	net.netfilter.nf_conntrack_tcp_timeout_established net.netfilter.nf_conntrack_tcp_timeout_close_wait)

main() {
	local command=${1:-}
	[[ $# -gt 0 ]] && shift
	case $command in
	up) lock cluster; up ;;
	down) lock cluster; down ;;
	status) status || exit $? ;;
	kubeconfig) echo "$KUBECONFIG_FILE" ;;
	load-image) load_image "$@" ;;
	host-ip) host_ip ;;
	*) usage; [[ $command == -h || $command == --help ]] || exit 2 ;;
	esac
}

usage() { sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; }

kubectl() { "$BIN/kubectl" --kubeconfig "$KUBECONFIG_FILE" "$@"; }

# --- up ----------------------------------------------------------------------------------------------------------------

up() {
	local state=0 wanted
	status >/dev/null 2>&1 || state=$?
	if [[ $state == 0 ]]; then
		say "the cluster is already up; KUBECONFIG=$KUBECONFIG_FILE"
		return
	fi
	wanted=$(choose_provider)
	if [[ $state != 3 || -d $DIR ]]; then
		say "a half-dead cluster is here: bringing it down first"
		down
	fi
	mkdir -p "$DIR"
	echo "$wanted" >"$DIR/provider"
	"up_$wanted"
	say "ready in $SECONDS s; export KUBECONFIG=$KUBECONFIG_FILE"
}

# choose_provider prints kind or node, or says what is missing for either.
choose_provider() {
	local provider=${CALY_PROVIDER:-}
	if [[ -z $provider ]]; then
		provider=node
		if kind_answers; then provider=kind; fi
	fi
	case $provider in
	kind) kind_answers || die "CALY_PROVIDER=kind, but 'docker info' or 'kind version' fails: start Docker, install kind" ;;
	node) require_node ;;
	*) die "CALY_PROVIDER=$provider: it is either kind or node" ;;
	esac
	echo "$provider"
}

kind_answers() { have docker && have kind && timeout 10 docker info >/dev/null 2>&1 && kind version >/dev/null 2>&1; }

require_node() {
	if [[ $(uname -s) != Linux ]] || ! is_root; then
		die "a local cluster needs one of two things:
  - a Docker engine and kind that work for this user (now: docker $(answer docker info), kind $(answer kind version)); https://kind.sigs.k8s.io
  - root on Linux, for containers, bridges and nftables: sudo -E ${BASH_SOURCE[0]} up
Tests without pods need neither: '$CLUSTER_SRC/build.sh envtest' builds an API server and etcd for envtest."
	fi
	need_command ip iproute2
	need_command nft nftables
	need_command iptables iptables
	need_command openssl openssl
	require_kernel
}

answer() { if have "$1" && timeout 10 "$@" >/dev/null 2>&1; then echo works; else echo "does not answer"; fi; }

# require_kernel tries each feature for real: configuration files say little in a sandbox.
require_kernel() {
	local missing=() c
	grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || missing+=("overlayfs")
	for c in memory cpu pids; do
		grep -qw "$c" /sys/fs/cgroup/cgroup.controllers 2>/dev/null || [[ -d /sys/fs/cgroup/$c ]] || missing+=("the $c control group controller")
	done
	unshare --net true 2>/dev/null || missing+=("network namespaces")
	if ! nft -c add table ip "$NFT_TABLE" 2>/dev/null; then missing+=("nftables"); fi
	netfilter_queue_works || missing+=("netfilter queues (xt_NFQUEUE), which the network policies need")
	if ip link add caly-probe0 type veth peer name caly-probe1 2>/dev/null; then ip link del caly-probe0; else missing+=("veth devices"); fi
	((${#missing[@]} == 0)) || die "this machine's kernel does not offer: $(printf '%s; ' "${missing[@]}")use kind, or a machine where they are allowed"
}

# netfilter_queue_works tries a rule in a network namespace that goes with the command.
netfilter_queue_works() {
	unshare --net iptables -t mangle -A POSTROUTING -m addrtype ! --src-type LOCAL -m conntrack --ctstate NEW \
		-j NFQUEUE --queue-num "$NETPOL_QUEUE" 2>/dev/null
}

require_ports() {
	if ss -Hltn 2>/dev/null | grep -E "(^| )(127\.0\.0\.1|$HOSTIP|0\.0\.0\.0|\*|\[::\]):(6443|12379|10250) " >/dev/null; then
		die "port 6443, 12379 or 10250 is taken: another cluster runs here (see: ss -ltnp)"
	fi
}

up_node() {
	require_ports
	"$CLUSTER_SRC/build.sh" etcd kube-apiserver kubectl kube-controller-manager kube-scheduler kubelet kube-proxy containerd \
		containerd-shim-runc-v2 ctr runc cni-ptp cni-loopback cni-host-local cni-portmap coredns netpol pause >"$DIR/bin"
	BIN=$(cat "$DIR/bin")
	SECONDS=0
	remember_host
	prepare_network
	make_certificates
	start_control_plane
	start_containerd
	start_dns
	start_network_policies
	start_kubelet
	start_proxy
	wait_for 60 "the node becomes Ready" kubelet node_ready
	wait_for 30 "the host reaches the API through its Service" kube-proxy service_answers
	add_dns_service
}

# remember_host notes what the cluster is about to change.
remember_host() {
	local s value
	for s in "${SYSCTLS[@]}"; do
		if value=$(sysctl -n "$s" 2>/dev/null); then echo "$s=${value//$'\t'/ }"; fi
	done >"$DIR/sysctl.before"
	nft list tables >"$DIR/nft.before"
	for s in /var/lib/kubelet /var/lib/cni /var/log/containers /var/log/pods /run/containerd /run/kubernetes /etc/cni /opt/cni /usr/libexec/kubernetes; do
		[[ -e $s ]] || echo "$s"
	done >"$DIR/paths.new"
}

prepare_network() {
	hold_host_ip cluster
	sysctl -qw net.ipv4.ip_forward=1
	# A machine without a default route reaches no ClusterIP otherwise; kube-proxy then rewrites the destination.
	[[ $HOSTIP == 127.* ]] || ip route replace "$SERVICE_CIDR" dev "$HOST_BRIDGE" src "$HOSTIP" 2>/dev/null || true
	# Pods reach the world behind the host's address. A table of its own goes as one piece.
	nft -f - <<-K
		add table ip $NFT_TABLE
		delete table ip $NFT_TABLE
		table ip $NFT_TABLE {
			chain postrouting {
				type nat hook postrouting priority srcnat; policy accept;
				ip saddr $POD_CIDR ip daddr != $POD_CIDR masquerade
			}
		}
	K
}

# --- certificates and kubeconfigs ---------------------------------------------------------------------------------------

make_certificates() {
	mkdir -p "$DIR/config"
	mkdir -m 700 "$DIR/pki"
	cd "$DIR/pki"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.crt -subj /CN=caly-cluster -days 3650 2>/dev/null
	certificate kube-apiserver /CN=kube-apiserver "IP:127.0.0.1,IP:$HOSTIP,IP:$API_SERVICE_IP,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
	certificate kubelet "/O=system:nodes/CN=system:node:$NODE" "DNS:$NODE,IP:$HOSTIP"
	certificate kubelet-client /CN=kube-apiserver-kubelet-client
	certificate admin /O=system:masters/CN=admin
	certificate coredns /CN=system:coredns
	certificate netpol /CN=system:netpol
	local name
	for name in kube-controller-manager kube-scheduler kube-proxy; do certificate "$name" "/CN=system:$name"; done
	openssl ecparam -name prime256v1 -genkey -noout -out sa.key
	openssl ec -in sa.key -pubout -out sa.pub 2>/dev/null
	cd "$DIR"
	for name in kube-controller-manager kube-scheduler kubelet kube-proxy coredns netpol; do kubeconfig "$name" >"$DIR/config/$name.kubeconfig"; done
	(umask 077 && kubeconfig admin >"$KUBECONFIG_FILE")
}

# certificate NAME SUBJECT [SAN]
certificate() {
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
	printf 'extendedKeyUsage=serverAuth,clientAuth\n%s\n' "${3:+subjectAltName=$3}" >"$1.ext"
	openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -out "$1.crt" -days 3650 -extfile "$1.ext" 2>/dev/null
	rm "$1.csr" "$1.ext"
}

# kubeconfig NAME: self-contained, so that a copy of the file works elsewhere.
kubeconfig() {
	cat <<-K
		apiVersion: v1
		kind: Config
		clusters: [{name: caly, cluster: {server: "https://$HOSTIP:6443", certificate-authority-data: $(base64 -w0 "$DIR/pki/ca.crt")}}]
		users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$DIR/pki/$1.crt"), client-key-data: $(base64 -w0 "$DIR/pki/$1.key")}}]
		contexts: [{name: caly, context: {cluster: caly, user: $1}}]
		current-context: caly
	K
}

# --- the processes ------------------------------------------------------------------------------------------------------

start_control_plane() {
	local pki=$DIR/pki
	# A throw-away cluster need not survive a power cut: no fsync.
	start etcd "$BIN/etcd" --data-dir "$DIR/etcd" --listen-client-urls "$ETCD" --advertise-client-urls "$ETCD" \
		--listen-peer-urls http://127.0.0.1:12380 --initial-advertise-peer-urls http://127.0.0.1:12380 \
		--initial-cluster default=http://127.0.0.1:12380 --unsafe-no-fsync
	start kube-apiserver "$BIN/kube-apiserver" --etcd-servers "$ETCD" --bind-address "$HOSTIP" --advertise-address "$HOSTIP" --secure-port 6443 \
		--service-cluster-ip-range "$SERVICE_CIDR" --client-ca-file "$pki/ca.crt" --cert-dir "$pki" \
		--tls-cert-file "$pki/kube-apiserver.crt" --tls-private-key-file "$pki/kube-apiserver.key" \
		--service-account-key-file "$pki/sa.pub" --service-account-signing-key-file "$pki/sa.key" \
		--service-account-issuer https://kubernetes.default.svc.cluster.local --authorization-mode Node,RBAC \
		--enable-admission-plugins NodeRestriction --kubelet-client-certificate "$pki/kubelet-client.crt" \
		--kubelet-client-key "$pki/kubelet-client.key" --kubelet-certificate-authority "$pki/ca.crt" \
		--kubelet-preferred-address-types InternalIP --allow-privileged
	wait_for 60 "the API server becomes ready" kube-apiserver kubectl get --raw /readyz
	grant
	start_controller kube-controller-manager --service-account-private-key-file "$pki/sa.key" --root-ca-file "$pki/ca.crt" \
		--use-service-account-credentials --cluster-cidr "$POD_CIDR" --allocate-node-cidrs --node-cidr-mask-size 22 \
		--flex-volume-plugin-dir "$DIR/kubelet/volumeplugins"
	start_controller kube-scheduler
}

start_controller() {
	local name=$1 config=$DIR/config/$1.kubeconfig
	shift
	start "$name" "$BIN/$name" --kubeconfig "$config" --authentication-kubeconfig "$config" --authorization-kubeconfig "$config" \
		--bind-address 127.0.0.1 --cert-dir "$DIR/pki" --leader-elect=false "$@"
}

# The roles exist in every API server; kubeadm would bind them.
grant() {
	wait_for 30 "the API server has its default roles" kube-apiserver kubectl get clusterrole system:kubelet-api-admin system:node-proxier
	kubectl create clusterrolebinding caly:kubelet-api --clusterrole=system:kubelet-api-admin --user=kube-apiserver-kubelet-client >/dev/null
	kubectl create clusterrolebinding caly:node-proxier --clusterrole=system:node-proxier --user=system:kube-proxy >/dev/null
	kubectl create clusterrole caly:coredns --verb=list,watch --resource=services,pods,namespaces,endpointslices.discovery.k8s.io >/dev/null
	kubectl create clusterrolebinding caly:coredns --clusterrole=caly:coredns --user=system:coredns >/dev/null
	kubectl create clusterrole caly:netpol --verb=list,watch --resource=pods,namespaces,networkpolicies.networking.k8s.io >/dev/null
	kubectl create clusterrolebinding caly:netpol --clusterrole=caly:netpol --user=system:netpol >/dev/null
}

start_containerd() {
	mkdir -p "$DIR/containerd" "$DIR/cni"
	cat >"$DIR/containerd/config.toml" <<-K
		version = 3
		root = "$DIR/containerd/root"
		state = "$DIR/containerd/state"
		disabled_plugins = ["io.containerd.nri.v1.nri"]
		[grpc]
		  address = "$SOCKET"
		[plugins."io.containerd.internal.v1.opt"]
		  path = "$DIR/containerd/opt"
		[plugins."io.containerd.cri.v1.images"]
		  snapshotter = "$(snapshotter)"
		  [plugins."io.containerd.cri.v1.images".pinned_images]
		    sandbox = "localhost/caly-pause:1"
		[plugins."io.containerd.cri.v1.runtime"]
		  restrict_oom_score_adj = true
		  netns_mounts_under_state_dir = true
		[plugins."io.containerd.cri.v1.runtime".cni]
		  bin_dirs = ["$BIN/cni"]
		  conf_dir = "$DIR/cni"
		[plugins."io.containerd.cri.v1.runtime".containerd]
		  default_runtime_name = "runc"
		  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
		    runtime_type = "io.containerd.runc.v2"
		    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
		      BinaryName = "$BIN/runc"
		      Root = "$DIR/containerd/runc"
		      SystemdCgroup = false
	K
	# ptp routes every packet through the host, so a pod that calls itself or a neighbour through a Service needs no br_netfilter.
	cat >"$DIR/cni/10-caly.conflist" <<-K
		{"cniVersion": "1.0.0", "name": "$CNI_NETWORK", "plugins": [
		 {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "dataDir": "$DIR/cni/ipam",
		  "ranges": [[{"subnet": "10.244.0.0/22"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
		 {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}}]}
	K
	PATH="$BIN:$PATH" start containerd "$BIN/containerd" -c "$DIR/containerd/config.toml"
	wait_for 30 "containerd answers" containerd ctr version
	ctr images import "$BIN/pause.tar" >"$DIR/log/pause.log" 2>&1 || { cat "$DIR/log/pause.log" >&2; die "the pause image cannot be loaded"; }
}

ctr() { "$BIN/ctr" --address "$SOCKET" --namespace k8s.io "$@"; }

# overlayfs on top of overlayfs (a container's own disk) is refused by the kernel; copies always work.
snapshotter() {
	local d=$DIR/overlay-probe kind=native
	mkdir -p "$d"/{lower,upper,work,merged}
	if mount -t overlay overlay -o "lowerdir=$d/lower,upperdir=$d/upper,workdir=$d/work" "$d/merged" 2>/dev/null; then
		umount "$d/merged"
		kind=overlayfs
	fi
	rm -rf "$d"
	echo "$kind"
}

start_kubelet() {
	local config=$DIR/config/kubelet.yaml c
	# kubelet wants its root group to exist in every hierarchy.
	for c in /sys/fs/cgroup /sys/fs/cgroup/*; do
		if [[ -f $c/cgroup.procs ]]; then mkdir -p "$c/$CGROUP"; fi
	done
	copy_cpuset
	cat >"$config" <<-K
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		address: $HOSTIP
		failCgroupV1: false
		cgroupDriver: cgroupfs
		cgroupRoot: /$CGROUP
		containerRuntimeEndpoint: unix://$SOCKET
		authentication: {x509: {clientCAFile: $DIR/pki/ca.crt}, anonymous: {enabled: false}, webhook: {enabled: true}}
		authorization: {mode: Webhook}
		tlsCertFile: $DIR/pki/kubelet.crt
		tlsPrivateKeyFile: $DIR/pki/kubelet.key
		clusterDNS: [$DNS_IP]
		clusterDomain: cluster.local
		resolvConf: "$(resolv_conf)"
		failSwapOn: false
		evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
		imageGCHighThresholdPercent: 100
		maxPods: 500
		podLogsDir: $DIR/log/pods
		volumePluginDir: $DIR/kubelet/volumeplugins
		enforceNodeAllocatable: []
		makeIPTablesUtilChains: false
		serializeImagePulls: false
		shutdownGracePeriod: 0s
	K
	start kubelet "$BIN/kubelet" --kubeconfig "$DIR/config/kubelet.kubeconfig" --config "$config" --hostname-override "$NODE" \
		--node-ip "$HOSTIP" --root-dir "$DIR/kubelet" --cert-dir "$DIR/pki"
}

# In version 1 a new cpuset group is empty, and nothing can run in it until it has CPUs and memory nodes.
copy_cpuset() {
	local g=/sys/fs/cgroup/cpuset f
	[[ -d $g/$CGROUP ]] || return 0
	for f in cpuset.cpus cpuset.mems; do
		[[ ! -f $g/$f ]] || cat "$g/$f" >"$g/$CGROUP/$f"
	done
}

resolv_conf() {
	local f
	# systemd-resolved's own file names a loopback address that means nothing inside a pod.
	for f in /run/systemd/resolve/resolv.conf /etc/resolv.conf; do
		if [[ -s $f ]] && ! grep -qE '^nameserver +127\.' "$f"; then echo "$f"; return; fi
	done
}

start_proxy() {
	cat >"$DIR/config/kube-proxy.yaml" <<-K
		apiVersion: kubeproxy.config.k8s.io/v1alpha1
		kind: KubeProxyConfiguration
		mode: nftables
		clientConnection: {kubeconfig: $DIR/config/kube-proxy.kubeconfig}
		clusterCIDR: $POD_CIDR
		hostnameOverride: $NODE
		bindAddressHardFail: false
		healthzBindAddress: 127.0.0.1:10256
		metricsBindAddress: 127.0.0.1:10249
		conntrack: {maxPerCore: 0}
	K
	start kube-proxy "$BIN/kube-proxy" --config "$DIR/config/kube-proxy.yaml"
}

node_ready() { [[ $(kubectl get node "$NODE" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == True ]]; }

service_answers() { curl --silent --max-time 2 --cacert "$DIR/pki/ca.crt" "https://$API_SERVICE_IP/livez"; }

# CoreDNS is another process on the host; a Service without a selector leads pods to it.
start_dns() {
	local upstream
	upstream=$(resolv_conf)
	cat >"$DIR/config/Corefile" <<-K
		.:$DNS_PORT {
		  bind $HOSTIP
		  errors
		  kubernetes cluster.local in-addr.arpa ip6.arpa {
		    kubeconfig $DIR/config/coredns.kubeconfig caly
		    ttl 5
		  }
		  ${upstream:+forward . $upstream}
		}
	K
	start coredns "$BIN/coredns" -conf "$DIR/config/Corefile"
}

add_dns_service() {
	kubectl apply -f - >/dev/null <<-K
		apiVersion: v1
		kind: Service
		metadata: {name: kube-dns, namespace: kube-system}
		spec:
		  clusterIP: $DNS_IP
		  ports: [{name: dns, port: 53, targetPort: $DNS_PORT, protocol: UDP}, {name: dns-tcp, port: 53, targetPort: $DNS_PORT, protocol: TCP}]
		---
		apiVersion: discovery.k8s.io/v1
		kind: EndpointSlice
		metadata: {name: kube-dns-host, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
		addressType: IPv4
		endpoints: [{addresses: ["$HOSTIP"], conditions: {ready: true}}]
		ports: [{name: dns, port: $DNS_PORT, protocol: UDP}, {name: dns-tcp, port: $DNS_PORT, protocol: TCP}]
	K
}

# The CNI plugin knows no NetworkPolicy. Every first packet from a pod, to another pod or to this machine, and every one to a pod from
# elsewhere, waits for the engine's verdict. What this machine itself sends to its pods is free, as on every node: the kubelet's probes.
# Without the engine nothing passes.
start_network_policies() {
	start netpol "$BIN/netpol" --kubeconfig "$DIR/config/netpol.kubeconfig" --node "$NODE" --queue "$NETPOL_QUEUE"
	wait_for 30 "the network policies are enforced" netpol grep -q "^ *$NETPOL_QUEUE " /proc/net/netfilter/nfnetlink_queue
	iptables-restore --noflush <<-K
		*mangle
		:$NETPOL_CHAIN - [0:0]
		-A $NETPOL_CHAIN -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN
		-A $NETPOL_CHAIN -m addrtype --src-type LOCAL -j RETURN
		-A $NETPOL_CHAIN -j NFQUEUE --queue-num $NETPOL_QUEUE
		-A INPUT -s $POD_CIDR -j $NETPOL_CHAIN
		-A POSTROUTING -s $POD_CIDR -j $NETPOL_CHAIN
		-A POSTROUTING ! -s $POD_CIDR -d $POD_CIDR -j $NETPOL_CHAIN
		COMMIT
	K
}

# --- status -------------------------------------------------------------------------------------------------------------

provider() { cat "$DIR/provider" 2>/dev/null || true; }

status() {
	case $(provider) in
	'') say "not running"; return 3 ;;
	kind) status_kind ;;
	*) status_node ;;
	esac
}

status_node() {
	local dead=() name
	BIN=$(cat "$DIR/bin" 2>/dev/null || true)
	for name in "${DAEMONS[@]}"; do alive "$name" || dead+=("$name"); done
	if ((${#dead[@]} > 0)); then say "not alive: ${dead[*]} (logs: $DIR/log)"; return 4; fi
	if ! kubectl --request-timeout 5s get --raw /readyz >/dev/null 2>&1; then say "the API server is not ready"; return 4; fi
	if ! node_ready; then say "the node is not Ready"; return 4; fi
	say "healthy; KUBECONFIG=$KUBECONFIG_FILE"
}

host_ip() {
	if [[ $(provider) == kind ]]; then
		docker network inspect kind -f '{{range .IPAM.Config}}{{println .Gateway}}{{end}}' | grep -m1 '\.'
	else
		echo "$HOSTIP"
	fi
}

load_image() {
	[[ $# == 1 && -f $1 ]] || die "usage: cluster.sh load-image TAR"
	case $(provider) in
	'') die "no cluster is up: run '${BASH_SOURCE[0]} up' first" ;;
	kind) kind load image-archive "$1" --name "$KIND_NAME" ;;
	*)
		BIN=$(cat "$DIR/bin")
		ctr images import "$1"
		;;
	esac
}

# --- kind ---------------------------------------------------------------------------------------------------------------

up_kind() { kind create cluster --name "$KIND_NAME" --kubeconfig "$KUBECONFIG_FILE" --wait 120s; }

status_kind() {
	if ! kind get clusters 2>/dev/null | grep -x "$KIND_NAME" >/dev/null; then say "kind has no cluster $KIND_NAME"; return 4; fi
	say "kind cluster $KIND_NAME; KUBECONFIG=$KUBECONFIG_FILE"
}

# --- down ---------------------------------------------------------------------------------------------------------------

down() {
	local kind
	kind=$(provider)
	if [[ $kind == kind ]]; then
		kind delete cluster --name "$KIND_NAME" --kubeconfig "$KUBECONFIG_FILE"
		rm -rf "$DIR"
		return
	fi
	if [[ ! -d $DIR ]]; then
		release_host_ip cluster
		say "nothing is running"
		return
	fi
	is_root || die "this cluster was started as root; run: sudo -E ${BASH_SOURCE[0]} down"
	[[ -f $DIR/provider ]] || die "$DIR is not a cluster's state folder: remove it by hand"
	BIN=$(cat "$DIR/bin" 2>/dev/null || true)
	# kubelet first: it would start again what is ended below.
	stop kubelet
	end_pods
	local i
	for ((i = ${#DAEMONS[@]} - 1; i >= 0; i--)); do stop "${DAEMONS[i]}"; done
	end_shims
	end_cgroup_processes
	unmount_state
	remove_sockets
	remove_network
	remove_cgroups
	restore_host
	rm -rf --one-file-system "$DIR"
	release_host_ip cluster
	[[ ! -d $BASE ]] || rmdir "$BASE" 2>/dev/null || true
	say "down"
}

# end_pods asks containerd, whose task list is the truth while it answers.
end_pods() {
	local task
	[[ -S $SOCKET ]] && alive containerd && timeout 5 "$BIN/ctr" --address "$SOCKET" version >/dev/null 2>&1 || return 0
	for task in $(ctr tasks ls -q 2>/dev/null); do ctr tasks kill -s SIGKILL -a "$task" >/dev/null 2>&1 || true; done
	for task in $(ctr tasks ls -q 2>/dev/null); do timeout 10 "$BIN/ctr" --address "$SOCKET" -n k8s.io tasks delete -f "$task" >/dev/null 2>&1 || true; done
}

# end_shims finds those that outlived containerd, by the socket that their command line names.
end_shims() {
	local proc exe
	for proc in /proc/[0-9]*; do
		exe=$(readlink "$proc/exe" 2>/dev/null) || continue
		[[ $exe == */containerd-shim-runc-v2* ]] || continue
		tr '\0' '\n' <"$proc/cmdline" 2>/dev/null | grep -xF "$SOCKET" >/dev/null || continue
		kill -9 "${proc#/proc/}" 2>/dev/null || true
	done
}

end_cgroup_processes() {
	local attempt pids
	for attempt in 1 2 3 4 5 6 7 8 9 10; do
		# Groups vanish while find walks: its complaints mean nothing.
		pids=$({ find /sys/fs/cgroup -path "*/$CGROUP*" -name cgroup.procs -exec cat {} + 2>/dev/null || true; } | sort -u)
		[[ -n $pids ]] || return 0
		# shellcheck disable=SC2086 # one argument a process
		kill -9 $pids 2>/dev/null || true
		sleep "0.$attempt"
	done
	say "these processes of pods do not end: ${pids//$'\n'/ }"
}

unmount_state() {
	local m real
	real=$(readlink -f "$DIR")
	while read -r m; do
		umount "$m" 2>/dev/null || umount -l "$m" || true
	done < <(awk -v d="$real/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
}

# Shims put their sockets into a folder that all containerds share; each bundle names its own.
remove_sockets() {
	local f s
	while read -r f; do
		for s in $(grep -aoE 'unix:///run/containerd/s/[0-9a-f]+' "$f" || true); do rm -f "${s#unix://}"; done
	done < <(find "$DIR/containerd/state" -type f \( -name address -o -name bootstrap.json \) 2>/dev/null || true)
}

remove_network() {
	local table link
	remove_network_policies
	# Only tables that were not there before: kube-proxy or portmap may also serve somebody else.
	for table in "ip $NFT_TABLE" "ip kube-proxy" "ip6 kube-proxy" "ip cni_hostport" "ip6 cni_hostport" "inet cni_hostport"; do
		if ! grep -qxF "table $table" "$DIR/nft.before" 2>/dev/null; then
			# shellcheck disable=SC2086 # family and name
			nft delete table $table 2>/dev/null || true
		fi
	done
	ip route del "$SERVICE_CIDR" dev "$HOST_BRIDGE" 2>/dev/null || true
	# A pod's device goes with its namespace, a little later. What is still routed to a pod is ours.
	while read -r link; do ip link del "$link" 2>/dev/null || true; done < <(ip -o route show 2>/dev/null | awk '/^10\.244\./ { for (i = 1; i < NF; i++) if ($i == "dev") print $(i + 1) }' | grep '^veth' || true)
	{ grep -lsF "$DIR/" /var/lib/cni/results/* || true; } | xargs -r rm -f
	find /var/log/containers -type l -lname "$DIR/*" -delete 2>/dev/null || true
}

# remove_network_policies removes the rules, and the table when it was not there before and nothing else is in it.
remove_network_policies() {
	have iptables || return 0
	{
		iptables -t mangle -D INPUT -s "$POD_CIDR" -j "$NETPOL_CHAIN"
		iptables -t mangle -D POSTROUTING -s "$POD_CIDR" -j "$NETPOL_CHAIN"
		iptables -t mangle -D POSTROUTING ! -s "$POD_CIDR" -d "$POD_CIDR" -j "$NETPOL_CHAIN"
		iptables -t mangle -F "$NETPOL_CHAIN"
		iptables -t mangle -X "$NETPOL_CHAIN"
	} 2>/dev/null || true
	if ! grep -qxF "table ip mangle" "$DIR/nft.before" 2>/dev/null && ! iptables -t mangle -S 2>/dev/null | grep -q '^-[AN]'; then
		nft delete table ip mangle 2>/dev/null || true
	fi
}

remove_cgroups() {
	local c
	for c in /sys/fs/cgroup/"$CGROUP" /sys/fs/cgroup/*/"$CGROUP"; do
		[[ -d $c ]] || continue
		find "$c" -depth -type d -exec rmdir {} + 2>/dev/null || true
	done
}

restore_host() {
	[[ ! -s $DIR/sysctl.before ]] || sysctl -qe -p "$DIR/sysctl.before" >/dev/null 2>&1 || true
	# Folders that kubelet, containerd and CNI make at fixed places: gone when they were not there before and hold no file.
	local d
	[[ -f $DIR/paths.new ]] || return 0
	while read -r d; do
		[[ ! -d $d ]] || find "$d" -depth \( -type s -o -type d -empty \) -delete 2>/dev/null || true
	done <"$DIR/paths.new"
}

main "$@"
