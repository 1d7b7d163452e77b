package api_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/api/apitest"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

func hosts(names ...string) func(*tenantconfig.Tenant) {
	return func(t *tenantconfig.Tenant) { t.Auth.Hosts = names }
}

// TestTenantNaming verifies that a request with no tenant, an unknown tenant or several is rejected. A token's tenant
// takes precedence.
func TestTenantNaming(t *testing.T) {
	for name, tc := range map[string]struct {
		from       []string
		path       string
		headers    []string
		wantStatus int
		wantCode   string
		wantTenant string
	}{
		"none": {path: "/api/auth/who", wantStatus: 400, wantCode: "validation"},
		"a host of nobody's": {
			path:       "/api/auth/who",
			headers:    []string{"Host: shared.example"},
			wantStatus: 400,
			wantCode:   "validation",
		},
		"two tenants' host": {
			path:       "/api/auth/who",
			headers:    []string{"Host: both.example"},
			wantStatus: 400,
			wantCode:   "validation",
		},
		"by header": {
			path:       "/api/auth/who",
			headers:    []string{"X-Caly-Tenant: acme/support"},
			wantStatus: 200,
			wantTenant: "acme/support",
		},
		"by path": {path: "/t/acme/support/api/auth/who", wantStatus: 200, wantTenant: "acme/support"},
		"by host": {
			path:       "/api/auth/who",
			headers:    []string{"Host: support.example"},
			wantStatus: 200,
			wantTenant: "acme/support",
		},
		"by host with a port": {
			path:       "/api/auth/who",
			headers:    []string{"Host: Support.Example.:8443"},
			wantStatus: 200,
			wantTenant: "acme/support",
		},
		"by all, alike": {
			path:       "/t/acme/support/api/auth/who",
			headers:    []string{"Host: support.example", "X-Caly-Tenant: acme/support"},
			wantStatus: 200,
			wantTenant: "acme/support",
		},
		"path and header differ": {
			path:       "/t/acme/support/api/auth/who",
			headers:    []string{"X-Caly-Tenant: acme/sales"},
			wantStatus: 400,
			wantCode:   "validation",
		},
		"host and path differ": {
			path:       "/t/acme/sales/api/auth/who",
			headers:    []string{"Host: support.example"},
			wantStatus: 400,
			wantCode:   "validation",
		},
		"two headers differ": {
			path:       "/api/auth/who",
			headers:    []string{"X-Caly-Tenant: acme/support", "X-Caly-Tenant: acme/sales"},
			wantStatus: 400,
			wantCode:   "validation",
		},
		"differ, and one unknown": {
			path:       "/t/acme/support/api/auth/who",
			headers:    []string{"X-Caly-Tenant: no/body"},
			wantStatus: 400,
			wantCode:   "validation",
		},
		"unknown": {path: "/t/no/body/api/auth/who", wantStatus: 404, wantCode: "not_found"},
		"an empty header": {
			path:       "/api/auth/who",
			headers:    []string{"X-Caly-Tenant: "},
			wantStatus: 404,
			wantCode:   "not_found",
		},
		"without accounts": {path: "/t/acme/mute/api/auth/who", wantStatus: 404, wantCode: "not_found"},
		"suspended":        {path: "/t/acme/late/api/auth/who", wantStatus: 403, wantCode: "forbidden"},
		"the path is not asked": {
			from:       []string{api.FromHost, api.FromHeader},
			path:       "/t/acme/support/api/auth/who",
			wantStatus: 404,
			wantCode:   "not_found",
		},
		"the host is not asked": {
			from:       []string{api.FromPath},
			path:       "/t/acme/sales/api/auth/who",
			headers:    []string{"Host: support.example"},
			wantStatus: 200,
			wantTenant: "acme/sales",
		},
		"the header is not asked": {
			from:       []string{api.FromPath},
			path:       "/api/auth/who",
			headers:    []string{"X-Caly-Tenant: acme/support"},
			wantStatus: 400,
			wantCode:   "validation",
		},
		"half a path":           {path: "/t/acme/api", wantStatus: 404, wantCode: "not_found"},
		"a path without a name": {path: "/t/acme//api/auth/who", wantStatus: 404, wantCode: "not_found"},
		"a path in a path": {
			path:       "/t/acme/support/t/acme/support/api/auth/who",
			wantStatus: 404,
			wantCode:   "not_found",
		},
		"an escaped slash":          {path: "/t/acme%2Fsupport/api/auth/who", wantStatus: 404, wantCode: "not_found"},
		"escaped, another tenant's": {path: "/t/acme/s%75pport/api%2Fauth/who", wantStatus: 404, wantCode: "not_found"},
		"a forwarded host": {
			path:       "/api/auth/who",
			headers:    []string{"X-Forwarded-Host: support.example"},
			wantStatus: 400,
			wantCode:   "validation",
		},
		"token alone": {
			path:       "/api/things/1",
			headers:    []string{"Authorization: Bearer good"},
			wantStatus: 200,
			wantTenant: "acme/support",
		},
		"token and its path": {
			path:       "/t/acme/support/api/things/1",
			headers:    []string{"Authorization: Bearer good"},
			wantStatus: 200,
			wantTenant: "acme/support",
		},
		"token and another path": {
			path:       "/t/acme/sales/api/things/1",
			headers:    []string{"Authorization: Bearer good"},
			wantStatus: 401,
			wantCode:   "invalid_token",
		},
		"token and another header": {
			path:       "/api/things/1",
			headers:    []string{"Authorization: Bearer good", "X-Caly-Tenant: acme/sales"},
			wantStatus: 401,
			wantCode:   "invalid_token",
		},
		"token and a header of no tenant": {
			path:       "/api/things/1",
			headers:    []string{"Authorization: Bearer good", "X-Caly-Tenant: no/body"},
			wantStatus: 401,
			wantCode:   "invalid_token",
		},
		"token and two that differ": {
			path:       "/t/acme/sales/api/things/1",
			headers:    []string{"Authorization: Bearer good", "X-Caly-Tenant: acme/support"},
			wantStatus: 400,
			wantCode:   "validation",
		},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRig(func(o *api.Options) { o.TenantFrom = tc.from })
			hosts("support.example", "both.example")(rig.Tenant)
			rig.Know(rig.Tenant, tenantNamed("acme/sales", hosts("sales.example", "both.example")),
				tenantNamed("acme/mute", func(t *tenantconfig.Tenant) { t.Auth = nil }),
				tenantNamed("acme/late", func(t *tenantconfig.Tenant) { t.Suspended = true }))
			got := rig.Send(request("GET", tc.path, tc.headers...))
			if got.Status != tc.wantStatus || got.Code() != tc.wantCode {
				t.Fatalf("answered %d %q: %s", got.Status, got.Code(), got.Body)
			}
			if tc.wantTenant != "" && told(t, got).Tenant != tc.wantTenant {
				t.Errorf("the handler was told %s", got.Body)
			}
		})
	}
}

func told(t *testing.T, a apitest.Answer) seen {
	t.Helper()
	var s seen
	a.JSON(t, &s)
	return s
}

// TestFacts verifies which facts about its request a handler gets.
func TestFacts(t *testing.T) {
	for name, tc := range map[string]struct {
		headers []string
		want    seen
	}{
		"plain": {headers: []string{"User-Agent: Phone 1"}, want: seen{Client: "192.0.2.7", Device: "Phone 1"}},
		"behind a proxy": {
			headers: []string{"X-Forwarded-For: 6.6.6.6, 198.51.100.3, 192.0.2.9"},
			want:    seen{Client: "198.51.100.3"},
		},
		"an invalid hop": {headers: []string{"X-Forwarded-For: nonsense"}, want: seen{Client: "invalid IP"}},
		"a device that commands": {
			headers: []string{"User-Agent: a\x1b[31mb\xff\u202ec"},
			want:    seen{Client: "192.0.2.7", Device: "a[31mbc"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRig(
				func(o *api.Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} },
			)
			answer := rig.Send(
				request("GET", "/api/things/1?limit=7", append(tc.headers, "Authorization: Bearer good")...),
			)
			tc.want.Tenant = "acme/support"
			tc.want.UserID = "user-1"
			tc.want.SessionID = "session-1"
			tc.want.Role = "agent"
			tc.want.Limit, tc.want.Deadline, tc.want.RequestID = 7, true, answer.Header.Get("X-Request-Id")
			if d := cmp.Diff(tc.want, told(t, answer)); d != "" || tc.want.RequestID == "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestForwardedHost names the tenant only where a trusted proxy says it.
func TestForwardedHost(t *testing.T) {
	rig := newRig(func(o *api.Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	hosts("support.example")(rig.Tenant)
	rig.Know(rig.Tenant)
	if answer := rig.Send(request("GET", "/api/auth/who", "X-Forwarded-Host: support.example")); answer.Status != 200 {
		t.Errorf("answered %d %s", answer.Status, answer.Body)
	}
}

// TestHostOfThePlatformNamesNoTenant gives a tenant the host of the platform. Requests to the host that name another
// tenant by their path are answered all the same.
func TestHostOfThePlatformNamesNoTenant(t *testing.T) {
	const path = "/t/acme/sales/api/auth/who"
	for name, tc := range map[string]struct {
		platform   tenantconfig.HostPatterns
		wantStatus int
	}{
		"a host of the tenant's": {
			wantStatus: 400,
		},
		"a host of the platform": {
			platform:   tenantconfig.HostPatterns{"support.example"},
			wantStatus: 200,
		},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRig(func(o *api.Options) { o.PlatformHosts = tc.platform })
			hosts("support.example")(rig.Tenant)
			rig.Know(rig.Tenant, tenantNamed("acme/sales"))
			if got := rig.Send(request("GET", path, "Host: support.example")); got.Status != tc.wantStatus {
				t.Errorf("answered %d %s, want %d", got.Status, got.Body, tc.wantStatus)
			}
		})
	}
}

// TestTenantsNotYetKnown asks a pod that lacks tenant configs: what it does not know may exist.
func TestTenantsNotYetKnown(t *testing.T) {
	bearer := []string{"Authorization: Bearer good"}
	for name, tc := range map[string]struct {
		target  string
		headers []string
		known   bool
		want    int
	}{
		"by its path":          {target: "/t/acme/support/api/auth/who", want: 503},
		"by its header":        {target: "/api/auth/who", headers: []string{"X-Caly-Tenant: acme/support"}, want: 503},
		"by its host, perhaps": {target: "/api/auth/who", want: 503},
		"by its token":         {target: "/api/things/1", headers: bearer, want: 503},
		"a known tenant":       {target: "/t/acme/support/api/auth/who", known: true, want: 200},
		"a known one's token":  {target: "/api/things/1", headers: bearer, known: true, want: 200},
		"a wrong token":        {target: "/api/things/1", headers: []string{"Authorization: Bearer bad"}, want: 401},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRig()
			if rig.LackConfigs(); tc.known {
				rig.LackConfigs(apitest.NewTenant())
			}
			got := rig.Send(request("GET", tc.target, tc.headers...))
			if got.Status != tc.want || (got.Header.Get("Retry-After") != "") != (tc.want == 503) {
				t.Errorf("answered %d, Retry-After %q: %s", got.Status, got.Header.Get("Retry-After"), got.Body)
			}
		})
	}
}
