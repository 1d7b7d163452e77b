#!/usr/bin/env bash
# Fails when the reference leaves out a name that people meet (reasons, metrics, codes, events, flags, chart values) or has
# a metric twice, a table of contents leaves out a heading, a link leads nowhere, or the threat model names a test that does not exist.
#
#   hack/check-docs.sh [ROOT]     ROOT is another copy of the repository; default: this one
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

NAMED_IN=(docs/reference.md docs/api.md charts/caly/README.md)
failed=0

complain() {
  echo "docs: $*" >&2
  failed=1
}

# named KIND: each line of standard input must stand in backticks in the reference; a chart value may go on with a dot.
named() {
  local name count=0
  while read -r name; do
    count=$((count + 1))
    grep -qE "\`${name}[.\`]" "${NAMED_IN[@]}" || complain "the $1 $name is in none of ${NAMED_IN[*]}"
  done
  ((count > 0)) || complain "found no $1 in the code: correct the pattern in hack/check-docs.sh"
}

# constants PREFIX FILE: the values of the string constants whose names begin with PREFIX.
constants() { sed -nE "s/^\\s+$1[A-Za-z]*(\\s+[A-Za-z]+)?\\s+= \"([^\"]+)\".*/\\2/p" "$2"; }

# metrics are written as whole names, or as the last part of one in a file that has Namespace and Subsystem.
metrics() {
  local file subsystem
  while read -r file; do
    grep -oE '"caly_[a-z0-9_]+"' "$file" | tr -d '"' || true
    subsystem=$(grep -oE 'Namespace: "caly", Subsystem: "[a-z0-9_]+"' "$file" | head -n 1 | cut -d'"' -f4 || true)
    [[ -z $subsystem ]] || grep -oE '(counter|gauge|histogram)\("[a-z0-9_]+"|Name: "[a-z0-9_]+"' "$file" | cut -d'"' -f2 | sed "s/^/caly_${subsystem}_/"
  done < <(grep -rlE 'client_golang/prometheus"' --include='*.go' --exclude='*_test.go' cmd controllers dataplane internal) | sort -u
}

# anchors FILE: what its headings are called in links.
anchors() {
  sed -nE 's/^#+ +(.*)/\1/p' "$1" | tr '[:upper:]' '[:lower:]' | sed -E 's/[^a-z0-9 _-]//g; s/ /-/g'
}

# tests are those that a page names as proofs, as `folder.TestName`: each must exist.
tests() {
  local name folder function
  # shellcheck disable=SC2016 # the backticks are the page's
  while read -r name; do
    folder=${name%.*} function=${name##*.}
    grep -qsE "^func ${function}\\(" "$folder"/*_test.go || complain "docs/security.md names the test $name, which does not exist"
  done < <(grep -oE '`[a-z0-9/]+\.(Test|Fuzz|Benchmark)[A-Za-z0-9_]+`' docs/security.md | tr -d '`' | sort -u)
  # A name without its folder would not be checked.
  while read -r name; do complain "docs/security.md names the test $name without its folder"; done < <(
    grep -oE '(^|[^.A-Za-z0-9])(Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9_]+' docs/security.md | sort -u || true)
}

links() {
  local file link path anchor
  while read -r file; do
    while read -r link; do
      path=${link%%#*} anchor=""
      [[ $link != *'#'* ]] || anchor=${link#*#}
      if [[ -z $path ]]; then path=$file; else path=$(dirname "$file")/$path; fi
      if [[ ! -e $path ]]; then
        complain "$file: the link $link leads to no file"
      elif [[ -n $anchor && $path == *.md ]] && ! anchors "$path" | grep -xF -- "$anchor" >/dev/null; then
        complain "$file: the link $link leads to no heading"
      fi
    done < <(grep -oE '\]\([^) ]+\)' "$file" | sed -E 's/^\]\((.*)\)$/\1/' | grep -vE '^[a-z]+:' || true)
  done < <(printf '%s\n' README.md CONTRIBUTING.md SECURITY.md charts/caly/README.md && find docs -name '*.md' | sort)
}

# contents: a page that begins with a list of its headings lists all of them, in their order.
contents() {
  local file listed headings
  while read -r file; do
    listed=$(sed '/^## /q' "$file" | sed -nE 's/^- \[(.+)\]\(#.*/\1/p')
    [[ -n $listed ]] || continue
    # shellcheck disable=SC2016 # the backticks are the page's
    headings=$(sed '/^```/,/^```/d' "$file" | sed -nE 's/^## (.*)/\1/p')
    [[ $listed == "$headings" ]] || complain "$file: its table of contents differs from its headings:
$(diff <(echo "$listed") <(echo "$headings") || true)"
  done < <(find docs -name '*.md' | sort)
}

# index: the list of tasks names each page by its title, and each page once.
index() {
  local file title listed
  for file in docs/how-to/*.md; do
    [[ $file != */README.md ]] || continue
    title=$(sed -n '1s/^# //p' "$file")
    listed=$(grep -cF -- "- [$title](${file##*/})" docs/how-to/README.md || true)
    [[ $listed == 1 ]] || complain "docs/how-to/README.md lists $file with its title, $title, $listed times"
  done
}

# once: no metric has two rows in the reference, which would come to differ.
once() {
  local name
  # shellcheck disable=SC2016 # the backticks are the page's
  while read -r name; do complain "docs/reference.md lists the metric $name twice"; done < <(
    grep -E '^\| `caly_' docs/reference.md | cut -d'|' -f2 | grep -oE '`caly_[a-z_]+`' | sort | uniq -d)
}

named "condition" < <(constants Condition api/v1alpha1/conditions.go)
named "reason" < <(constants Reason api/v1alpha1/conditions.go)
named "backfill result" < <(constants result controllers/backfill/metrics.go)
named "refusal" < <(constants Reason dataplane/verify/auth.go && constants reason dataplane/webhook/route.go)
named "event in a path" < <(sed -n '/^var kinds = /,/^}/p' dataplane/webhook/route.go | grep -oE '"[a-z-]+":' | tr -d '":')
named "flag" < <(grep -rohE --include='*.go' --exclude='*_test.go' 'VarP?\(&[A-Za-z.]+, "[a-z-]+"' cmd | cut -d'"' -f2 | sed 's/^/--/' | sort -u)
named "problem code" < <(sed -nE 's/^\s+[A-Za-z]+\s+Code = "([a-z_]+)"$/\1/p' dataplane/problem/problem.go)
named "metric" < <(metrics)
named "chart value" < <(sed -nE 's/^([A-Za-z]+):.*/\1/p' charts/caly/values.yaml)
contents
index
once
tests
links

if [[ $failed != 0 ]]; then
  echo "docs: add what is missing, in the file where its neighbours are" >&2
  exit 1
fi
echo "docs: every name is described and every link leads somewhere"
