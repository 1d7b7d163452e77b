#!/usr/bin/env bash
# Scores the rendered chart with kube-score. A critical finding fails unless hack/kubescore/accepted.txt has it, and so does a line there that
# no finding matches.
#
#   hack/kubescore.sh < manifests
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A used=()
patterns=()
while IFS= read -r line; do
  [[ -z $line || $line == '#'* ]] || patterns+=("$line")
done <hack/kubescore/accepted.txt

# kube-score ends with 1 when it finds something critical.
findings=$(go -C hack/kubescore tool kube-score score --output-format ci - || true)
[[ $findings == *'[OK]'* ]] || { echo "kube-score printed nothing: $findings" >&2; exit 1; }

failed=0
while IFS= read -r finding; do
  known=
  for i in "${!patterns[@]}"; do
    IFS='|' read -r object text reason <<<"${patterns[$i]}"
    object=${object% } text=${text# } text=${text% }
    [[ -n ${reason// /} ]] || { echo "hack/kubescore/accepted.txt: a line lacks its reason: ${patterns[$i]}" >&2; exit 1; }
    # shellcheck disable=SC2053 # both are patterns
    if [[ ${finding#\[CRITICAL\] } == $object*": "*$text* ]]; then known=1 used[$i]=1; fi
  done
  [[ -n $known ]] || { echo "kube-score: ${finding#\[CRITICAL\] }" >&2; failed=1; }
done < <(grep '^\[CRITICAL\]' <<<"$findings")
for i in "${!patterns[@]}"; do
  [[ -n ${used[$i]:-} ]] || { echo "hack/kubescore/accepted.txt: no finding matches: ${patterns[$i]}" >&2; failed=1; }
done
exit "$failed"
