#!/usr/bin/env bash
# Fails when a file has one of the words that CONTRIBUTING.md replaces, or a doc comment of Go that is "Name : text"
# instead of a sentence. It prints file:line:text of each.
set -euo pipefail
cd "$(dirname "$0")/.."

WORDS='\b(mend(s|ed|ing)?|anew|whoever|whomever|besides|is no|are no|is none|are none|none of (it|them|its|those)|of which|of whose'
WORDS+='|good no more|turned? away|sends? away|sent away|so many|as of old|once more|beside)\b'
# TestX : text, TestX: text, and TestX, with more text. Lists of cases may have "name: text".
LABELS='^[[:space:]]*// (\*?[A-Za-z_][A-Za-z0-9_.]* : |(Test|Fuzz|Benchmark)[A-Za-z0-9_]+[:,] )'
FINE='is no longer|are no longer|there is no|there are no|so many [a-z]+ that'

texts() { # CONTRIBUTING.md lists the words itself; a released migration does not change
  git ls-files --cached --others --exclude-standard '*.go' '*.sql' '*.md' '*.yaml' '*.tpl' '*.sh' |
    grep -vE 'testdata|zz_generated|applyconfiguration|^(CONTRIBUTING\.md|hack/check-words\.sh|hack/schemas/|migrations/.*\.sql$)|zxcvbn'
}

# A file that was removed and not committed yet has no lines.
lapses=$(texts | xargs grep -snHE "$WORDS" | grep -vE "$FINE" || true)
if [[ -n $lapses ]]; then
  printf '%s\nwords: use the words of CONTRIBUTING.md\n' "$(cut -c1-200 <<<"$lapses")" >&2
  exit 1
fi
labels=$(texts | grep '\.go$' | xargs grep -snHE "$LABELS" || true)
if [[ -n $labels ]]; then
  printf '%s\nwords: write a doc comment as a sentence that begins with the name, such as "// TestX verifies that ..."\n' \
    "$(cut -c1-200 <<<"$labels")" >&2
  exit 1
fi
echo "words: no file has a word that CONTRIBUTING.md replaces"
