#!/usr/bin/env bash
# Formats the code: each key of a literal on a line of its own, lines up to 120 columns where they can be broken.
#
#   hack/format.sh             formats
#   hack/format.sh --check     lists the files that are not formatted, and fails
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ${1:-} == --check ]]; then
  go run ./hack/format --check
  different=$("$(hack/linter.sh)" fmt --diff ./... | sed -nE 's/^--- (.*)\.orig$/\1/p' || true)
  [[ -z $different ]] || { printf 'format: not formatted, run "make fmt":\n%s\n' "$different" >&2; exit 1; }
  exit
fi
go run ./hack/format
"$(hack/linter.sh)" fmt ./...
go run ./hack/format # what golines broke may have several keys on a line
