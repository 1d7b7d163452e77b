#!/usr/bin/env bash
# Installs what the tests need: Debian's PostgreSQL, and the test servers built from their Go modules.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null && ! command -v initdb >/dev/null; then
  if [ "$(id -u)" != 0 ]; then
    echo "PostgreSQL is missing and only root may install it: run 'apt-get install postgresql', then this again" >&2
    exit 1
  fi
  echo "installing PostgreSQL from Debian's packages"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null
fi
echo "building the test servers (kube-apiserver, etcd, kubectl, versitygw): about 8 minutes the first time, then none"
test/cluster/build.sh envtest versitygw helm kubeconform
