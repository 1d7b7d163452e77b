// Command shape prints figures of the code's form: how dense its lines are, how long its functions, how much of it has
// a doc comment. It reads the Go files that git knows, without those that are generated.
//
//	go run ./hack/shape
//	go run ./hack/shape -list names        # the exported names that no selector names
//	go run ./hack/shape -list assignments  # the parallel assignments
package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

func main() {
	list := flag.String("list", "", "`what` to list instead of the figures: names or assignments")
	flag.Parse()
	if *list != "" && *list != "names" && *list != "assignments" {
		fmt.Fprintf(os.Stderr, "shape: -list %q: use names or assignments\n", *list)
		os.Exit(2)
	}
	out, err := exec.Command("git", "ls-files", "*.go").Output()
	if err != nil {
		fmt.Fprintln(os.Stderr, "shape: git ls-files:", err)
		os.Exit(1)
	}
	shape := newShape()
	for _, path := range strings.Fields(string(out)) {
		if generated(path) {
			continue
		}
		source, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err == nil {
			err = shape.add(path, source)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "shape:", err)
			os.Exit(1)
		}
	}
	switch *list {
	case "names":
		printLines(shape.unused())
	case "assignments":
		printLines(shape.parallel)
	default:
		fmt.Print(shape)
	}
}

func printLines(lines []string) {
	for _, line := range lines {
		fmt.Println(line)
	}
}

func generated(path string) bool {
	return strings.Contains(path, "zz_generated") || strings.Contains(path, "applyconfiguration") ||
		strings.Contains(path, "/testdata/") || strings.Contains(path, "zxcvbn")
}

// share counts things, and those of them that are not as they should be.
type share struct{ some, all int }

func (s *share) add(is bool) {
	s.all++
	if is {
		s.some++
	}
}

func (s *share) String() string {
	return fmt.Sprintf("%.1f %% (%d of %d)", 100*float64(s.some)/float64(max(s.all, 1)), s.some, s.all)
}

// shape is what was counted. Figures of functions and names are those of production code alone.
type shape struct {
	longLines, tooLongLines            share
	denseLiterals, shortLocals         share
	parallelAssignments, undocumented  share
	manyParameters, longestParameters  int
	lengths                            []int
	exported                           map[string]string // names, by directory and name
	places                             map[string]string // where each of them stands
	selected                           map[string]bool   // names that some package selects of another, by name
	parallel                           []string          // where each parallel assignment stands
	longestFunction, mostParametersOne string
}

func newShape() *shape {
	return &shape{
		exported: map[string]string{},
		places:   map[string]string{},
		selected: map[string]bool{},
	}
}

// add counts one file.
func (s *shape) add(path string, source []byte) error {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, parser.ParseComments)
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(source), "\n"), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "// +kubebuilder:") {
			continue // controller-gen reads a marker from one line only
		}
		n := columns(line)
		s.longLines.add(n > 120)
		s.tooLongLines.add(n > 140)
	}
	v := &visitor{shape: s, files: files, path: path, production: !strings.HasSuffix(path, "_test.go")}
	ast.Inspect(file, v.visit)
	return nil
}

// columns is a line's width with tabs of four columns.
func columns(line string) int {
	return utf8.RuneCountInString(line) + 3*strings.Count(line, "\t")
}

type visitor struct {
	*shape
	files      *token.FileSet
	path       string
	production bool
}

func (v *visitor) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.FuncDecl:
		v.function(n)
	case *ast.CompositeLit:
		v.literal(n)
	case *ast.AssignStmt:
		v.assignment(n)
	case *ast.SelectorExpr:
		v.selected[n.Sel.Name] = true
	case *ast.GenDecl:
		v.declaration(n)
	}
	return true
}

func (v *visitor) line(p token.Pos) int { return v.files.Position(p).Line }

// place returns the path and the line of p.
func (v *visitor) place(p token.Pos) string { return fmt.Sprintf("%s:%d", v.path, v.line(p)) }

func (v *visitor) function(f *ast.FuncDecl) {
	if !v.production {
		return
	}
	v.export(f.Name)
	v.undocumented.add(f.Doc == nil)
	if f.Body != nil {
		n := v.line(f.Body.Rbrace) - v.line(f.Pos()) + 1
		if len(v.lengths) == 0 || n > slices.Max(v.lengths) {
			v.longestFunction = v.path + ":" + f.Name.Name
		}
		v.lengths = append(v.lengths, n)
	}
	parameters := f.Type.Params.NumFields()
	if parameters > 5 {
		v.manyParameters++
	}
	if parameters > v.longestParameters {
		v.longestParameters = parameters
		v.mostParametersOne = v.path + ":" + f.Name.Name
	}
}

// literal counts literals over several lines, and those that have more than one key on a line.
func (v *visitor) literal(c *ast.CompositeLit) {
	if v.line(c.Lbrace) == v.line(c.Rbrace) || len(c.Elts) < 2 {
		return
	}
	if _, keyed := c.Elts[0].(*ast.KeyValueExpr); !keyed {
		return
	}
	dense := false
	for i := range c.Elts[1:] {
		dense = dense || v.line(c.Elts[i].Pos()) == v.line(c.Elts[i+1].Pos())
	}
	v.denseLiterals.add(dense)
}

// usual are names of one letter that Go's readers know: indices, and those of tests.
var usual = map[string]bool{"i": true, "j": true, "k": true, "t": true, "b": true}

// assignment counts local names of one letter, and statements that assign several unrelated values.
func (v *visitor) assignment(a *ast.AssignStmt) {
	if a.Tok == token.DEFINE {
		for _, left := range a.Lhs {
			if name, ok := left.(*ast.Ident); ok && name.Name != "_" {
				v.shortLocals.add(len(name.Name) == 1 && !usual[name.Name])
			}
		}
	}
	parallel := len(a.Lhs) > 1 && len(a.Rhs) == len(a.Lhs)
	v.parallelAssignments.add(parallel)
	if parallel {
		v.parallel = append(v.parallel, v.place(a.Pos()))
	}
}

func (v *visitor) declaration(d *ast.GenDecl) {
	if !v.production {
		return
	}
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			v.export(spec.Name)
		case *ast.ValueSpec:
			for _, name := range spec.Names {
				v.export(name)
			}
		}
	}
}

func (v *visitor) export(name *ast.Ident) {
	if name.IsExported() {
		key := filepath.Dir(v.path) + "." + name.Name
		v.exported[key] = name.Name
		v.places[key] = v.place(name.Pos())
	}
}

// unused returns the exported names that nothing selects, each with its place. Methods that serve an interface are
// among them.
func (s *shape) unused() []string {
	var names []string
	for key, name := range s.exported {
		if !s.selected[name] {
			names = append(names, s.places[key]+": "+name)
		}
	}
	slices.Sort(names)
	return names
}

func (s *shape) String() string {
	slices.Sort(s.lengths)
	at := func(q float64) int {
		if len(s.lengths) == 0 {
			return 0
		}
		return s.lengths[min(int(q*float64(len(s.lengths))), len(s.lengths)-1)]
	}
	unused := fmt.Sprintf("%d of %d", len(s.unused()), len(s.exported))
	rows := [][3]string{
		{"lines over 120 columns", s.longLines.String(), "under 1 %"},
		{"lines over 140 columns", s.tooLongLines.String(), "0"},
		{"keyed literals with several keys on a line", s.denseLiterals.String(), "0"},
		{"one-letter locals", s.shortLocals.String(), "under 8 %"},
		{"parallel assignments", s.parallelAssignments.String(), "under 1 %"},
		{"production functions without a doc comment", s.undocumented.String(), "under 20 %"},
		{"exported names that no selector names", unused, "under 60"},
		{"production functions with over five parameters", fmt.Sprintf("%d, at most %d (%s)", s.manyParameters,
			s.longestParameters, s.mostParametersOne), "0"},
		{"lines of a function: median, p90, max", fmt.Sprintf("%d, %d, %d (%s)", at(0.5), at(0.9), at(1),
			s.longestFunction), "12, 30, 80"},
	}
	var b strings.Builder
	b.WriteString("| measure | now | aim |\n| --- | --- | --- |\n")
	for _, r := range rows {
		_, _ = fmt.Fprintf(&b, "| %s | %s | %s |\n", r[0], r[1], r[2])
	}
	return b.String()
}
