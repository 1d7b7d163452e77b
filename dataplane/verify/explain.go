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
	names := configured(cfg)
	list := make([]Finding, 0, len(names))
	for i, f := range hear(cfg, r) {
		list = append(list, Finding{Verifier: names[i], Reason: f.refusal})
	}
	return list
}

// configured returns the names of the verifiers that a tenant has, in the order of hear.
func configured(cfg *tenantconfig.Webhooks) (names []string) {
	for _, v := range []struct {
		name string
		has  bool
	}{
		{VerifierSignature, cfg.Signature != nil},
		{VerifierStandard, cfg.Standard != nil},
		{VerifierToken, cfg.Token != nil},
		{VerifierBasic, cfg.Basic != nil},
		{verifierAddress, len(cfg.AllowedCIDRs) > 0},
	} {
		if v.has {
			names = append(names, v.name)
		}
	}
	return names
}
