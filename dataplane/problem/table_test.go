package problem

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// constants are the codes that the package declares.
func constants(t *testing.T) []Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []Code
	ast.Inspect(file, func(n ast.Node) bool {
		valueSpec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := valueSpec.Type.(*ast.Ident); ok && kind.Name == "Code" {
			value, err := strconv.Unquote(valueSpec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, Code(value))
		}
		return true
	})
	return all
}

// TestTable verifies that the set of codes is closed, and that each code has a complete row.
func TestTable(t *testing.T) {
	want := map[Code][]int{
		"validation":             {400},
		"authentication":         {401},
		"invalid_token":          {401},
		"forbidden":              {403},
		"not_found":              {404, 405},
		"conflict":               {409},
		"rate_limited":           {429},
		"payload_too_large":      {413},
		"unsupported_media_type": {415},
		"invalid_signature":      {401, 403},
		"upstream_failure":       {502},
		"timeout":                {504, 408},
		"unavailable":            {503},
		"database":               {503},
		"internal":               {500},
	}
	got := map[Code][]int{}
	order := []Code{}
	for _, r := range Table() {
		got[r.Code], order = r.Statuses(), append(order, r.Code)
		if address, err := url.Parse(r.Type()); err != nil || !address.IsAbs() ||
			!strings.HasSuffix(address.Path, "/"+string(r.Code)) {
			t.Errorf("%s: the type %s is not a URI of its own", r.Code, r.Type())
		}
		if r.Title == "" || r.Means == "" || r.Do == "" || strings.HasSuffix(r.Do, ".") ||
			strings.ContainsAny(r.Means+r.Do, "|\n") {
			t.Errorf("%s: its row is not whole, or breaks the table: %+v", r.Code, r)
		}
	}
	if d := cmp.Diff(want, got); d != "" || len(order) != 15 {
		t.Errorf("%d codes (-want +got):\n%s", len(order), d)
	}
	if d := cmp.Diff(constants(t), order); d != "" {
		t.Errorf("constants and rows differ (-constants +rows):\n%s", d)
	}
}

func TestOf(t *testing.T) {
	if row := Of("made_up"); row.Code != Internal || New("made_up", "").Status != 500 {
		t.Errorf("a code outside the set is %+v", row)
	}
	Table()[0].Title = "changed"
	if Of(Validation).Title == "changed" {
		t.Error("the table can be changed from outside")
	}
}

func TestMarkdown(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(markdown(), "\n"), "\n")
	if len(lines) != 17 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, line := range lines {
		if strings.Count(line, "|") != 5 {
			t.Errorf("%d columns: %s", strings.Count(line, "|")-1, line)
		}
	}
	want := "| <a id=\"problem-timeout\"></a>`timeout` | 504, 408 |" +
		" the answer was not ready in time, or (408) the body did not arrive in time | retry with exponential backoff |"
	if lines[13] != want {
		t.Errorf("got  %s\nwant %s", lines[13], want)
	}
}
