#!/usr/bin/env bash
# Runs every test with the race detector, against a real kube-apiserver, PostgreSQL 15, PgBouncer and S3
# server, and those of the store and the migrations that use the chosen PostgreSQL against version 18 too.
set -euo pipefail
cd "$(dirname "$0")/.."

KUBEBUILDER_ASSETS=$(test/cluster/build.sh --print-bin)
export KUBEBUILDER_ASSETS
export PATH="$KUBEBUILDER_ASSETS:$PATH"
CALY_TEST_POSTGRES_18=$(test/postgres18/install.sh)
export CALY_TEST_POSTGRES_18
echo "testing the product, with the race detector"
CGO_ENABLED=1 go test -race -timeout 25m -p 3 -parallel 4 ./... # many tests wait more than they compute
echo "testing the store and the migrations with PostgreSQL 18"
# Tests that do not depend on CALY_TEST_POSTGRES call pgtest.SameOnEachServer, which skips them here.
CALY_TEST_AGAIN=1 CALY_TEST_POSTGRES=$CALY_TEST_POSTGRES_18 CGO_ENABLED=1 go test -race -timeout 25m ./internal/store/ ./migrations/
echo "testing the alerting rules"
hack/rules.sh
echo "testing the image builder"
go test -C hack/image ./...
echo "testing the dashboards"
go test -C hack/dashboards ./...
echo "testing the configuration of the local cluster's Prometheus"
go test -C test/prometheus ./...
