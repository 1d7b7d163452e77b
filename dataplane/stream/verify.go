package stream

import (
	"net/http"

	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// guest is who was verified.
type guest struct {
	tenant  *tenantconfig.Tenant
	request *verify.Request
	token   oneTime // empty without one
}

// verified returns the tenant of a request. An unknown tenant, one without audio and a wrong secret are refused alike, so that nobody
// learns from outside which tenants exist.
func (h *Handler) verified(r *http.Request, to destination, body []byte) (guest, error) {
	g := guest{request: verify.NewRequest(r, body, to.token, h.o.TrustedProxies, h.o.now())}
	tenants := h.o.Tenants()
	g.tenant, _ = tenants.Tenant(to.tenantID)
	known := g.tenant != nil && g.tenant.Audio != nil
	var verifiers *tenantconfig.Webhooks
	if known {
		verifiers = g.tenant.Audio.Verifiers
	}
	var fault string
	switch {
	case !to.url && looksOneTime(to.token):
		g.token, fault = h.present(to, g.request, verifiers)
	default:
		if verdict := verify.Verify(verifiers, g.request); !verdict.OK {
			fault = verdict.Reason
		} else if !to.url && g.tenant.Audio.OneTimeToken { // a tenant with verifiers has audio
			fault = reasonNoOneTimeToken
		}
	}
	if !known { // whatever was said, and after as much work
		fault = reasonUnknown
	}
	switch {
	case g.tenant == nil && !tenants.Complete():
		return g, refuse(reasonNotYetKnown, problem.TenantUnknown())
	case fault != "":
		return g, refuse(fault, problem.New(problem.InvalidSignature, "the stream's secret was not accepted"))
	case g.tenant.Suspended:
		return g, refuse(reasonSuspended, problem.New(problem.Forbidden, "the tenant is suspended"))
	}
	return g, nil
}

// present reads a one-time token. It stands for all verifiers but the address, where that is required too.
func (h *Handler) present(to destination, r *verify.Request, verifiers *tenantconfig.Webhooks) (oneTime, string) {
	t, fault := openToken(h.o.Key(), to.tenantID, to.token, r.Now)
	if fault == "" && verifiers != nil && verifiers.RequireAll && len(verifiers.AllowedCIDRs) > 0 {
		if verdict := verify.Verify(&tenantconfig.Webhooks{AllowedCIDRs: verifiers.AllowedCIDRs}, r); !verdict.OK {
			fault = verdict.Reason
		}
	}
	return t, fault
}
