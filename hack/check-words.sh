#!/usr/bin/env bash
# Fails when a file has more of the words that CONTRIBUTING.md replaces than hack/words.txt allows it: old text is corrected
# over time, new text has none.
#
#   hack/check-words.sh             checks
#   hack/check-words.sh --update    writes hack/words.txt, after text was corrected
set -euo pipefail
cd "$(dirname "$0")/.."

ALLOWED=hack/words.txt
WORDS='\b(mend(s|ed|ing)?|anew|whoever|whomever|besides|is no|are no|is none|are none|none of (it|them|its|those)|of which|of whose'
WORDS+='|good no more|turned? away|sends? away|sent away|so many|as of old|once more|beside)\b'
FINE='is no longer|are no longer|there is no|there are no|so many [a-z]+ that'

texts() { # CONTRIBUTING.md lists the words itself
  git ls-files --cached --others --exclude-standard '*.go' '*.sql' '*.md' '*.yaml' '*.tpl' '*.sh' |
    grep -vE 'testdata|zz_generated|applyconfiguration|^(CONTRIBUTING\.md|hack/check-words\.sh|hack/schemas/)|zxcvbn'
}

# lapses prints file:line:text of each line with such a word. A file that was removed and not committed yet has none.
lapses() { texts | xargs grep -snHE "$WORDS" | grep -vE "$FINE" || true; }

# counts prints "count file".
counts() { lapses | cut -d: -f1 | sort | uniq -c | awk '{print $1, $2}'; }

if [[ ${1:-} == --update ]]; then
  counts >"$ALLOWED"
  exit
fi

failed=0
while read -r count file; do
  allowed=$(awk -v f="$file" '$2 == f {print $1}' "$ALLOWED")
  if ((count > ${allowed:-0})); then
    failed=1
    echo "words: $file has $count of the words that CONTRIBUTING.md replaces; ${allowed:-0} are allowed:" >&2
    lapses | grep -F "$file:" | cut -c1-200 >&2
  fi
done < <(counts)
if [[ $failed != 0 ]]; then
  echo "words: use the words of CONTRIBUTING.md; where you corrected others in the same file, run hack/check-words.sh --update" >&2
  exit 1
fi
echo "words: no file has more lapses than before"
