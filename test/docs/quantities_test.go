package docs_test

import (
	"fmt"
	"go/constant"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

// quantified are the pages in which each number is known: it is the code's, and testdata/numbers.txt compares it, or
// testdata/facts.txt says that it is not the code's.
var quantified = []string{
	"README.md",
	"charts/caly/values.yaml",
	"docs/agents.md",
	"docs/api.md",
	"docs/compatibility.md",
	"docs/explanation.md",
	"docs/how-to/*.md",
	"docs/runbooks/*.md",
	"docs/security.md",
}

var (
	fence      = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	inlineCode = regexp.MustCompile("`[^`]*`")
	target     = regexp.MustCompile(`\]\([^)]*\)`) // of a link
	listNumber = regexp.MustCompile(`(?m)^( *)\d{1,2}\. `)
	// dotted is an address, a version or a date.
	dotted = regexp.MustCompile(`\d+(?:\.\d+){2,}(?:/\d+)?|\d{4}-\d\d-\d\d|(?:November|December) \d{4}`)

	// figure is a number that stands by itself, with a sign of a unit or without.
	figure = regexp.MustCompile(
		`(?:^|[\s(|/])(\d+(?:,\d{3})*(?:\.\d+)?)(?:ms|s|m|min|h|d|Ki|Mi|Gi)?(?:[\s.,;:?!)|%/-]|$)`,
	)
	// spelled is a number in letters before a unit.
	spelled = regexp.MustCompile(
		`(?i)\b((?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve) (?:milliseconds|seconds|minutes|hours|days|MiB|bytes))\b`,
	)
	// status is the code of an answer of HTTP, or of a close of a WebSocket.
	status = regexp.MustCompile(`^(?:[2-5]\d\d|10[01]\d)$`)
	// standard is a number that names a document, a protocol or a family of cryptography.
	standard = regexp.MustCompile(
		`(?i)(?:RFC|SHA|HTTP|TLS|IPv|OpenAPI|Grafana|PostgreSQL|ports?|exit code|version|migrations?) $`,
	)
)

// prose returns the text of a page as one line, without its fenced blocks; of a YAML file the comments alone.
func prose(path, page string) string {
	if strings.HasSuffix(path, ".yaml") {
		var comments []string
		for line := range strings.Lines(page) {
			if before, comment, found := strings.Cut(line, "#"); found && !strings.Contains(before, `"`) {
				comments = append(comments, comment)
			}
		}
		return flat(strings.Join(comments, ""))
	}
	return flat(listNumber.ReplaceAllString(fence.ReplaceAllString(page, ""), "$1"))
}

// masked replaces what is not prose by a filler of the same length.
func masked(text string) string {
	filler := func(found string) string { return strings.Repeat("~", len(found)) }
	for _, other := range []*regexp.Regexp{inlineCode, target, dotted} {
		text = other.ReplaceAllStringFunc(text, filler)
	}
	return text
}

// figures returns where the numbers of a text are.
func figures(text string) (found [][2]int) {
	text = masked(text)
	for at := 0; at < len(text); {
		m := figure.FindStringSubmatchIndex(text[at:])
		if m == nil {
			break
		}
		span := [2]int{at + m[2], at + m[3]}
		at = span[1]
		if !status.MatchString(text[span[0]:span[1]]) && !standard.MatchString(text[:span[0]]) {
			found = append(found, span)
		}
	}
	for _, m := range spelled.FindAllStringSubmatchIndex(text, -1) {
		found = append(found, [2]int{m[2], m[3]})
	}
	return found
}

// located returns where a text has a sentence. A sentence between slashes is a regular expression.
func located(text, sentence string) (found [][2]int, err error) {
	pattern := regexp.QuoteMeta(sentence)
	if len(sentence) > 2 && strings.HasPrefix(sentence, "/") && strings.HasSuffix(sentence, "/") {
		pattern = sentence[1 : len(sentence)-1]
	}
	matcher, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	for _, m := range matcher.FindAllStringIndex(text, -1) {
		found = append(found, [2]int{m[0], m[1]})
	}
	return found, nil
}

// quantifiedPages returns the texts of the pages by their paths.
func quantifiedPages(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	for _, pattern := range quantified {
		paths, err := filepath.Glob(filepath.Join(kubetest.Root(), pattern))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: no page, %v", pattern, err)
		}
		for _, path := range paths {
			name, err := filepath.Rel(kubetest.Root(), path)
			if err != nil {
				t.Fatal(err)
			}
			pages[name] = prose(name, read(t, name))
		}
	}
	return pages
}

// knownSpans returns where the pages have the sentences of numbers.txt and of facts.txt. It reports facts that a page
// has no more.
func knownSpans(t *testing.T, pages map[string]string) map[string][][2]int {
	t.Helper()
	known := map[string][][2]int{}
	c := defined(t)
	for _, s := range sentences(t, "testdata/numbers.txt") {
		if text, err := c.rendered(s.text); err == nil {
			spans, _ := located(pages[s.page], text)
			known[s.page] = append(known[s.page], spans...)
		}
	}
	for _, s := range sentences(t, "testdata/facts.txt") {
		for page, text := range pages {
			if ok, _ := filepath.Match(s.page, page); !ok {
				continue
			}
			spans, err := located(text, s.text)
			if err != nil || len(spans) == 0 && s.page == page {
				t.Errorf("testdata/facts.txt: %s does not have %q, %v", s.page, s.text, err)
			}
			known[page] = append(known[page], spans...)
		}
	}
	return known
}

// TestNumbersAreKnown checks that each number of the pages is compared with the code, or is known to be another's.
func TestNumbersAreKnown(t *testing.T) {
	pages := quantifiedPages(t)
	known := knownSpans(t, pages)
	for page, text := range pages {
		for _, at := range figures(text) {
			inside := func(span [2]int) bool { return span[0] <= at[0] && at[1] <= span[1] }
			if !slices.ContainsFunc(known[page], inside) {
				t.Errorf(
					"%s: %s in %q: compare it by testdata/numbers.txt if it is the code's, else name it in testdata/facts.txt",
					page,
					text[at[0]:at[1]],
					around(text, at),
				)
			}
		}
	}
}

// around returns a part of a text with some of what is before and after it.
func around(text string, at [2]int) string {
	return strings.ToValidUTF8(text[max(0, at[0]-60):min(len(text), at[1]+40)], "")
}

// TestFigures checks what counts as a number of a page.
func TestFigures(t *testing.T) {
	for text, want := range map[string]string{
		"at most 10 lines":                           "[10]",
		"1,000 calls, 99.9 % of 5 MiB":               "[1,000 99.9 5]",
		"after 45s or (3) or 20-40 s":                "[45 3 20]",
		"answered 503 or 1001":                       "[]",
		"RFC 9457, `128` and [a](b-15.md) of SHA256": "[]",
		"for ten seconds, two tenants":               "[ten seconds]",
		"| 64 | 2 |":                                 "[64 2]",
		"v1.2 and 10.0.0.1":                          "[]",
	} {
		var got []string
		for _, at := range figures(text) {
			got = append(got, text[at[0]:at[1]])
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%q has %v, want %s", text, got, want)
		}
	}
	if _, err := os.Stat("testdata/facts.txt"); err != nil {
		t.Error(err)
	}
}

// TestWritten checks the forms of a number.
func TestWritten(t *testing.T) {
	c := newCode()
	c.names["part"] = constant.MakeInt64(5 << 20)
	for name, tc := range map[string]struct {
		where, unit, want string
	}{
		"a constant":           {where: "internal/objectstore.PartSize", want: "5242880"},
		"in a unit":            {where: "internal/objectstore.PartSize", unit: "MiB", want: "5"},
		"in a unit, as a word": {where: "=part*2", unit: "MiB:word", want: "ten"},
		"not a whole number":   {where: "=part/2", unit: "MiB", want: "2.5"},
		"with commas":          {where: "=part", unit: ",", want: "5,242,880"},
		"as a percentage":      {where: "=0.8", unit: "%", want: "80"},
		"of seconds":           {where: "=7200", unit: "seconds/hours:word", want: "two"},
		"of two values":        {where: `charts/caly/values.yaml /replicas: (\d+)$/`},
		"of an unknown name":   {where: "=nothing"},
		"of an unknown unit":   {where: "=part", unit: "stone"},
		"without a word":       {where: "=part", unit: "word"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.number(tc.where, tc.unit)
			if got != tc.want || (err != nil) != (tc.want == "") {
				t.Errorf("%q, %v, want %q", got, err, tc.want)
			}
		})
	}
}
