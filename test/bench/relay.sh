#!/usr/bin/env bash
# Compares the audio bridge with a plain TCP proxy, lxzan/gws and gorilla/websocket with default buffers: the same calls, alternating
# runs, each relay a process of its own, all on loopback. Arguments go to test/bench/relay.
set -euo pipefail
PROGRAM=bench-relay
# shellcheck source=test/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

DESCRIPTORS=20000 # 4,000 calls are 8,000 sockets in the relay and as many in its peers

main() {
	cd "$ROOT"
	WORK=$(mktemp -d)
	trap 'rm -rf "$WORK"' EXIT
	trap "exit 143" TERM INT # which ends what this started
	ulimit -n "$DESCRIPTORS" || die "4,000 calls need $DESCRIPTORS open files: raise the limit (ulimit -Hn), or run it with -idle 500"
	step "measuring" "about 2 minutes"
	go build -C test/bench -o "$WORK/relay" ./relay
	"$WORK/relay" "$@"
}

main "$@"
