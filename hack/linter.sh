#!/usr/bin/env bash
# Builds golangci-lint with this project's linters, unless it is there, and prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."

linter=dist/golangci-lint-$(cat hack/lint/go.sum hack/lint/main.go <(go env GOVERSION) | sha256sum | cut -c1-12)
if [[ ! -x $linter ]]; then
  echo "lint: building golangci-lint (about 4 minutes the first time)" >&2
  rm -f dist/golangci-lint-*
  CGO_ENABLED=0 go build -C hack/lint -o "$PWD/$linter" .
fi
echo "$linter"
