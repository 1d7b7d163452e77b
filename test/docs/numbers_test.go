// Package docs_test compares numbers of the documentation with the code that they describe.
package docs_test

import (
	"errors"
	"fmt"
	"go/constant"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

// sentence is a line of testdata/numbers.txt: a text that a page must have, with the numbers of the code in it.
type sentence struct {
	page, text string
}

// sentences returns the lines of a file. A line "== page" begins those of a page, and # a comment.
func sentences(t *testing.T, path string) (list []sentence) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "== "); ok {
			page = name
			continue
		}
		if line != "" && !strings.HasPrefix(line, "#") && !definition.MatchString(line) {
			list = append(list, sentence{page: page, text: line})
		}
	}
	return list
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(kubetest.Root(), path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	// placeholder is a number: {where unit}, where is a constant (dir.Name), a file and a pattern with one group, or an
	// expression of defined names.
	placeholder = regexp.MustCompile(`\{(=[^{} ]+|[^{} ]+ /[^{}]+/|[^{} ]+\.\w+)( [^ {}]+)?\}`)
	// ofFile is the second kind of where.
	ofFile = regexp.MustCompile(`^(\S+) /(.*)/$`)
	// definition is a line that gives a number a name.
	definition = regexp.MustCompile(`^let (\w+) = (.*)$`)
)

// units are what a number may be divided by. The last are for numbers of seconds, as Prometheus has them.
var units = map[string]string{
	"ms":              "time.Millisecond",
	"s":               "time.Second",
	"min":             "time.Minute",
	"h":               "time.Hour",
	"days":            "24 * time.Hour",
	"KiB":             "1 << 10",
	"MiB":             "1 << 20",
	"GiB":             "1 << 30",
	"seconds/minutes": "60",
	"seconds/hours":   "3600",
	"seconds/days":    "86400",
}

var words = strings.Fields("no one two three four five six seven eight nine ten eleven twelve")

// number returns a number of the code as a page writes it: in a unit, as the percentage of a share ("%"), with commas
// (","), or as a word ("word"). A unit and a form are separated by a colon.
func (c *code) number(where, unit string) (string, error) {
	value, err := c.value(where)
	if err != nil {
		return "", err
	}
	unit, form, _ := strings.Cut(unit, ":")
	divisor, known := units[unit]
	switch {
	case known:
		by, err := c.expression(divisor)
		if err != nil {
			return "", err
		}
		value = constant.BinaryOp(constant.ToFloat(value), token.QUO, constant.ToFloat(by))
	case unit == "%":
		value = constant.BinaryOp(value, token.MUL, constant.MakeInt64(100))
	case unit == "," || unit == "word":
		form = unit
	case unit != "":
		return "", fmt.Errorf("%q is not a unit", unit)
	}
	return written(value, form)
}

// written returns a number in a form.
func written(value constant.Value, form string) (string, error) {
	whole := constant.ToInt(value)
	if whole.Kind() != constant.Int {
		decimal, _ := constant.Float64Val(value)
		return strconv.FormatFloat(decimal, 'f', -1, 64), nil
	}
	n, _ := constant.Int64Val(whole)
	switch {
	case form == "word" && n >= 0 && int(n) < len(words):
		return words[n], nil
	case form == ",":
		return commas(n), nil
	case form != "":
		return "", fmt.Errorf("%d cannot be written as %q", n, form)
	}
	return strconv.FormatInt(n, 10), nil
}

// commas writes a number with a comma before each three digits.
func commas(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// value returns the value of a constant, of an expression, or of the text that a pattern finds in a file.
func (c *code) value(where string) (constant.Value, error) {
	if expression, ok := strings.CutPrefix(where, "="); ok {
		return c.expression(expression)
	}
	m := ofFile.FindStringSubmatch(where)
	if m == nil {
		return c.constant(where)
	}
	pattern, err := regexp.Compile("(?m)" + m[2])
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(kubetest.Root(), m[1]))
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, groups := range pattern.FindAllSubmatch(text, -1) {
		found[string(groups[len(groups)-1])] = true
	}
	if len(found) != 1 || pattern.NumSubexp() != 1 {
		return nil, fmt.Errorf("%s has %d values of the pattern %s, want one, by one group", m[1], len(found), m[2])
	}
	for only := range found {
		return c.expression(only)
	}
	return nil, nil
}

// rendered returns a sentence with its numbers.
func (c *code) rendered(text string) (string, error) {
	var failed error
	text = placeholder.ReplaceAllStringFunc(text, func(p string) string {
		m := placeholder.FindStringSubmatch(p)
		number, err := c.number(m[1], strings.TrimSpace(m[2]))
		failed = errors.Join(failed, err)
		return number
	})
	return text, failed
}

// flat returns a page as one line, without the marks of comments and of lists.
func flat(page string) string {
	var lines []string
	for line := range strings.Lines(page) {
		lines = append(lines, strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#")))
	}
	return strings.Join(strings.Fields(strings.Join(lines, " ")), " ")
}

// defined returns the code with the names that testdata/numbers.txt defines.
func defined(t *testing.T) *code {
	t.Helper()
	c := newCode()
	for line := range strings.Lines(read(t, "test/docs/testdata/numbers.txt")) {
		m := definition.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		value, err := c.value(m[2])
		if err != nil {
			t.Errorf("testdata/numbers.txt: %s: %v", line, err)
			continue
		}
		c.names[m[1]] = value
	}
	return c
}

// TestNumbers checks that the pages have the numbers that the code has.
func TestNumbers(t *testing.T) {
	c := defined(t)
	pages := map[string]string{}
	for _, s := range sentences(t, "testdata/numbers.txt") {
		if pages[s.page] == "" {
			pages[s.page] = flat(read(t, s.page))
		}
		want, err := c.rendered(s.text)
		switch {
		case err != nil:
			t.Errorf("testdata/numbers.txt: %s\n%v", s.text, err)
		case !placeholder.MatchString(s.text):
			t.Errorf("testdata/numbers.txt: no number in %q", s.text)
		case !strings.Contains(pages[s.page], want):
			t.Errorf("%s does not say: %s", s.page, want)
		}
	}
}

const handshakes = "share of the handshakes of one tenant, and of its second connections to agents"

// unchecked are the rows of the table of bounds that have no number of the code.
var unchecked = map[string]string{
	"phone numbers, source hosts of a Tenant": "TestCeilingsAreDocumented compares them",
	handshakes:                             "a fraction",
	"hashes of passwords at once":          "a fraction",
	"checksum of a bucket found out again": "once a day",
}

// TestBoundsAreCompared checks that testdata/numbers.txt has each row of the table of bounds.
func TestBoundsAreCompared(t *testing.T) {
	_, table, found := strings.Cut(read(t, "docs/reference.md"), "\n## Numbers and bounds\n")
	if !found {
		t.Fatal("docs/reference.md has no table of bounds")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	compared := map[string]bool{}
	for _, s := range sentences(t, "testdata/numbers.txt") {
		if cells := strings.Split(s.text, "|"); len(cells) > 2 {
			compared[strings.TrimSpace(cells[1])] = true
		}
	}
	rows := 0
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		if len(cells) != 5 || strings.Contains(row, "| --- |") || strings.Contains(row, "| what |") {
			continue
		}
		rows++
		what := strings.TrimSpace(cells[1])
		if !compared[what] && unchecked[what] == "" {
			t.Errorf("testdata/numbers.txt does not have this row, which nothing compares with the code: %s", row)
		}
	}
	if rows < 50 {
		t.Errorf("only %d rows", rows)
	}
}
