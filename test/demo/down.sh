#!/usr/bin/env bash
# Removes all that the demo made: Prometheus, cluster, PostgreSQL, S3 server, their data. What was built stays, for the next time.
set -euo pipefail
# shellcheck source=test/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

PROGRAM=demo-down
require_rights demo-down
failed=0
for script in prometheus/prometheus cluster/cluster cluster/s3 cluster/postgres; do
	"$ROOT/test/$script.sh" down || failed=1
done
rm -rf "$DEMO"
rmdir "$(dirname "$DEMO")" 2>/dev/null || true
[[ $failed == 0 ]] || die "something could not be removed; see above"
echo "demo: all of it is gone; built programs stay in ~/.cache/caly and dist/"
