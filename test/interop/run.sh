#!/usr/bin/env bash
# Calls the stream endpoint with other people's WebSocket libraries, and bridges to agents made with them: ws for Node.js, websockets for
# Python. Installs what is missing. Arguments go to go test, such as -run TestAgents.
set -euo pipefail
PROGRAM=test-interop
# shellcheck source=test/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

INTEROP=$ROOT/test/interop
PYTHON=/usr/bin/python3 # Debian's, for which python3-websockets is

# install PACKAGE ...: from Debian's packages.
install() {
	[[ $(id -u) == 0 ]] || die "these packages are missing, and only root may install them: run 'apt-get install $*', then this again"
	step "installing from Debian's packages" "$*"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

deps() {
	local missing=()
	have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
	have node || missing+=(nodejs)
	have npm || missing+=(npm)
	"$PYTHON" -c 'import websockets' 2>/dev/null || missing+=(python3-websockets)
	[[ ${#missing[@]} == 0 ]] || install "${missing[@]}"
	cd "$INTEROP/peers/node"
	if ! npm ls --silent >/dev/null 2>&1; then # of what package.json asks for
		step "installing ws for Node.js with npm"
		npm ci --silent
	fi
}

main() {
	deps
	cd "$ROOT"
	step "calling with other WebSocket libraries" "about a minute"
	CALY_INTEROP_NODE=$(command -v node) CALY_INTEROP_PYTHON=$PYTHON CGO_ENABLED=1 go test -race -tags interop -count=1 -timeout 10m "$@" ./test/interop/
}

main "$@"
