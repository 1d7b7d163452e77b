package docs_test

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"strings"

	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

const module = "github.com/caly-dev/caly/"

// code type-checks the declarations of Caly's packages, to read their constants: those that are not exported too.
type code struct {
	files    *token.FileSet
	standard types.Importer
	packages map[string]*types.Package
	names    map[string]constant.Value // of expressions
}

func newCode() *code {
	files := token.NewFileSet()
	return &code{
		files:    files,
		standard: importer.ForCompiler(files, "source", nil),
		packages: map[string]*types.Package{},
		names:    map[string]constant.Value{},
	}
}

// Import implements types.Importer. A package of another module is empty: no bound of Caly's depends on one.
func (c *code) Import(path string) (*types.Package, error) {
	if p := c.packages[path]; p != nil {
		return p, nil
	}
	var p *types.Package
	dir, ours := strings.CutPrefix(path, module)
	switch {
	case ours:
		c.packages[path] = types.NewPackage(path, "incomplete") // until it is checked
		p = c.check(path, filepath.Join(kubetest.Root(), dir))
	case path == "time" || path == "math":
		var err error
		if p, err = c.standard.Import(path); err != nil {
			return nil, err
		}
	default:
		p = types.NewPackage(path, filepath.Base(path))
		p.MarkComplete()
	}
	c.packages[path] = p
	return p, nil
}

// check returns a package with its declarations. What it takes from packages of other modules has errors, which do not
// concern the constants.
func (c *code) check(path, dir string) *types.Package {
	var syntax []*ast.File
	found, err := build.ImportDir(dir, 0)
	if err == nil {
		for _, name := range found.GoFiles {
			file, err := parser.ParseFile(c.files, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
			if err == nil {
				syntax = append(syntax, file)
			}
		}
	}
	config := types.Config{Importer: c, IgnoreFuncBodies: true, Error: func(error) {}}
	checked, _ := config.Check(path, c.files, syntax, nil)
	return checked
}

// constant returns the value of a constant by its directory and name, such as "internal/store.MaxSessions".
func (c *code) constant(name string) (constant.Value, error) {
	dir, name, _ := strings.Cut(name, ".")
	p, err := c.Import(module + dir)
	if err != nil {
		return nil, err
	}
	object, ok := p.Scope().Lookup(name).(*types.Const)
	if !ok || object.Val().Kind() == constant.Unknown {
		return nil, fmt.Errorf("package %s has no constant %s", dir, name)
	}
	return object.Val(), nil
}

// expression returns the value of a Go expression of constants, which may name package time and the defined names.
func (c *code) expression(text string) (constant.Value, error) {
	p := types.NewPackage("expression", "expression")
	standard, err := c.Import("time")
	if err != nil {
		return nil, err
	}
	p.Scope().Insert(types.NewPkgName(token.NoPos, p, "time", standard))
	for name, value := range c.names {
		kind := types.Typ[types.UntypedInt]
		if value.Kind() == constant.Float {
			kind = types.Typ[types.UntypedFloat]
		}
		p.Scope().Insert(types.NewConst(token.NoPos, p, name, kind, value))
	}
	value, err := types.Eval(c.files, p, token.NoPos, text)
	if err != nil || value.Value == nil {
		return nil, fmt.Errorf("%q is not a constant: %w", text, err)
	}
	return value.Value, nil
}
