package main

import (
	"bytes"
	"go/ast"
	gofmt "go/format"
	"go/parser"
	"go/scanner"
	"go/token"
	"slices"
	"unicode/utf8"
)

// maxColumns is the longest line, with tabs of four columns.
const maxColumns = 120

// format returns the source with one key a line, log keys next to their values and arguments joined that fit on a line.
func format(source []byte) ([]byte, error) {
	for _, step := range []func([]byte) ([]byte, error){pairUp, split, join} {
		for {
			next, err := step(source)
			if err != nil {
				return nil, err
			}
			if next == nil {
				break
			}
			if source, err = gofmt.Source(next); err != nil {
				return nil, err
			}
		}
	}
	return source, nil
}

// split breaks the literals that can be seen to need it. Those within them may need it afterwards. It returns nil if
// none needs it.
func split(source []byte) ([]byte, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "", source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	s := &splitter{set: set, source: source, breaks: map[int]string{}}
	ast.Inspect(file, s.visit)
	if len(s.breaks) == 0 {
		return nil, nil //nolint:nilnil // nothing to do
	}
	return s.broken(), nil
}

type splitter struct {
	set    *token.FileSet
	source []byte
	// breaks are the texts to insert, by offset.
	breaks map[int]string
}

func (s *splitter) line(p token.Pos) int   { return s.set.PositionFor(p, false).Line }
func (s *splitter) offset(p token.Pos) int { return s.set.PositionFor(p, false).Offset }

// visit notes the breaks of a literal. It leaves what is within a broken line for the next time.
func (s *splitter) visit(n ast.Node) bool {
	literal, ok := n.(*ast.CompositeLit)
	if !ok || !keyed(literal) {
		return true
	}
	oneLine := s.line(literal.Lbrace) == s.line(literal.Rbrace)
	if oneLine && !s.tooLong(literal.Lbrace) {
		return true
	}
	before := len(s.breaks)
	s.literal(literal)
	return len(s.breaks) == before
}

// keyed reports whether each element has a key, which a line of its own makes easier to find.
func keyed(literal *ast.CompositeLit) bool {
	return len(literal.Elts) > 1 && !slices.ContainsFunc(literal.Elts, func(e ast.Expr) bool {
		_, pair := e.(*ast.KeyValueExpr)
		return !pair
	})
}

func (s *splitter) literal(literal *ast.CompositeLit) {
	end := literal.Lbrace
	for _, element := range literal.Elts {
		if s.line(end) == s.line(element.Pos()) {
			s.breaks[s.offset(element.Pos())] = "\n"
		}
		end = element.End()
	}
	if s.line(end) != s.line(literal.Rbrace) {
		return
	}
	if comma, found := s.comma(s.offset(end)); found {
		s.breaks[comma+1] = "\n"
	} else {
		s.breaks[s.offset(end)] = ",\n"
	}
}

// comma returns the offset of the comma after an element that ends at an offset. Blanks and comments may come before
// it.
func (s *splitter) comma(end int) (offset int, found bool) {
	rest := s.source[end:]
	file := token.NewFileSet().AddFile("", -1, len(rest))
	var tokens scanner.Scanner
	tokens.Init(file, rest, nil, 0)
	at, next, _ := tokens.Scan()
	return end + file.Offset(at), next == token.COMMA
}

// tooLong reports whether the line of a position is wider than maxColumns.
func (s *splitter) tooLong(p token.Pos) bool {
	at := s.offset(p)
	begin := bytes.LastIndexByte(s.source[:at], '\n') + 1
	line := s.source[begin:]
	if end := bytes.IndexByte(line, '\n'); end >= 0 {
		line = line[:end]
	}
	return width(line) > maxColumns
}

// width returns the number of a line's columns.
func width(line []byte) int { return utf8.RuneCount(line) + 3*bytes.Count(line, []byte("\t")) }

// broken returns the source with its breaks.
func (s *splitter) broken() []byte {
	var out bytes.Buffer
	for i, c := range s.source {
		out.WriteString(s.breaks[i])
		out.WriteByte(c)
	}
	return out.Bytes()
}
