package verify_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// TestUnknownTenantCostsAVerification compares the allocations of refusals, which do not depend on the machine. A
// request for an unknown tenant must be verified like one for a tenant that exists, so that the time of an answer shows
// nothing.
func TestUnknownTenantCostsAVerification(t *testing.T) {
	known := &tenantconfig.Webhooks{Signature: &tenantconfig.Signature{
		Scheme:  tenantconfig.SchemeHMACSHA1,
		Secrets: []secret.Sensitive{"a secret"},
	}}
	request := &verify.Request{
		Method: http.MethodPost,
		Header: http.Header{"X-Exotel-Signature": {strings.Repeat("0", 40)}},
		URL:    &url.URL{Scheme: "https", Host: "caly.example", Path: "/webhooks/exotel/a/b/status"},
		Body:   []byte("CallSid=1"),
	}
	cost := func(cfg *tenantconfig.Webhooks) float64 {
		return testing.AllocsPerRun(100, func() {
			if verify.Verify(cfg, request).OK {
				t.Error("a wrong signature is accepted")
			}
		})
	}
	want := cost(known)
	for name, cfg := range map[string]*tenantconfig.Webhooks{"unknown": nil, "without verifiers": {}} {
		if got := cost(cfg); got < want {
			t.Errorf("%s: %v allocations, want at least the %v of a tenant that exists", name, got, want)
		}
	}
}
