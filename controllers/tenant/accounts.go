package tenant

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
	"github.com/caly-dev/caly/internal/resilience"
)

// ExotelAccounts is the Accounts of Exotel's API.
type ExotelAccounts struct {
	// Registry of breakers and tries.
	Registry *resilience.Registry
	// Transport to the API. It must not lead into the platform's own network.
	Transport http.RoundTripper
	// TrustedHosts are the hosts, with an optional port, whose answer counts as Exotel's, in addition to Exotel's own.
	TrustedHosts []string
	// AllowHTTP lets trusted hosts be asked over plain http.
	AllowHTTP bool
}

// Proves asks Exotel for the calls of the last minute. An answer proves that the credentials are the account's.
func (e ExotelAccounts) Proves(
	ctx context.Context, t *v1alpha1.Tenant, credentials *corev1.Secret,
) (host string, ok bool) {
	base := t.Spec.Exotel.APIBaseURL
	if base == "" {
		base = calldetails.BaseURL(string(t.Spec.Exotel.Region))
	}
	address, err := url.Parse(base)
	if err != nil || !e.trusts(address) {
		return "", false
	}
	asking, err := calldetails.New(calldetails.Config{
		BaseURL:   base,
		AllowHTTP: e.AllowHTTP,
		Account:   t.Spec.Exotel.AccountSID,
		Key:       calldetails.Secret(credentials.Data["apiKey"]),
		Token:     calldetails.Secret(credentials.Data["apiToken"]),
		Registry:  e.Registry,
		Tenant:    t.ID() + " " + address.Host,
		Transport: e.Transport,
		Timeout:   proofTimeout,
		MaxPages:  1,
	})
	if err != nil {
		return "", false
	}
	now := time.Now()
	filter := calldetails.Filter{
		CreatedFrom: now.Add(-time.Minute),
		CreatedTo:   now,
		PageSize:    1,
	}
	for call, err := range asking.Calls(ctx, filter) {
		return strings.ToLower(address.Host), err == nil &&
			(call.AccountSID == "" || call.AccountSID == t.Spec.Exotel.AccountSID)
	}
	return strings.ToLower(address.Host), true // no call in that minute
}

// trusts reports whether the address is Exotel's, or one whose answers the platform trusts as Exotel's.
func (e ExotelAccounts) trusts(u *url.URL) bool {
	host := strings.ToLower(u.Host)
	for _, region := range []v1alpha1.ExotelRegion{v1alpha1.ExotelRegionIndia, v1alpha1.ExotelRegionSingapore} {
		if u.Scheme+"://"+host == calldetails.BaseURL(string(region)) {
			return true
		}
	}
	return slices.Contains(e.TrustedHosts, host)
}
