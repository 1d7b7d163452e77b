package verify

import (
	"net/http"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// TestExplain checks that each finding has the name of its verifier, whichever of them a tenant has.
func TestExplain(t *testing.T) {
	secrets := []secret.Sensitive{"a secret of sixteen bytes"}
	request := &Request{
		Method:   http.MethodPost,
		Header:   http.Header{},
		URL:      &url.URL{RawQuery: "token=another"},
		ClientIP: netip.MustParseAddr("203.0.113.7"),
		Now:      time.Now(),
	}
	all := tenantconfig.Webhooks{
		Signature:    &tenantconfig.Signature{Scheme: tenantconfig.SchemeHMACSHA1, Secrets: secrets},
		Standard:     &tenantconfig.StandardWebhooks{Secrets: secrets},
		Token:        &tenantconfig.Token{Secrets: secrets},
		Basic:        &tenantconfig.BasicAuth{Users: []tenantconfig.User{{Name: "a", Password: secrets[0]}}},
		AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
	}
	want := []Finding{
		{VerifierSignature, ReasonMissingSignature},
		{VerifierStandard, ReasonMissingStandard},
		{VerifierToken, ReasonWrongToken},
		{VerifierBasic, ReasonMissingBasicAuth},
		{verifierAddress, ""},
	}
	if d := cmp.Diff(want, Explain(&all, request)); d != "" {
		t.Errorf("all verifiers (-want +got):\n%s", d)
	}
	for i, one := range []tenantconfig.Webhooks{
		{Signature: all.Signature},
		{Standard: all.Standard},
		{Token: all.Token},
		{Basic: all.Basic},
		{AllowedCIDRs: all.AllowedCIDRs},
	} {
		got := Explain(&one, request)
		if d := cmp.Diff(want[i:i+1], got); d != "" {
			t.Errorf("one verifier (-want +got):\n%s", d)
		}
		if verdict := Verify(&one, request); verdict.Reason != want[i].Reason || verdict.OK != (want[i].Reason == "") {
			t.Errorf("%s: Verify says %q", want[i].Verifier, verdict.Reason)
		}
	}
	if got := Explain(nil, request); got != nil {
		t.Errorf("without a verifier: %v", got)
	}
}
