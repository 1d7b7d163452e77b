package problem

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the table of the codes into the documentation")

// TestDocumentation verifies that the documentation page has the current table.
func TestDocumentation(t *testing.T) {
	const (
		file  = "../../docs/api.md"
		begin = "<!-- problems: written by go test ./dataplane/problem -update -->\n"
		end   = "<!-- end of problems -->"
	)
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), begin)
	have, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has not the two comments that the table stands between", file)
	}
	want := "\n" + markdown() + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("%s is stale: go test ./dataplane/problem -update (-want +got):\n%s", file, d)
	}
}

// markdown is the reference's table of the codes.
func markdown() string {
	var b strings.Builder
	b.WriteString("| code | status | when | what to do |\n| --- | --- | --- | --- |\n")
	for _, r := range table {
		var statuses []string
		for _, s := range r.Statuses() {
			statuses = append(statuses, strconv.Itoa(s))
		}
		_, _ = fmt.Fprintf(
			&b,
			"| <a id=%q></a>`%s` | %s | %s | %s |\n",
			r.Anchor(),
			r.Code,
			strings.Join(statuses, ", "),
			r.Means,
			r.Do,
		)
	}
	return b.String()
}
