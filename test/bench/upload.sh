#!/usr/bin/env bash
# Compares "caly upload" with "rclone copyurl --urls": same HTTP source, same S3 server, alternating runs.
# Brings a PostgreSQL and an S3 server of its own up on loopback, and removes them. Arguments go to test/bench/upload.
set -euo pipefail
PROGRAM=bench-upload
# shellcheck source=test/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

RCLONE_VERSION=v1.76.0
RCLONE=${CALY_TOOLS:-$HOME/.cache/caly/tools}/rclone-$RCLONE_VERSION/rclone

main() {
	cd "$ROOT"
	WORK=$(mktemp -d)
	chmod 711 "$WORK" # PostgreSQL runs as a user of its own
	export HOSTIP=127.0.0.1 CALY_S3_STATE=$WORK/s3 CALY_S3_PORT=17091
	trap finish EXIT
	trap "exit 143" TERM INT # which ends what this started
	if [[ ! -x $RCLONE ]]; then
		step "building rclone $RCLONE_VERSION" "2 to 4 minutes, once"
		GOBIN=$(dirname "$RCLONE") CGO_ENABLED=0 go install "github.com/rclone/rclone@$RCLONE_VERSION"
	fi
	BIN=$("$CLUSTER/build.sh" versitygw)
	export PATH="$BIN:$PATH"
	step "starting PostgreSQL and the S3 server" "a few seconds"
	"$CLUSTER/postgres.sh" up --dir "$WORK/postgres" --listen 127.0.0.1 --port 17433
	"$CLUSTER/s3.sh" up
	eval "$("$CLUSTER/s3.sh" env)"
	CALY_DATABASE_URL=$("$CLUSTER/postgres.sh" dsn owner --dir "$WORK/postgres") bin/caly migrate up
	CALY_BENCH_DSN=$("$CLUSTER/postgres.sh" dsn operator --dir "$WORK/postgres")
	export CALY_BENCH_DSN
	step "measuring" "about a minute"
	go build -C test/bench -o "$WORK/upload" ./upload
	"$WORK/upload" -caly bin/caly-upload -rclone "$RCLONE" "$@"
}

finish() {
	local status=$?
	"$CLUSTER/s3.sh" down >/dev/null 2>&1 || true
	"$CLUSTER/postgres.sh" down --dir "$WORK/postgres" >/dev/null 2>&1 || true
	rm -rf "$WORK"
	exit "$status"
}

main "$@"
