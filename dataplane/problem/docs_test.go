package problem

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the table of the codes into the documentation")

// TestDocumentation : the page has the table as it is here.
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
	want := "\n" + Markdown() + "\n"
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
