package api

import (
	"net/http"
	"slices"

	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// exposed are the headers that a page of another origin may read.
const exposed = "RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id"

// allowOrigin lets a page of one of the tenant's origins read the answer. Credentials that a browser adds by itself are never allowed:
// nothing here is done on their strength.
func (a *API) allowOrigin(w http.ResponseWriter, r *http.Request, t *tenantconfig.Tenant) {
	origin := r.Header.Get("Origin")
	if origin == "" || t == nil || t.Auth == nil || !slices.Contains(t.Auth.AllowedOrigins, origin) {
		return
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	w.Header().Set("Access-Control-Expose-Headers", exposed)
}

// preflight answers what a browser asks before a request of another origin. It carries neither a token nor the tenant header, so its
// tenant is that of the path or the host.
func (a *API) preflight(w http.ResponseWriter, r *http.Request) *problem.Problem {
	asked := r.Clone(r.Context())
	asked.Method = r.Header.Get("Access-Control-Request-Method")
	if _, pattern := a.mux.Handler(asked); pattern == "" {
		return problem.New(problem.NotFound, "the path does not exist, or does not support the method")
	}
	header := w.Header()
	if header.Get("Access-Control-Allow-Origin") == "" {
		return problem.New(
			problem.Forbidden,
			"the origin is not in the tenant's spec.auth.allowedOrigins; a browser must name the tenant by path or host",
		)
	}
	header.Add("Vary", "Access-Control-Request-Method")
	header.Set("Access-Control-Allow-Methods", asked.Method)
	header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, "+tenantHeader)
	header.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return nil
}
