package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/problem"
)

// TestFieldPath verifies that a location of huma becomes a JSON pointer or the name of a parameter, as the document
// promises.
func TestFieldPath(t *testing.T) {
	for location, want := range map[string]string{
		"body":                             "",
		"body.name":                        "/name",
		"body.items[3].tags":               "/items/3/tags",
		"body.items[3].tags[0]":            "/items/3/tags/0",
		"body[2].name":                     "/2/name",
		"body[2]":                          "/2",
		"body.a/b.c~d":                     "/a~1b/c~0d",
		"body.a\x1bb":                      "/ab",
		"query.limit":                      "limit",
		"path.id":                          "id",
		"header.X-Y":                       "X-Y",
		"query":                            "",
		"":                                 "",
		"body." + strings.Repeat("x", 500): "/" + strings.Repeat("x", maxDevice-1),
	} {
		if got := fieldPath(location); got != want {
			t.Errorf("%q: %q, want %q", location, got, want)
		}
	}
}

// TestFromHuma verifies that each error of huma becomes a code of ours, and that no value of the request is passed on.
func TestFromHuma(t *testing.T) {
	secret := errors.New("canary")
	detail := func(location, message string) error {
		return &huma.ErrorDetail{Location: location, Message: message, Value: "canary"}
	}
	for name, tc := range map[string]struct {
		status int
		errs   []error
		want   problem.Code
		fields []problem.FieldError
	}{
		"not valid": {422, []error{detail("body.a", "expected string")}, problem.Validation, []problem.FieldError{{
			Path:    "/a",
			Message: "expected string",
		}}},
		"missing, inside": {422, []error{detail("body.a[0]", "expected required property b to be present")},
			problem.Validation,
			[]problem.FieldError{{Path: "/a/0/b", Message: "required, and missing"}}},
		"missing, as a whole": {400, nil, problem.Validation, nil},
		"a parser's error": {422, []error{detail("query.q", "expected string to be RFC 3986 uri: parse canary")},
			problem.Validation,
			[]problem.FieldError{{Path: "q", Message: "expected string to be RFC 3986 uri"}}},
		"a type's own": {422, []error{detail("query.q", "invalid value: canary")}, problem.Validation,
			[]problem.FieldError{{
				Path:    "q",
				Message: "invalid value",
			}}},
		"a resolver's": {
			422,
			[]error{errors.New("both or neither")},
			problem.Validation,
			[]problem.FieldError{{Message: "both or neither"}},
		},
		"huma is at its end":  {500, []error{secret}, problem.Internal, nil},
		"a status of nowhere": {418, []error{secret}, problem.Internal, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := fromHuma(tc.status, "validation failed", tc.errs)
			if d := cmp.Diff(
				tc.fields, p.Fields,
			); d != "" || p.Code != tc.want || p.Status != problem.Of(tc.want).Status ||
				strings.Contains(p.Detail, "canary") {
				t.Errorf("%+v (-want +got):\n%s", p, d)
			}
		})
	}
}

// TestUnmarshal verifies that unmarshal rejects bodies that the schema accepts by mistake. Its errors quote no value.
func TestUnmarshal(t *testing.T) {
	for name, tc := range map[string]struct{ body, want string }{
		"good":              {`{"name":"a","children":[{"name":"b"}]}`, ""},
		"an unknown name":   {`{"name":"a","canary":1}`, "it has an unknown member"},
		"another case":      {`{"Name":"a"}`, "it has an unknown member"},
		"another type":      {`{"name":"a","children":"canary"}`, `what is at "/children" does not fit`},
		"far inside":        {`{"name":"a","children":[{"name":7}]}`, `what is at "/children/0/name" does not fit`},
		"no JSON after all": {`{"name":canary`, "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			v := tree{}
			if err := unmarshal([]byte(tc.body), &v); err != nil {
				got = err.Error()
			}
			if got != tc.want || tc.want == "" && v.Children[0].Name != "b" {
				t.Errorf("got %q, want %q: %+v", got, tc.want, v)
			}
		})
	}
}

// tree is a type that holds itself.
type tree struct {
	Name     string `json:"name"`
	Children []tree `json:"children,omitempty"`
}

// TestPageOfRecursiveTypes ends.
func TestPageOfRecursiveTypes(t *testing.T) {
	api := New(Options{})
	Register(api, Operation{
		Method:  http.MethodPut,
		Path:    "/api/tree",
		ID:      "putTree",
		Tag:     "t",
		Summary: "Put a tree",
		Access:  SignedIn,
	},
		func(context.Context, *struct{ Body tree }) (*struct{ Body []tree }, error) {
			return nil, errors.New("never")
		})
	page := string(api.Page())
	if !strings.Contains(page, "<code>children[].children[].name</code>") ||
		!strings.Contains(page, "<code>[].children[].name</code>") ||
		len(page) > 1<<20 {
		t.Errorf("the page has %d bytes: %s", len(page), page)
	}
}
