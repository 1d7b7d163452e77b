#!/usr/bin/env bash
# The tests of audio streams that make test runs small, in full size and without the race detector: 1,000 calls at once for a minute, a
# data plane killed with 300 calls, half an hour of churn. Everything is on loopback: data plane, agent and PostgreSQL are processes of
# their own.
#
#   load.sh              those tests, about 35 minutes; CALY_LOAD_CALLS, CALY_LOAD_FOR, CALY_LOAD_PACE, CALY_LOAD_KILLED_CALLS and CALY_CHURN_FOR
#                        change sizes. 1,000 calls with frames of 20 ms take more than two cores, most of it agent and callers: with fewer
#                        than four CPUs the frames are of 100 ms
#   load.sh knee         measures ever more calls instead, about 4 minutes: CALY_KNEE_CALLS, CALY_KNEE_FOR, CALY_KNEE_P99
set -euo pipefail
PROGRAM=test-load
# shellcheck source=test/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

DESCRIPTORS=20000 # 4,000 calls are 8,000 sockets of the data plane

main() {
	cd "$ROOT"
	ulimit -n "$DESCRIPTORS" || die "4,000 calls need $DESCRIPTORS open files: raise the limit (ulimit -Hn), or ask for fewer calls"
	KUBEBUILDER_ASSETS=$("$CLUSTER/build.sh" --print-bin)
	export KUBEBUILDER_ASSETS CGO_ENABLED=0
	case ${1:-} in
	knee)
		export CALY_KNEE_CALLS=${CALY_KNEE_CALLS:-"100 250 500 750 1000 1500 2000 3000 4000"}
		run '^TestStreamsKnee$' 20m
		;;
	"")
		export CALY_LOAD_CALLS=${CALY_LOAD_CALLS:-1000} CALY_LOAD_FOR=${CALY_LOAD_FOR:-60s} CALY_LOAD_KILLED_CALLS=${CALY_LOAD_KILLED_CALLS:-300}
		if [[ -z ${CALY_LOAD_PACE:-} && $(nproc) -lt 4 ]]; then
			step "frames of 100 ms, for want of four CPUs"
			export CALY_LOAD_PACE=100ms
		fi
		run '^TestStreams(UnderLoad|OfAKilledPod)$' 10m
		CALY_CHURN_FOR=${CALY_CHURN_FOR:-30m} run '^TestStreamChurn$' 2h
		;;
	*) die "$1 is nothing that it does" ;;
	esac
}

run() { go test -count=1 -timeout "$2" -run "$1" -v ./test/system/streams | grep --line-buffered -Ev '^=== '; }

main "$@"
