#!/usr/bin/env bash
# Runs every test with the race detector, against a real kube-apiserver, PostgreSQL and S3 server.
set -euo pipefail
cd "$(dirname "$0")/.."

KUBEBUILDER_ASSETS=$(test/cluster/build.sh --print-bin)
export KUBEBUILDER_ASSETS
export PATH="$KUBEBUILDER_ASSETS:$PATH"
echo "testing the product, with the race detector"
CGO_ENABLED=1 go test -race -timeout 25m ./...
echo "testing the image builder"
go test -C hack/image ./...
