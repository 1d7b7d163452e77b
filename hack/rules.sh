#!/usr/bin/env bash
# Checks the chart's alerting rules with promtool: their syntax, and that each alert is quiet, fires and is resolved as charts/caly/ci/rules says.
set -euo pipefail
cd "$(dirname "$0")/../charts/caly"

promtool check rules files/rules/*.yaml
promtool test rules ci/rules/*.yaml
