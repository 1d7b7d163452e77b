package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
)

// logMethods are those of slog and logr that take keys and values after a message.
var logMethods = []string{
	"Debug", "Info", "Warn", "Error", "DebugContext", "InfoContext", "WarnContext", "ErrorContext", "Log",
}

// pairUp puts each key of a log line on one line with its value, if the call has them on several. It returns nil if
// nothing changes.
func pairUp(source []byte) ([]byte, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "", source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	p := &pairer{splitter: splitter{set: set, source: source}, comments: file.Comments}
	ast.Inspect(file, p.visit)
	return p.changed, nil
}

type pairer struct {
	splitter
	comments []*ast.CommentGroup
	// changed is the source with the first call changed; nil before there is one.
	changed []byte
}

// visit changes the first call that needs it.
func (p *pairer) visit(n ast.Node) bool {
	if p.changed != nil {
		return false
	}
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return true
	}
	if keys := firstKey(call); keys > 0 && p.parted(call, keys) && !p.commented(call) {
		p.changed = p.call(call, keys)
	}
	return p.changed == nil
}

// firstKey returns the index of a log call's first key, after its message; 0 if it is not a log call with keys.
func firstKey(call *ast.CallExpr) int {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains(logMethods, method.Sel.Name) {
		return 0
	}
	first := 0
	for i := len(call.Args) - 2; i > 0; i -= 2 {
		key, ok := call.Args[i].(*ast.BasicLit)
		if !ok || key.Kind != token.STRING || strings.Contains(key.Value, " ") {
			break
		}
		first = i
	}
	return first
}

// parted reports whether a key and its value begin on different lines.
func (p *pairer) parted(call *ast.CallExpr, first int) bool {
	for i := first; i < len(call.Args); i += 2 {
		if p.line(call.Args[i].Pos()) != p.line(call.Args[i+1].Pos()) {
			return true
		}
	}
	return false
}

// commented reports whether there is a comment between the arguments of a call. Such a call is left as it is.
func (p *pairer) commented(call *ast.CallExpr) bool {
	return slices.ContainsFunc(p.comments, func(c *ast.CommentGroup) bool {
		return call.Lparen < c.Pos() && c.Pos() < call.Rparen
	})
}

// call returns the source with a call changed: what is before its keys on the first line, then one pair a line. It
// returns nil if a line would be too long.
func (p *pairer) call(call *ast.CallExpr, first int) []byte {
	begin := p.offset(call.Lparen) + 1
	indent := p.indent(begin)
	var out bytes.Buffer
	out.Write(p.source[:begin])
	for i, arg := range call.Args {
		switch {
		case i >= first && (i-first)%2 == 0:
			out.WriteString(",\n" + indent + "\t")
		case i > 0:
			out.WriteString(", ")
		}
		out.Write(p.source[p.offset(arg.Pos()):p.offset(arg.End())])
	}
	if call.Ellipsis.IsValid() {
		return nil
	}
	out.WriteString(",\n" + indent)
	end := out.Len()
	out.Write(p.source[p.offset(call.Rparen):])
	start := bytes.LastIndexByte(p.source[:begin], '\n') + 1
	for line := range bytes.Lines(out.Bytes()[start:end]) {
		if width(bytes.TrimSuffix(line, []byte("\n"))) > maxColumns {
			return nil
		}
	}
	return out.Bytes()
}

// indent returns the blanks before the line of an offset.
func (p *pairer) indent(offset int) string {
	line := p.source[bytes.LastIndexByte(p.source[:offset], '\n')+1:]
	return string(line[:len(line)-len(bytes.TrimLeft(line, "\t"))])
}
