package api

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzCheckJSON checks that accepted JSON means the same to encoding/json, and is not deeper than the bound.
func FuzzCheckJSON(f *testing.F) {
	for _, s := range []string{`{"a":1}`, `[]`, `"a"`, `{"a":1,"a":2}`, `{"a":{"b":[{}]}} `, "{\"a\":\"\xff\"}",
		`{"a":"\ud800"}`, `1 2`, ``, `{`, `nul`,
		strings.Repeat("[", 17) + strings.Repeat("]", 17), `{"\u0061":1,"a":2}`, `{"a/b~c":[1,{"a":1,"a":1}]}`,
		"\ufeff1", `1e999`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		problem := checkJSON(body)
		if problem != nil {
			if len(problem.Fields) != 1 || len(problem.Fields[0].Path) > maxDevice ||
				!utf8.ValidString(problem.Fields[0].Path+problem.Fields[0].Message) {
				t.Errorf("refused with %+v", problem.Fields)
			}
			return
		}
		if !json.Valid(body) || !utf8.Valid(body) {
			t.Fatalf("%q passes", body)
		}
		var ours, theirs any
		if err := unmarshal(body, &ours); err != nil {
			return // a number beyond float64
		}
		if err := json.Unmarshal(body, &theirs); err != nil || depth(theirs) > maxDepth {
			t.Errorf("%q passes: %v, depth %d", body, err, depth(theirs))
		}
		a, errA := json.Marshal(ours)
		b, errB := json.Marshal(theirs)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%q is read as %s and as %s", body, a, b)
		}
	})
}

func depth(v any) int {
	deepest := -1
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			deepest = max(deepest, depth(member))
		}
	case []any:
		for _, member := range v {
			deepest = max(deepest, depth(member))
		}
	default:
		return 0
	}
	return max(deepest, 0) + 1
}

// FuzzCutTenant verifies that a path is cut only after /t/{namespace}/{tenant}/, and that the rest is a path.
func FuzzCutTenant(f *testing.F) {
	for _, s := range []string{
		"/t/a/b/api/x", "/t/a%2Fb/c/d", "/t//b/c", "/t/a/b", "/t/a/b/", "/t/a/b//x", "/t/%61/b/c%2Fd",
		"/api", "/t/a/b/%2e%2e/x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		address, err := url.ParseRequestURI(path)
		if err != nil || address.Scheme != "" || address.Host != "" {
			return
		}
		rest, id, ok := cutTenant(address)
		if !ok {
			if rest != address {
				t.Errorf("%q is not cut, and changed", path)
			}
			return
		}
		namespace, name, _ := strings.Cut(id, "/")
		if namespace == "" || name == "" || strings.Contains(name, "/") || "/t/"+id+rest.Path != address.Path ||
			!strings.HasPrefix(rest.EscapedPath(), "/") {
			t.Errorf("%q is cut into %q and %q", path, id, rest.EscapedPath())
		}
		if address.RawPath != "" && "/t/"+id+rest.RawPath != address.RawPath {
			t.Errorf("%q is cut into %q and %q", path, id, rest.RawPath)
		}
	})
}
