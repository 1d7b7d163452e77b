#!/usr/bin/env bash
# Prints how much of the critical paths the tests cover, and fails where it is less than 95 %. It takes some minutes.
#
#   hack/cover.sh [-uncovered]    -uncovered prints the statements that no test covers, too
set -euo pipefail
cd "$(dirname "$0")/.."

# Packages whose tests cover the areas of hack/cover.
TESTS=(
  ./dataplane/admission ./dataplane/identity/account ./dataplane/identity/session ./dataplane/ratelimit
  ./dataplane/stream/bridge ./dataplane/token ./dataplane/upload ./dataplane/verify ./dataplane/webhook
  ./internal/budget ./internal/conditions ./internal/fair ./internal/ingest ./internal/keyring
  ./internal/refreshtoken ./internal/resilience ./internal/store
)
PROFILE=cover.out

KUBEBUILDER_ASSETS=$(test/cluster/build.sh --print-bin)
export KUBEBUILDER_ASSETS
export PATH="$KUBEBUILDER_ASSETS:$PATH"
measured=$(IFS=,; echo "${TESTS[*]}")
go test -timeout 25m -coverpkg "$measured" -coverprofile "$PROFILE" "${TESTS[@]}"
go run ./hack/cover "$@" "$PROFILE"
