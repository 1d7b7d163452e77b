# shellcheck shell=bash
# What the scripts of this folder share. Sourced, never run.

# shellcheck disable=SC2034 # the scripts that source this use it
CLUSTER_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOOLS_ROOT=${CALY_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/caly/tools}
STATE=${CALY_STATE:-/var/tmp/caly/cluster}
BASE=$(dirname "$STATE")
HOSTIP=${HOSTIP:-10.99.0.1}
HOST_BRIDGE=kube0

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "error: $*"; exit 1; }
# A script must not end without a word.
set -E
trap 'say "failed: line $LINENO of ${BASH_SOURCE[0]##*/}: $BASH_COMMAND"' ERR

have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [[ $(id -u) == 0 ]]; }

# Administrators' tools live in sbin, which a plain user's PATH often lacks.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# need_command COMMAND PACKAGE: makes COMMAND available, from Debian's archive when it is missing.
need_command() {
	have "$1" && return
	install_package "$2"
	have "$1" || die "$1 is still missing after installing $2; install it by hand and try again"
}

install_package() {
	have apt-get || die "package $1 is missing; install it with this system's package manager and try again"
	is_root || die "package $1 is missing; run: sudo apt-get install $1"
	say "installing the Debian package $1"
	local log
	log=$(mktemp)
	if ! apt_install "$1" >"$log" 2>&1; then
		tail -n 15 "$log" >&2
		rm -f "$log"
		die "apt-get could not install $1"
	fi
	rm -f "$log"
}

apt_install() {
	export DEBIAN_FRONTEND=noninteractive
	apt-get install -y --no-install-recommends "$1" || { apt-get update && apt-get install -y --no-install-recommends "$1"; }
}

random_secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# lock NAME: one such script at a time; the lock ends with this process. It lies outside of the state, which `down` removes.
lock() {
	local dir=/run/lock
	[[ -w $dir ]] || dir=${TMPDIR:-/tmp}
	exec 9>"$dir/caly-$1-$(id -u).lock"
	flock -n 9 && return
	say "waiting for another ${0##*/}"
	flock -w 900 9 || die "another ${0##*/} has held the lock for 15 minutes"
}

# --- processes ---------------------------------------------------------------------------------------------------------
# A record is "pid starttime tools": the start time tells a process from a later one with the same number, and its program
# must lie under the tools folder of that time.

start_time() {
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	# The name in parentheses may hold spaces: fields are counted after it.
	stat=${stat##*) }
	cut -d' ' -f20 <<<"$stat"
}

# start NAME COMMAND...: runs COMMAND in the background with its log and its record under $DIR. Needs DIR.
start() {
	local name=$1 pid
	shift
	mkdir -p "$DIR/log" "$DIR/run"
	setsid nohup "$@" </dev/null >>"$DIR/log/$name.log" 2>&1 9>&- &
	pid=$!
	echo "$pid $(start_time "$pid") $(readlink -f "$TOOLS_ROOT")" >"$DIR/run/$name.pid"
}

# alive NAME: true while the recorded process runs and its program is one of ours.
alive() {
	local pid started tools exe
	[[ -f $DIR/run/$1.pid ]] || return 1
	read -r pid started tools <"$DIR/run/$1.pid" || return 1
	[[ -n $started && $(start_time "$pid") == "$started" ]] || return 1
	exe=$(readlink "/proc/$pid/exe" 2>/dev/null) || return 1
	# Just after its start it still is the shell, setsid or nohup that leads to the program.
	[[ $exe == "$tools"/* || $exe == */setsid || $exe == */nohup || $exe == */bash ]]
}

# stop NAME [SECONDS]: SIGTERM, a bounded wait, SIGKILL; only ever to the process that `start` recorded.
stop() {
	local name=$1 limit=${2:-10} pid _
	if alive "$name"; then
		read -r pid _ <"$DIR/run/$name.pid"
		kill "$pid" 2>/dev/null || true
		for _ in $(seq $((limit * 10))); do
			alive "$name" || break
			sleep 0.1
		done
		if alive "$name"; then
			say "$name did not end within $limit s: killing it"
			kill -9 "$pid" 2>/dev/null || true
			sleep 0.2
		fi
	fi
	rm -f "$DIR/run/$name.pid"
}

# wait_for SECONDS WHAT NAME COMMAND...: until COMMAND succeeds. When time is up or process NAME has died: the reason and its log.
wait_for() {
	local limit=$1 what=$2 name=$3 deadline why=""
	shift 3
	deadline=$((SECONDS + limit))
	until "$@" >/dev/null 2>&1; do
		if ! alive "$name"; then
			why="$name has exited"
		elif ((SECONDS >= deadline)); then
			why="not within $limit s"
		fi
		if [[ -n $why ]]; then
			say "the last lines of $DIR/log/$name.log:"
			tail -n 20 "$DIR/log/$name.log" >&2 || true
			die "$what: $why"
		fi
		sleep 0.2
	done
}

# --- the host's address for pods ---------------------------------------------------------------------------------------
# The cluster, PostgreSQL and the S3 server listen on it; the bridge goes when the last of the three lets go of it.

hold_host_ip() {
	[[ $HOSTIP == 127.* ]] && return
	if ! ip -o addr show | grep -F " $HOSTIP/" >/dev/null; then
		is_root || die "no interface has $HOSTIP: run this as root, or name an address that this machine has"
		need_command ip iproute2
		# A bridge without ports holds an address on every kernel; not all have the dummy device.
		ip link show "$HOST_BRIDGE" >/dev/null 2>&1 || ip link add "$HOST_BRIDGE" type bridge
		ip addr add "$HOSTIP/32" dev "$HOST_BRIDGE"
		ip link set "$HOST_BRIDGE" up
	fi
	mkdir -p "$BASE/hostip.users"
	: >"$BASE/hostip.users/$1"
}

release_host_ip() {
	rm -f "$BASE/hostip.users/$1"
	[[ -d $BASE/hostip.users ]] || return 0
	if rmdir "$BASE/hostip.users" 2>/dev/null && is_root && ip link show "$HOST_BRIDGE" >/dev/null 2>&1; then
		ip link del "$HOST_BRIDGE"
	fi
}
