#!/usr/bin/env bash
# Validates manifests from standard input or files against the schemas of the local cluster's own API server, with Caly's CRDs.
#
#   hack/kubeconform.sh [FILE...]
set -euo pipefail
cd "$(dirname "$0")/.."

KUBEBUILDER_ASSETS=$(test/cluster/build.sh etcd kube-apiserver kubectl kubeconform)
export KUBEBUILDER_ASSETS
# The schemas change with the API server, the CRDs and the program that converts them.
key=$({ echo "$KUBEBUILDER_ASSETS"; cat config/crd/bases/*.yaml hack/schemas/*.go; } | sha256sum | cut -c1-12)
schemas=dist/schemas-$key
if [[ ! -d $schemas ]]; then
  mkdir -p dist
  rm -rf dist/schemas-*
  go run ./hack/schemas "$schemas.tmp"
  mv -T "$schemas.tmp" "$schemas"
fi
# The API server does not have HTTPRoute, PodMonitor and PrometheusRule: they are CRDs of other projects. promtool checks the rules.
"$KUBEBUILDER_ASSETS/kubeconform" -strict -summary -skip HTTPRoute,Kustomization,PodMonitor,PrometheusRule \
  -schema-location "$schemas/{{ .ResourceKind }}{{ .KindSuffix }}.json" "$@"
