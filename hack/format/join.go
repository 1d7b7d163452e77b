package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

// join joins the arguments of calls that were put on lines of their own: all with the call where that fits, else those
// between arguments of several lines. golines breaks every argument of a call if one must be broken. It returns nil if
// no call changes.
func join(source []byte) ([]byte, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "", source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	j := &joiner{splitter: splitter{set: set, source: source}}
	ast.Inspect(file, j.visit)
	if len(j.edits) == 0 {
		return nil, nil //nolint:nilnil // nothing to do
	}
	return j.joined(), nil
}

// edit replaces a part of the source.
type edit struct {
	from, to int // offsets
	text     string
}

type joiner struct {
	splitter
	edits []edit // in their order
	// last is the last line of the last joined call. What begins there may not fit any more, and is for the next time.
	last int
}

// visit joins a call. It leaves what is within a joined call for the next time.
func (j *joiner) visit(n ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok || !j.broken(call) || j.line(call.Pos()) <= j.last {
		return true
	}
	for _, edits := range [][]edit{j.withCall(call), j.grouped(call)} {
		if edits != nil && j.fits(call, edits) {
			j.edits = append(j.edits, edits...)
			j.last = j.line(call.Rparen)
			return false
		}
	}
	return true
}

// broken reports whether each argument and the closing parenthesis begin a line.
func (j *joiner) broken(call *ast.CallExpr) bool {
	if len(call.Args) == 0 {
		return false
	}
	end := call.Lparen
	for _, a := range call.Args {
		if j.line(a.Pos()) == j.line(end) {
			return false
		}
		end = a.End()
	}
	return j.line(call.Rparen) != j.line(end)
}

// withCall returns the edits that put the arguments on the line of the call. The last one may have several lines if it
// is a function or a literal, and a raw string anywhere.
func (j *joiner) withCall(call *ast.CallExpr) []edit {
	for i, a := range call.Args {
		if !j.oneLine(a) && !raw(a) && (i < len(call.Args)-1 || !bracketed(a)) {
			return nil
		}
	}
	last := call.Args[len(call.Args)-1]
	edits := j.between(call)
	if edits == nil {
		return nil
	}
	return append(append([]edit{{j.offset(call.Lparen) + 1, j.offset(call.Args[0].Pos()), ""}}, edits...),
		edit{j.offset(last.End()), j.offset(call.Rparen), ""})
}

// grouped returns the edits that put on one line the arguments between those of several lines, and nil if each has one
// already.
func (j *joiner) grouped(call *ast.CallExpr) []edit {
	edits := j.between(call)
	if edits == nil {
		return nil
	}
	var kept []edit
	for i, e := range edits {
		if j.oneLine(call.Args[i]) && j.oneLine(call.Args[i+1]) {
			kept = append(kept, e)
		}
	}
	return kept
}

func (j *joiner) oneLine(e ast.Expr) bool { return j.line(e.Pos()) == j.line(e.End()) }

// separators between arguments, and after the last one. A comment makes another text, which stays as it is.
var separator = regexp.MustCompile(`^,?\s*$`)

// between returns the edits of the separators between arguments, and nil where a comment stands anywhere in the list.
func (j *joiner) between(call *ast.CallExpr) []edit {
	edits := []edit{}
	end := call.Lparen + 1
	for i, a := range call.Args {
		from, to := j.offset(end), j.offset(a.Pos())
		if !separator.Match(j.source[from:to]) {
			return nil
		}
		if i > 0 {
			edits = append(edits, edit{from, to, ", "})
		}
		end = a.End()
	}
	if call.Ellipsis.IsValid() || !separator.Match(j.source[j.offset(end):j.offset(call.Rparen)]) {
		return nil
	}
	return edits
}

func raw(e ast.Expr) bool {
	literal, ok := e.(*ast.BasicLit)
	return ok && strings.HasPrefix(literal.Value, "`")
}

func bracketed(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.FuncLit, *ast.CompositeLit:
		return true
	case *ast.UnaryExpr:
		return e.Op == token.AND && bracketed(e.X)
	}
	return false
}

// alignment is the room for what gofmt may insert after the key of a literal.
const alignment = 16

// fits reports whether no line of the call is wider than maxColumns after the edits. golines would break it again.
func (j *joiner) fits(call *ast.CallExpr, edits []edit) bool {
	begin := bytes.LastIndexByte(j.source[:j.offset(call.Lparen)], '\n') + 1
	end := len(j.source)
	if i := bytes.IndexByte(j.source[j.offset(call.Rparen):], '\n'); i >= 0 {
		end = j.offset(call.Rparen) + i
	}
	inner := make([]edit, len(edits))
	for i, e := range edits {
		inner[i] = edit{e.from - begin, e.to - begin, e.text}
	}
	for line := range bytes.Lines(apply(j.source[begin:end], inner)) {
		columns := width(bytes.TrimSuffix(line, []byte("\n")))
		if key.Match(line) {
			columns += alignment
		}
		if columns > maxColumns {
			return false
		}
	}
	return true
}

// key matches a line that begins with the key of a literal.
var key = regexp.MustCompile(`^\t+\w+: `)

func (j *joiner) joined() []byte {
	slices.SortFunc(j.edits, func(a, b edit) int { return a.from - b.from })
	return apply(j.source, j.edits)
}

// apply returns a text after edits, which are in their order.
func apply(text []byte, edits []edit) []byte {
	var out bytes.Buffer
	at := 0
	for _, e := range edits {
		out.Write(text[at:e.from])
		out.WriteString(e.text)
		at = e.to
	}
	out.Write(text[at:])
	return out.Bytes()
}
