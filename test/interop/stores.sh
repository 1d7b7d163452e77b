#!/usr/bin/env bash
# Uploads to SeaweedFS as the operator and upload pods do. Builds it from its module, which takes ten minutes, once. Arguments
# go to go test.
set -euo pipefail
PROGRAM=test-stores
# shellcheck source=test/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

MODULE=$ROOT/test/interop/peers/seaweedfs

main() {
	local version weed
	version=$(awk '$1 == "require" && $2 == "github.com/seaweedfs/seaweedfs" { print $3 }' "$MODULE/go.mod")
	weed=${CALY_TOOLS:-$HOME/.cache/caly/tools}/weed-$version/weed
	if [[ ! -x $weed ]]; then # go install does not build a module that replaces another
		step "building SeaweedFS $version" "10 minutes, once"
		CGO_ENABLED=0 go build -C "$MODULE" -o "$weed" github.com/seaweedfs/seaweedfs/weed
	fi
	cd "$ROOT"
	step "uploading to SeaweedFS" "half a minute"
	CALY_WEED=$weed CGO_ENABLED=1 go test -race -tags interop,stores -count=1 -timeout 10m -run TestSeaweedFS "$@" ./test/interop/
}

main "$@"
