package verify

import "github.com/caly-dev/caly/internal/tenantconfig"

// Verifiers of a tenant, by the names that its spec has for them.
const (
	VerifierSignature = "signature"
	VerifierStandard  = "standardWebhooks"
	VerifierToken     = "token"
	VerifierBasic     = "basicAuth"
	verifierAddress   = "allowedCIDRs"
)

// Finding is what one verifier says of a request.
type Finding struct {
	// Verifier is its name.
	Verifier string
	// Reason of the rejection, one of Reasons; empty: the verifier accepts the request.
	Reason string
}

// Explain returns what each of the tenant's verifiers says of a request, in the order of Verify. It is for people of
// the platform: a sender must not see it.
func Explain(cfg *tenantconfig.Webhooks, r *Request) []Finding {
	if !cfg.Configured() {
		return nil
	}
	findings := hear(cfg, r)
	list := make([]Finding, len(findings))
	for i, f := range findings {
		list[i] = Finding{Verifier: f.verifier, Reason: f.refusal}
	}
	return list
}
