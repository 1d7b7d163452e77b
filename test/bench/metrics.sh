#!/usr/bin/env bash
# Measures scrapes of the operator's metrics and of a data plane's with 10,000 tenants: series, bytes and time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

KUBEBUILDER_ASSETS=$(test/cluster/build.sh --print-bin)
export KUBEBUILDER_ASSETS
export PATH="$KUBEBUILDER_ASSETS:$PATH"
go test -run '^$' -bench '^BenchmarkScrape$' -benchtime 20x -timeout 20m ./controllers/tenantmetrics ./test/system/dataplane
