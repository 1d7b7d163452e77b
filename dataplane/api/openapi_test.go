package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/api/apitest"
	"github.com/caly-dev/caly/dataplane/problem"
)

func TestDocument(t *testing.T) {
	for _, mode := range []api.Mode{api.Production, api.Development} {
		rig := newRig(func(o *api.Options) { o.Mode = mode })
		if faults := apitest.Faults(rig.Document()); len(faults) > 0 {
			t.Errorf("%s:\n%s", mode, strings.Join(faults, "\n"))
		}
	}
	apitest.CheckFile(t, "testdata/openapi.json", newRig().Document())
}

// TestDocumentIsDeterministic verifies that the document depends neither on the order of registration nor on that of a
// map.
func TestDocumentIsDeterministic(t *testing.T) {
	build := func(ids ...string) []byte {
		rig := newRig()
		for _, id := range ids {
			api.Register(rig.API, api.Operation{
				Method:  http.MethodGet,
				Path:    "/api/" + id,
				ID:      id,
				Tag:     "tag of " + id,
				Access:  api.SignedIn,
				Summary: "Get",
				Errors:  []problem.Code{problem.Conflict, problem.NotFound},
			}, func(context.Context, *struct{}) (*struct{}, error) { return nil, nil }) //nolint:nilnil // 204
		}
		return rig.Document()
	}
	want := build("one", "two", "three")
	for range 5 {
		if got := build("three", "one", "two"); !bytes.Equal(got, want) {
			t.Fatalf("another document:\n%s", cmp.Diff(string(want), string(got)))
		}
	}
}

// TestErrorsOfOperations verifies which answers the document lists for an operation. They depend on its access and its
// input.
func TestErrorsOfOperations(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct {
				Ref string `json:"$ref"`
			}
		}
	}
	if err := json.Unmarshal(newRig().Document(), &doc); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		path, method string
		want         map[string]string
	}{
		"public with a body": {"/api/auth/things", "post", map[string]string{
			"201": "",
			"400": "400-validation",
			"403": "403-forbidden",
			"404": "404-not_found",
			"408": "408-timeout",
			"409": "409-conflict",
			"413": "413-payload_too_large",
			"415": "415-unsupported_media_type",
			"500": "500-internal",
			"503": "503-unavailable-database",
			"504": "504-timeout",
		}},
		"signed in": {"/api/things/{id}", "get", map[string]string{
			"200": "",
			"400": "400-validation",
			"401": "401-authentication-invalid_token",
			"429": "429-rate_limited",
			"500": "500-internal",
			"503": "503-unavailable-database",
			"504": "504-timeout",
		}},
		"for a role": {"/api/things/{id}", "delete", map[string]string{
			"204": "",
			"400": "400-validation",
			"401": "401-authentication-invalid_token",
			"403": "403-forbidden",
			"429": "429-rate_limited",
			"500": "500-internal",
			"503": "503-unavailable-database",
			"504": "504-timeout",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[string]string{}
			for status, r := range doc.Paths[tc.path][tc.method].Responses {
				got[status] = strings.TrimPrefix(r.Ref, "#/components/responses/")
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestStatic verifies that the document and the page need no tenant, may be cached, and are not sent again to a client
// that has them.
func TestStatic(t *testing.T) {
	rig := newRig()
	for path, kind := range map[string]string{
		"/openapi.json":        "application/json",
		"/docs":                "text/html; charset=utf-8",
		"/t/acme/support/docs": "text/html; charset=utf-8",
	} {
		first := rig.Send(request("GET", path))
		etag := first.Header.Get("ETag")
		if first.Status != 200 || first.Header.Get("Content-Type") != kind ||
			first.Header.Get("Cache-Control") != "public, max-age=300" ||
			etag == "" {
			t.Errorf("%s: %d %v", path, first.Status, first.Header)
		}
		if again := rig.Send(request("GET", path, "If-None-Match: "+etag)); again.Status != 304 || len(again.Body) > 0 {
			t.Errorf("%s again: %d, %d bytes", path, again.Status, len(again.Body))
		}
		if answer := rig.Send(request("POST", path)); answer.Status != 405 {
			t.Errorf("%s, posted: %d", path, answer.Status)
		}
	}
	if answer := rig.Send(request("GET", "/openapi.json")); !bytes.Equal(answer.Body, rig.Document()) {
		t.Error("what is served is not the document")
	}
}

// TestPage verifies that the page shows the whole document without a script, and that its policy permits no script.
func TestPage(t *testing.T) {
	rig := newRig()
	answer := rig.Send(request("GET", "/docs"))
	body := string(answer.Body)
	for _, want := range []string{"POST /api/auth/things", "Make a thing",
		"<p>With <code>code</code> and &lt;b&gt;.</p>", "parts[].size", "One of small, large.",
		"Length 2 to 20.", "thing.notes", "Value 1 to 100. Default 10.", `id="problem-invalid_token"`,
		`href="#problem-rate_limited"`, "For: admin. Answers 204."} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, row := range problem.Table() {
		if !strings.Contains(body, `id="`+row.Anchor()+`"`) {
			t.Errorf("the page lacks %s", row.Code)
		}
	}
	for _, never := range []string{"<script", "http://", "https://", "javascript:", " style=", " onclick", "zgotmplz"} {
		if i := strings.Index(strings.ToLower(body), never); i >= 0 {
			t.Errorf("the page has %q: %s", never, body[max(i-40, 0):min(i+40, len(body))])
		}
	}
	csp := answer.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(csp, "default-src 'none'; style-src 'sha256-") || strings.Contains(csp, "unsafe") ||
		strings.Contains(csp, "script-src") {
		t.Errorf("Content-Security-Policy: %s", csp)
	}
}

// TestRegisterRefuses what would be found out late.
func TestRegisterRefuses(t *testing.T) {
	whole := api.Operation{Method: "GET", Path: "/api/new", ID: "new", Tag: "t", Summary: "s", Access: api.SignedIn}
	for name, change := range map[string]func(*api.Operation){
		"no method":             func(o *api.Operation) { o.Method = "" },
		"no id":                 func(o *api.Operation) { o.ID = "" },
		"no summary":            func(o *api.Operation) { o.Summary = "" },
		"no tag":                func(o *api.Operation) { o.Tag = "" },
		"a path outside":        func(o *api.Operation) { o.Path = "/new" },
		"a slash at the end":    func(o *api.Operation) { o.Path = "/api/new/" },
		"another's id":          func(o *api.Operation) { o.ID = "who" },
		"another's path":        func(o *api.Operation) { o.Path = "/api/auth/who" },
		"a code out of nowhere": func(o *api.Operation) { o.Errors = []problem.Code{"made_up"} },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("it was taken")
				}
			}()
			op := whole
			change(&op)
			api.Register(
				newRig().API, op, func(context.Context, *struct{}) (*struct{}, error) { return nil, nil },
			) //nolint:nilnil // 204
		})
	}
}
