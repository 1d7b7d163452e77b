package api_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/api/apitest"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/secret"
)

// TestTestRoutes verifies each of the three protections of the test routes alone. Production never opens them, and
// neither does a pod without a configured token.
func TestTestRoutes(t *testing.T) {
	paths := []string{
		"GET /api/test/ping",
		"POST /api/test/echo",
		"GET /api/test/error/conflict",
		"GET /api/test/panic",
	}
	for name, tc := range map[string]struct {
		mode              api.Mode
		configured, shown string
		want              int
		wantCode          string
	}{
		"production, the right token": {api.Production, "sesame", "sesame", 404, "not_found"},
		"production, no token":        {api.Production, "sesame", "", 404, "not_found"},
		"production by default":       {"", "sesame", "sesame", 404, "not_found"},
		"a made up mode":              {"debug", "sesame", "sesame", 404, "not_found"},
		"not configured, none shown":  {api.Development, "", "", 403, "forbidden"},
		"not configured, one shown":   {api.Development, "", "sesame", 403, "forbidden"},
		"configured, none shown":      {api.Development, "sesame", "", 401, "authentication"},
		"configured, another shown":   {api.Development, "sesame", "sesam", 401, "invalid_token"},
		"configured, a longer one":    {api.Development, "sesame", "sesame1", 401, "invalid_token"},
		"configured, an access token": {api.Development, "sesame", "good", 401, "invalid_token"},
		"configured and equal":        {api.Development, "sesame", "sesame", 0, ""},
	} {
		for i, path := range paths {
			t.Run(name+", "+path, func(t *testing.T) {
				rig := newRig(func(o *api.Options) { o.Mode, o.TestToken = tc.mode, secret.Sensitive(tc.configured) })
				method, target, _ := strings.Cut(path, " ")
				var body any
				if method == "POST" {
					body = `{"a":[1,null]}`
				}
				answer := rig.Do(t, method, target, tc.shown, body)
				want := tc.want
				wantCode := tc.wantCode
				if want == 0 {
					want = []int{200, 200, 409, 500}[i]
					wantCode = []string{"", "", "conflict", "internal"}[i]
				}
				if answer.Status != want || answer.Code() != wantCode ||
					strings.Contains(string(answer.Body), "sesame") {
					t.Errorf("answered %d %s", answer.Status, answer.Body)
				}
			})
		}
	}
}

// TestProductionHasNoTrace of the test routes: what is absent is absent in the same words, and in the document too.
func TestProductionHasNoTrace(t *testing.T) {
	rig := newRig(func(o *api.Options) { o.TestToken = "sesame" })
	there := rig.Do(t, "GET", "/api/test/ping", "sesame", nil)
	nowhere := rig.Do(t, "GET", "/api/made/up", "sesame", nil)
	same := func(a apitest.Answer) string {
		return fmt.Sprint(
			a.Status, strings.ReplaceAll(string(a.Body), a.Header.Get("X-Request-Id"), "ID"), len(a.Header),
		)
	}
	if same(there) != same(nowhere) {
		t.Errorf("%s\nand %s", same(there), same(nowhere))
	}
	if bytes.Contains(bytes.ToLower(rig.Document()), []byte("test")) {
		t.Error("the document tells of tests")
	}
}

// TestEveryProblem verifies that the test routes answer with each code as the table has it.
func TestEveryProblem(t *testing.T) {
	rig := newRig(func(o *api.Options) {
		o.Mode = api.Development
		o.TestToken = "sesame"
	})
	for _, row := range problem.Table() {
		answer := rig.Do(t, "GET", "/api/test/error/"+string(row.Code), "sesame", nil)
		var p problem.Problem
		answer.JSON(t, &p)
		got := []any{answer.Status, p.Status, p.Code, p.Title, p.Type}
		if want := []any{row.Status, row.Status, row.Code, row.Title, row.Type()}; !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", row.Code, got, want)
		}
	}
	if answer := rig.Do(t, "GET", "/api/test/error/made_up", "sesame", nil); answer.Status != 404 {
		t.Errorf("a made up code: %d %s", answer.Status, answer.Body)
	}
	if answer := rig.Do(t, "POST", "/api/test/echo", "sesame", `{"a":1,"a":2}`); answer.Status != 400 {
		t.Errorf("what is not strict is echoed: %d %s", answer.Status, answer.Body)
	}
}
