#!/usr/bin/env bash
# Checks that need no test server: format, vet, golangci-lint, what is generated, the chart.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf 'lint: %s\n' "$*"; }

step gofmt
unformatted=$(git ls-files '*.go' | xargs gofmt -l)
[ -z "$unformatted" ] || { echo "not formatted, run 'make fmt': $unformatted" >&2; exit 1; }
step "go vet"
go vet ./...
go vet -tags e2e ./test/e2e/
step "go mod tidy"
go mod tidy -diff >/dev/null || { echo "go.mod is not tidy: run 'go mod tidy'" >&2; exit 1; }
step "generated files"
hack/check-generated.sh
if [ -d charts/caly ]; then
  step "chart"
  hack/chart.sh
fi
