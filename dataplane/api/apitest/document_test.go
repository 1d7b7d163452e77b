package apitest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const goodDocument = `{"openapi":"3.1.0","tags":[{"name":"t"}],"paths":{"/a/{id}":{"get":{"operationId":"one","summary":"s","tags":["t"],
"security":[{"bearer":[]}],"parameters":[{"name":"id","in":"path","schema":{}}],"responses":{"200":{"description":"d"},
"400":{"$ref":"#/components/responses/p"},"401":{"$ref":"#/components/responses/p"},"500":{"$ref":"#/components/responses/p"},
"503":{"$ref":"#/components/responses/p"},"504":{"$ref":"#/components/responses/p"}}}}},
"components":{"responses":{"p":{"description":"d","content":{"application/problem+json":{}}}},"securitySchemes":{"bearer":{}}}}`

// TestFaults verifies that each rule reports the fault that it looks for.
func TestFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		replace, with string
		want          []string
	}{
		"good":            {"", "", nil},
		"another version": {`"3.1.0"`, `"3.0.3"`, []string{`it is of version "3.0.3"`}},
		"no id": {
			`"operationId":"one",`,
			``,
			[]string{`GET /a/{id} has no operationId of its own: ""`},
		},
		"no summary": {`"summary":"s",`, ``, []string{"GET /a/{id} has no summary"}},
		"a tag of nowhere": {
			`"tags":["t"]`,
			`"tags":["u"]`,
			[]string{"GET /a/{id} has the tag u, which is not declared"},
		},
		"no tag": {`"tags":["t"]`, `"tags":[]`, []string{"GET /a/{id} has no tag"}},
		"no security": {
			`"security":[{"bearer":[]}],`,
			``,
			[]string{"GET /a/{id} does not say who may call it"},
		},
		"a scheme of nowhere": {
			`[{"bearer":[]}]`,
			`[{"other":[]}]`,
			[]string{"GET /a/{id} wants the security scheme other, which is not declared"},
		},
		"no 401":     {`"401"`, `"403"`, []string{"GET /a/{id} wants a token and has no 401"}},
		"no 503":     {`"503"`, `"502"`, []string{"GET /a/{id} has no response 503"}},
		"no success": {`"200"`, `"300"`, []string{"GET /a/{id} never succeeds"}},
		"another path parameter": {
			`"name":"id"`,
			`"name":"ip"`,
			[]string{"GET /a/{id} declares the path parameters [ip]"},
		},
		"no schema": {
			`"in":"path","schema":{}`,
			`"in":"path"`,
			[]string{"GET /a/{id} has the parameter id without a schema"},
		},
		"no description": {
			`"200":{"description":"d"}`,
			`"200":{}`,
			[]string{"GET /a/{id} has the response 200 without a description"},
		},
		"an error of its own": {
			`"400":{"$ref":"#/components/responses/p"}`,
			`"400":{"description":"d"}`,
			[]string{"GET /a/{id} has the response 400, which is not a problem"},
		},
		"no paths": {`"paths"`, `"pahts"`, []string{"it has no paths"}},
		"no JSON":  {`{"openapi"`, `"openapi"`, []string{"it is not JSON"}},
		"an id twice": {`"paths":{`,
			`"paths":{"/b":{"get":{"operationId":"one","summary":"s","tags":["t"],"security":[],` +
				`"responses":{"200":{"description":"d"},` +
				`"400":{"$ref":"#/components/responses/p"},"500":{"$ref":"#/components/responses/p"},` +
				`"503":{"$ref":"#/components/responses/p"},` +
				`"504":{"$ref":"#/components/responses/p"}}}},`, []string{`has no operationId of its own: "one"`}},
		"a reference to nothing": {`"200":{"description":"d"}`,
			`"200":{"description":"d","content":{"a":{"schema":{"$ref":"#/components/schemas/x"}}}}`,
			[]string{"#/paths//a/{id}/get/responses/200/content/a/schema refers to #/components/schemas/x, which is " +
				"not there"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Faults([]byte(strings.Replace(goodDocument, tc.replace, tc.with, 1)))
			if len(got) == len(tc.want) { // those that name a parser's error, or either of two, end as they do
				for i := range got {
					if strings.Contains(got[i], tc.want[i]) {
						got[i] = tc.want[i]
					}
				}
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
