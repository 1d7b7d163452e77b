#!/usr/bin/env bash
# Generates CRDs, deepcopy, apply configurations and RBAC from the markers in the code, the chart's copy of the CRDs, its dashboards, and
# the licences of what is compiled into the programs.
set -euo pipefail
cd "$(dirname "$0")/.."

gen() { go tool -modfile=hack/tools/go.mod controller-gen "$@"; }
gen object paths=./api/v1alpha1
gen crd:allowDangerousTypes=false paths=./api/v1alpha1 output:crd:dir=config/crd/bases
gen applyconfiguration paths=./api/v1alpha1
gen rbac:roleName=caly-operator 'paths={./controllers/...,./internal/adminapi/...}' output:rbac:dir=config/rbac
if [ -d charts/caly ]; then
  mkdir -p charts/caly/files/crds
  cp config/crd/bases/*.yaml charts/caly/files/crds/
fi
go run -C hack/dashboards .
go run ./hack/notices ./cmd/caly ./cmd/caly-upload >THIRD_PARTY_NOTICES.tmp
mv THIRD_PARTY_NOTICES.tmp THIRD_PARTY_NOTICES
