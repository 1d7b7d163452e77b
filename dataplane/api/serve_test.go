package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/api/apitest"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// TestPaths verifies that each unknown path is answered with a problem and never with a redirect.
func TestPaths(t *testing.T) {
	for name, tc := range map[string]struct {
		method, path string
		want         int
		wantAllow    string
	}{
		"no such path":             {"GET", "/api/nothing", 404, ""},
		"the root":                 {"GET", "/", 404, ""},
		"a slash at the end":       {"GET", "/api/auth/who/", 404, ""},
		"a doubled slash":          {"GET", "/api//auth/who", 404, ""},
		"a doubled slash first":    {"GET", "//api/auth/who", 404, ""},
		"a dot":                    {"GET", "/api/./auth/who", 404, ""},
		"two dots":                 {"GET", "/api/auth/x/../who", 404, ""},
		"two dots, escaped":        {"GET", "/api/auth/x/%2e%2e/who", 404, ""},
		"only half":                {"GET", "/api/auth", 404, ""},
		"below a tenant":           {"GET", "/t/acme/support//api/auth/who", 404, ""},
		"a tenant's root":          {"GET", "/t/acme/support/", 404, ""},
		"another method":           {"DELETE", "/api/auth/who", 405, "GET, HEAD"},
		"one of two methods":       {"PATCH", "/api/things/1", 405, "DELETE, GET, HEAD"},
		"OPTIONS, not of a page":   {"OPTIONS", "/api/auth/who", 405, "GET, HEAD"},
		"a made up method":         {"BREW", "/api/auth/who", 405, "GET, HEAD"},
		"CONNECT":                  {"CONNECT", "/api/auth/who", 405, "GET, HEAD"},
		"an id with a slash":       {"GET", "/api/things/a%2Fb", 401, ""},
		"HEAD is GET without body": {"HEAD", "/api/auth/who", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRig()
			req := request(tc.method, "/", "X-Caly-Tenant: acme/support")
			address, err := url.ParseRequestURI("http://caly.example" + tc.path)
			if err != nil {
				t.Fatal(err)
			}
			req.URL = &url.URL{Path: address.Path, RawPath: address.RawPath}
			answer := rig.Send(req)
			if answer.Status != tc.want || answer.Header.Get("Allow") != tc.wantAllow ||
				answer.Header.Get("Location") != "" {
				t.Errorf("answered %d %v %s", answer.Status, answer.Header, answer.Body)
			}
			if (tc.want == 404 || tc.want == 405) && answer.Code() != "not_found" {
				t.Errorf("answered %s", answer.Body)
			}
		})
	}
}

// TestPattern verifies that the request log gets the pattern of a route, not the path.
func TestPattern(t *testing.T) {
	rig := newRig()
	register(rig, "/api/try", func(context.Context) error { return nil })
	for path, want := range map[string]string{
		"/t/acme/support/api/things/7": "GET /api/things/{id}",
		"/api/nothing":                 "",
		"/raw/x":                       "/raw/",
	} {
		rig.Handle("/raw/", http.NotFoundHandler())
		req := request("GET", path)
		rig.Send(req)
		if req.Pattern != want {
			t.Errorf("%s has the pattern %q, want %q", path, req.Pattern, want)
		}
	}
}

// TestHandle checks that raw handlers receive requests unchanged.
func TestHandle(t *testing.T) {
	rig := newRig()
	echo := http.HandlerFunc(
		func(w http.ResponseWriter, req *http.Request) { _, _ = w.Write([]byte("raw " + req.URL.Path)) },
	)
	rig.Handle("/webhooks/", echo)
	rig.Handle("/keys.json", echo)
	for path, want := range map[string]string{
		"/webhooks//x/../y/": "raw /webhooks//x/../y/",
		"/keys.json":         "raw /keys.json",
		"/keys.json/":        "",
		"/webhooks":          "",
	} {
		req := request("GET", "/")
		req.URL.Path = path
		if answer := rig.Send(req); want != "" && string(answer.Body) != want || want == "" && answer.Status != 404 ||
			answer.Header.Get("Cache-Control") != "" && want != "" {
			t.Errorf("%s: %d %v %s", path, answer.Status, answer.Header, answer.Body)
		}
	}
}

// TestHeaders verifies the headers of each answer for caching, content and transport security.
func TestHeaders(t *testing.T) {
	const hsts = "max-age=31536000"
	for name, tc := range map[string]struct {
		target   string
		headers  []string
		wantHSTS string
	}{
		"plain":                    {"http://caly.example/api/auth/who", nil, ""},
		"TLS":                      {"https://caly.example/api/auth/who", nil, hsts},
		"TLS at the proxy":         {"http://caly.example/api/auth/who", []string{"X-Forwarded-Proto: https"}, hsts},
		"a forged proxy":           {"http://caly.example/api/auth/who", []string{"X-Forwarded-Proto: https", "peer: 203.0.113.1:1"}, ""},
		"an error":                 {"https://caly.example/api/nothing", nil, hsts},
		"refused before a handler": {"https://caly.example/api/things/1", nil, hsts},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRig(
				func(o *api.Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} },
			)
			req := request("GET", tc.target, append(tc.headers, "X-Caly-Tenant: acme/support")...)
			if peer := req.Header.Get("peer"); peer != "" {
				req.RemoteAddr = peer
			}
			header := rig.Send(req).Header
			got := []string{
				header.Get("Strict-Transport-Security"),
				header.Get("Cache-Control"),
				header.Get("X-Content-Type-Options"),
				strings.Join(header.Values("Vary"), ", "),
			}
			if d := cmp.Diff([]string{tc.wantHSTS, "no-store", "nosniff", "Origin"}, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

const page = "https://app.example"

func origins(list ...string) func(*tenantconfig.Tenant) {
	return func(t *tenantconfig.Tenant) { t.Auth.AllowedOrigins = list }
}

// TestOrigins verifies that a page can read answers only if its origin is exactly one of the tenant's.
func TestOrigins(t *testing.T) {
	for name, tc := range map[string]struct {
		method, path, origin string
		headers              []string
		want                 string
	}{
		"none":                      {"GET", "/t/acme/support/api/auth/who", "", nil, ""},
		"another":                   {"GET", "/t/acme/support/api/auth/who", "https://evil.example", nil, ""},
		"null":                      {"GET", "/t/acme/support/api/auth/who", "null", nil, ""},
		"another scheme":            {"GET", "/t/acme/support/api/auth/who", "http://app.example", nil, ""},
		"another port":              {"GET", "/t/acme/support/api/auth/who", page + ":8443", nil, ""},
		"a longer name":             {"GET", "/t/acme/support/api/auth/who", page + ".evil.example", nil, ""},
		"another tenant's":          {"GET", "/t/acme/sales/api/auth/who", page, nil, ""},
		"no tenant":                 {"GET", "/api/auth/who", page, nil, ""},
		"a tenant without accounts": {"GET", "/t/acme/mute/api/auth/who", page, nil, ""},
		"the tenant's":              {"GET", "/t/acme/support/api/auth/who", page, nil, page},
		"by host":                   {"GET", "/api/auth/who", page, []string{"Host: support.example"}, page},
		"an error":                  {"GET", "/t/acme/support/api/nothing", page, nil, page},
		"a refusal":                 {"GET", "/t/acme/support/api/things/1", page, nil, page},
		"by token":                  {"GET", "/api/things/1", page, []string{"Authorization: Bearer good"}, page},
		"by another's token":        {"GET", "/t/acme/sales/api/things/1", page, []string{"Authorization: Bearer good"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			answer := originRig().Send(request(tc.method, tc.path, append(tc.headers, "Origin: "+tc.origin)...))
			if got := answer.Header.Get("Access-Control-Allow-Origin"); got != tc.want ||
				answer.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("allows %q, want %q: %d %v", got, tc.want, answer.Status, answer.Header)
			}
			if exposes := answer.Header.Get("Access-Control-Expose-Headers"); (exposes != "") != (tc.want != "") {
				t.Errorf("exposes %q", exposes)
			}
		})
	}
}

func originRig() *apitest.Rig {
	rig := newRig()
	origins(page)(rig.Tenant)
	hosts("support.example")(rig.Tenant)
	rig.Know(
		rig.Tenant,
		tenantNamed("acme/sales", origins("https://sales.example")),
		tenantNamed("acme/mute", func(t *tenantconfig.Tenant) { t.Auth = nil }),
	)
	return rig
}

// TestPreflight is answered without a token, and only for what is there.
func TestPreflight(t *testing.T) {
	for name, tc := range map[string]struct {
		path, origin, method string
		headers              []string
		want                 int
	}{
		"another origin":   {"/t/acme/support/api/things/1", "https://evil.example", "GET", nil, 403},
		"another tenant":   {"/t/acme/sales/api/things/1", page, "GET", nil, 403},
		"no tenant":        {"/api/things/1", page, "GET", nil, 403},
		"no such path":     {"/t/acme/support/api/nothing", page, "GET", nil, 404},
		"no such method":   {"/t/acme/support/api/things/1", page, "PATCH", nil, 404},
		"no method at all": {"/t/acme/support/api/things/1", page, "", nil, 405},
		"a redirect":       {"/t/acme/support/api//things/1", page, "GET", nil, 404},
		"by path":          {"/t/acme/support/api/things/1", page, "DELETE", nil, 204},
		"by host":          {"/api/auth/things", page, "POST", []string{"Host: support.example"}, 204},
	} {
		t.Run(name, func(t *testing.T) {
			answer := originRig().Send(
				request(
					"OPTIONS",
					tc.path,
					append(tc.headers, "Origin: "+tc.origin, "Access-Control-Request-Method: "+tc.method,
						"Access-Control-Request-Headers: authorization, content-type")...),
			)
			if answer.Status != tc.want {
				t.Fatalf("answered %d, want %d: %s", answer.Status, tc.want, answer.Body)
			}
			got := fmt.Sprint(
				answer.Header.Get("Access-Control-Allow-Methods"),
				"|",
				answer.Header.Get("Access-Control-Allow-Headers"),
				"|",
				answer.Header.Get("Access-Control-Max-Age"),
			)
			want := "||"
			if tc.want == 204 {
				want = tc.method + "|Authorization, Content-Type, X-Caly-Tenant|600"
			}
			if got != want || tc.want == 204 && answer.Header.Get("Access-Control-Allow-Origin") != page {
				t.Errorf("allows %q, want %q", got, want)
			}
		})
	}
}
