#!/usr/bin/env bash
# Checks that run no test: format, vet, golangci-lint, module files, generated files, shell scripts, the chart.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf 'lint: %s\n' "$*"; }
die() { printf 'lint: %s\n' "$*" >&2; exit 1; }

step gofmt
unformatted=$(git ls-files --cached --others --exclude-standard '*.go' | xargs ls 2>/dev/null | xargs gofmt -l)
[[ -z $unformatted ]] || die "not formatted, run 'make fmt': $unformatted"

step "go vet"
go vet ./...
go vet -tags e2e ./test/e2e/
go vet -tags interop,stores ./test/interop/
go vet -C test/prometheus -tags e2e ./...
for module in test/bench test/prometheus hack/image hack/dashboards; do go vet -C "$module" ./...; done

step "go mod tidy"
for module in . test/bench test/prometheus hack/image hack/dashboards hack/kubescore; do
  go -C "$module" mod tidy -diff >/dev/null || die "$module/go.mod is not tidy: run 'go mod tidy' there"
done

linter=$(hack/linter.sh)
step format
hack/format.sh --check
step golangci-lint
"$linter" run ./...

step "generated files"
hack/check-generated.sh

step "shell scripts"
if command -v shellcheck >/dev/null; then
  git ls-files --cached --others --exclude-standard '*.sh' .ci/run | xargs shellcheck -x
else
  echo "shellcheck is not installed: left out (apt-get install shellcheck)"
fi

step words
hack/check-words.sh

step docs
hack/check-docs.sh

step chart
hack/chart.sh
