#!/usr/bin/env bash
# Generates into a copy of the tree and fails when it differs from what is committed.
set -euo pipefail
cd "$(dirname "$0")/.."

copy=$(mktemp -d)
trap 'rm -rf -- "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy"
"$copy/hack/generate.sh"
for path in api config charts THIRD_PARTY_NOTICES; do
  if ! diff -rq "$path" "$copy/$path"; then
    echo "generated files are stale: run 'make generate' and commit what it changes" >&2
    exit 1
  fi
done
echo "generated files are up to date"
