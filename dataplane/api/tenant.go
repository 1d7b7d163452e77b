package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// What may name a tenant.
const (
	FromPath   = "path"
	FromHost   = "host"
	FromHeader = "header"
)

// tenantHeader names a tenant: namespace/name.
const tenantHeader = "X-Caly-Tenant"

// pathPrefix is followed by namespace/name and then by the path itself.
const pathPrefix = "/t/"

// naming is the ids of all tenants that a request names, each once.
type naming []string

// tenant is the one that is named, whatever its state; nil where none is, or several are.
func (n naming) tenant(tenants *tenantconfig.Snapshot) *tenantconfig.Tenant {
	if len(n) != 1 {
		return nil
	}
	t, _ := tenants.Tenant(n[0])
	return t
}

func (n naming) with(ids ...string) naming {
	for _, id := range ids {
		if !slices.Contains(n, id) {
			n = append(n, id)
		}
	}
	return n
}

// names returns the URL without the tenant's prefix, and the tenants that the request names.
func (a *API) names(r *http.Request) (*url.URL, naming) {
	var n naming
	address := r.URL
	if a.from[FromPath] {
		if stripped, id, ok := cutTenant(address); ok {
			address = stripped
			n = n.with(id)
		}
	}
	if a.from[FromHost] {
		host := strings.TrimSuffix(strings.ToLower(verify.OutsideURL(r, a.o.TrustedProxies).Hostname()), ".")
		if t, ok := a.o.Tenants().ByHost(host); ok && !a.o.PlatformHosts.Match(host) {
			n = n.with(t.ID)
		}
	}
	if a.from[FromHeader] {
		n = n.with(r.Header.Values(tenantHeader)...)
	}
	return address, n
}

// cutTenant takes /t/{namespace}/{tenant} off a path.
func cutTenant(u *url.URL) (stripped *url.URL, id string, ok bool) {
	rest, id, ok := cutPrefix(u.Path)
	if !ok {
		return u, "", false
	}
	out := *u
	out.Path = rest
	if u.RawPath != "" {
		// Names of tenants have nothing that is escaped. Where they are written so all the same, the path is not taken for one.
		raw, rawID, ok := cutPrefix(u.RawPath)
		if !ok || rawID != id {
			return u, "", false
		}
		out.RawPath = raw
	}
	return &out, id, true
}

func cutPrefix(path string) (rest, id string, ok bool) {
	path, ok = strings.CutPrefix(path, pathPrefix)
	namespace, path, more := strings.Cut(path, "/")
	name, rest, last := strings.Cut(path, "/")
	return "/" + rest, namespace + "/" + name, ok && more && last && namespace != "" && name != ""
}

// findTenant is the tenant of a request without a token.
func (f *facts) findTenant(tenants *tenantconfig.Snapshot) *problem.Problem {
	if p := f.naming.disagree(); p != nil {
		return p
	}
	if len(f.naming) == 0 && !tenants.Complete() { // the host may be that of a tenant
		return problem.TenantUnknown()
	}
	if len(f.naming) == 0 {
		return problem.New(problem.Validation,
			"the request names no tenant; put /t/{namespace}/{tenant} before the path, or send "+
				tenantHeader+": {namespace}/{tenant}, or use the tenant's own host")
	}
	t := f.naming.tenant(tenants)
	switch {
	case t == nil && !tenants.Complete():
		return problem.TenantUnknown()
	case t == nil || t.Auth == nil:
		return problem.New(problem.NotFound, "the tenant does not exist, or it has no accounts")
	case t.Suspended:
		return problem.New(problem.Forbidden, "the tenant is suspended")
	}
	f.tenant = t
	return nil
}

func (n naming) disagree() *problem.Problem {
	if len(n) < 2 {
		return nil
	}
	return problem.New(problem.Validation, "the path, the host and "+tenantHeader+" name different tenants: name one")
}
