package reason

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDocumentation checks that each table of the reference has a row for each reason, and no other row.
func TestDocumentation(t *testing.T) {
	const page = "../../docs/reference.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for heading, want := range map[string][]string{
		"### Dead events":       Dead(),
		"### Partial events":    append(Fields(), FieldTooManyRecordings),
		"## Upload fault codes": append(Uploads(), "Storage"), // and a reason of package objectstore
		"### Captures":          Captures(),
	} {
		t.Run(strings.TrimLeft(heading, "# "), func(t *testing.T) {
			_, section, found := strings.Cut(string(text), "\n"+heading+"\n")
			if !found {
				t.Fatalf("%s has no heading %s", page, heading)
			}
			got := firstColumn(section)
			slices.Sort(got)
			slices.Sort(want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the first column of its table (-constants +%s):\n%s", page, diff)
			}
		})
	}
}

var (
	table = regexp.MustCompile(`(?m)^\|.*\n\| ---.*\n((?:\|.*\n)+)`)
	code  = regexp.MustCompile("`([A-Za-z_]+)`")
)

// firstColumn returns the words in backticks that the first table of a text has in its first column.
func firstColumn(text string) (words []string) {
	rows := table.FindStringSubmatch(text)
	if rows == nil {
		return nil
	}
	for row := range strings.Lines(rows[1]) {
		cell := strings.Split(row, "|")[1]
		for _, word := range code.FindAllStringSubmatch(cell, -1) {
			words = append(words, word[1])
		}
	}
	return words
}

// TestWordsAreUnique checks that no list has a word twice.
func TestWordsAreUnique(t *testing.T) {
	for name, list := range map[string][]string{
		"dead":     Dead(),
		"fields":   Fields(),
		"uploads":  Uploads(),
		"captures": Captures(),
	} {
		sorted := slices.Sorted(slices.Values(list))
		if distinct := slices.Compact(slices.Clone(sorted)); len(distinct) != len(list) {
			t.Errorf("%s: %q", name, sorted)
		}
	}
}
