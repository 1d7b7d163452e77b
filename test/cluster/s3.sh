#!/usr/bin/env bash
# An S3 server over a folder for tests: versitygw, which checks signatures as the real ones do.
#
#   s3.sh up     starts it on 10.99.0.1:17070 (HOSTIP, CALY_S3_PORT)
#   s3.sh down   ends it and removes its data
#   s3.sh env    prints exports: CALY_S3_ENDPOINT, CALY_S3_ACCESS_KEY, CALY_S3_SECRET_KEY, CALY_S3_REGION
set -euo pipefail
# shellcheck source=test/cluster/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

DIR=${CALY_S3_STATE:-$BASE/s3}
PORT=${CALY_S3_PORT:-17070}
REGION=us-east-1

main() {
	case ${1:-} in
	up) lock s3; up ;;
	down) lock s3; down ;;
	env) print_env ;;
	*) sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; [[ ${1:-} == -h || ${1:-} == --help ]] || exit 2 ;;
	esac
}

up() {
	local bin
	if alive versitygw; then
		say "the S3 server already runs at $(endpoint)"
		return
	fi
	bin=$("$CLUSTER_SRC/build.sh" versitygw)
	hold_host_ip s3
	mkdir -p "$DIR/data" "$DIR/run"
	[[ -f $DIR/keys ]] || (umask 077 && echo "$(random_secret | cut -c1-20) $(random_secret)" >"$DIR/keys")
	echo "$HOSTIP:$PORT" >"$DIR/address"
	if (exec 3<>"/dev/tcp/$HOSTIP/$PORT") 2>/dev/null; then die "$HOSTIP:$PORT is taken by another process"; fi
	start_server "$bin"
	wait_for 15 "the S3 server answers" versitygw curl --silent --max-time 2 --output /dev/null "$(endpoint)/"
	say "the S3 server is at $(endpoint)"
}

# The keys travel in the environment: arguments are visible to every user.
start_server() {
	local access secret
	read -r access secret <"$DIR/keys"
	ROOT_ACCESS_KEY=$access ROOT_SECRET_KEY=$secret start versitygw "$1/versitygw" --port "$(cat "$DIR/address")" --region "$REGION" posix "$DIR/data"
}

endpoint() { echo "http://$(cat "$DIR/address")"; }

print_env() {
	local access secret
	[[ -f $DIR/keys ]] || die "no S3 server here: run '${BASH_SOURCE[0]} up' first"
	read -r access secret <"$DIR/keys"
	printf 'export %s=%q\n' CALY_S3_ENDPOINT "$(endpoint)" CALY_S3_ACCESS_KEY "$access" CALY_S3_SECRET_KEY "$secret" CALY_S3_REGION "$REGION"
}

down() {
	if [[ ! -d $DIR ]]; then
		say "nothing is running"
	else
		[[ -f $DIR/address ]] || die "$DIR is not this script's state folder: remove it by hand"
		stop versitygw
		rm -rf "$DIR"
		say "down; its data is removed"
	fi
	release_host_ip s3
	[[ ! -d $BASE ]] || rmdir "$BASE" 2>/dev/null || true
}

main "$@"
