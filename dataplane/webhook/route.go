package webhook

import (
	"net/http"
	"strings"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// PathPrefix of every webhook: {PathPrefix}{namespace}/{tenant}/{event}, or {PathPrefix}{event} where the tenant is found by what the
// webhook says. Behind either may stand a token.
const PathPrefix = v1alpha1.WebhookPathPrefix

// kinds by the event's name in the path.
var kinds = map[string]string{
	"status":        exotel.KindStatus,
	"call-start":    exotel.KindStatus,
	"call-answered": exotel.KindStatus,
	"call-end":      exotel.KindStatus,
	"recording":     exotel.KindStatus,
	"passthru":      exotel.KindPassthru,
	"leg":           exotel.KindLeg,
}

// destination is what a path says.
type destination struct {
	tenantID string // empty: to be found by what the webhook says
	kind     string
	token    string
	pattern  string // the path without what is particular to it
}

// route takes the path apart itself: a ServeMux pattern would answer a doubled slash with a redirect.
func route(r *http.Request) (destination, error) {
	path, ours := strings.CutPrefix(r.URL.Path, PathPrefix)
	to, ok := parsePath(strings.SplitN(path, "/", maxElements+1))
	if !ours || !ok {
		return to, problem.New(problem.NotFound, "no such webhook: the path is "+PathPrefix+
			"{namespace}/{tenant}/{status|passthru|leg|...}, and the token behind it if there is one")
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return to, problem.MethodNotAllowed("webhooks are sent with GET or POST", "GET, POST")
	}
	return to, nil
}

// Address is what the path of a webhook says.
type Address struct {
	// TenantID is empty on a path that all tenants share.
	TenantID string
	// Token at the end of the path; empty without one.
	Token string
}

// AddressOf returns what the path of a webhook says; false if the request is not a webhook.
func AddressOf(r *http.Request) (Address, bool) {
	to, err := route(r)
	return Address{TenantID: to.tenantID, Token: to.token}, err == nil
}

// maxElements of a path after PathPrefix: namespace, tenant, event and token.
const maxElements = 4

func parsePath(parts []string) (to destination, ok bool) {
	to.pattern = PathPrefix
	if len(parts) > 2 {
		to.tenantID = parts[0] + "/" + parts[1]
		to.pattern += "{namespace}/{tenant}/"
		if parts[0] == "" || parts[1] == "" {
			return to, false
		}
		parts = parts[2:]
	}
	to.kind = kinds[parts[0]]
	to.pattern += parts[0]
	if len(parts) == 2 {
		to.token = parts[1]
		to.pattern += "/{token}"
	}
	return to, to.kind != "" && len(parts) <= 2 && (len(parts) == 1 || to.token != "")
}

// Reasons why no tenant is found.
const (
	reasonUnknown   = "unknown_tenant"
	reasonAmbiguous = "ambiguous_tenant"
)

// find returns the tenant whose verifiers must accept the webhook, or why there is none. On the path without a tenant, nothing that
// leads to it is proven yet.
func find(tenants *tenantconfig.Snapshot, to destination, r exotel.Request) (*tenantconfig.Tenant, string) {
	if to.tenantID != "" {
		if t, ok := tenants.Tenant(to.tenantID); ok {
			return t, ""
		}
		return nil, reasonUnknown
	}
	return only(candidates(tenants, exotel.ReadClaim(r)))
}

// ownsEach reports whether each event of a list would lead to the tenant if it came by itself on the path without a
// tenant, with the query of the list. A request that is not a list has led to it already.
func ownsEach(tenants *tenantconfig.Snapshot, t *tenantconfig.Tenant, fields exotel.Request, query string) bool {
	for _, event := range exotel.Events(fields) {
		event.RawQuery = query
		if found, _ := only(candidates(tenants, exotel.ReadClaim(event))); found != t {
			return false
		}
	}
	return true
}

func candidates(tenants *tenantconfig.Snapshot, claim exotel.Claim) []*tenantconfig.Tenant {
	account := tenants.ByAccount(claim.AccountSID)
	if claim.AccountSID != "" && len(account) < 2 {
		return account
	}
	for _, numbers := range claim.PhoneNumbers {
		found := tenants.ByNumber(numbers...)
		if claim.AccountSID != "" { // several tenants share the account
			found = common(account, found)
		}
		if len(found) > 0 {
			return found
		}
	}
	return account
}

func common(a, b []*tenantconfig.Tenant) (both []*tenantconfig.Tenant) {
	for _, t := range a {
		for _, other := range b {
			if t == other {
				both = append(both, t)
			}
		}
	}
	return both
}

func only(found []*tenantconfig.Tenant) (*tenantconfig.Tenant, string) {
	switch len(found) {
	case 0:
		return nil, reasonUnknown
	case 1:
		return found[0], ""
	}
	return nil, reasonAmbiguous
}
