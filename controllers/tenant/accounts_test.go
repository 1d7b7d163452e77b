package tenant

import (
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
)

// TestExotelAccounts asks a stand-in for Exotel's API. A host that the platform does not trust proves nothing and is
// not asked.
func TestExotelAccounts(t *testing.T) {
	exotel, err := exotelsim.NewServer(exotelsim.Options{
		Key:   "the-key",
		Token: "the-token",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer exotel.Close()
	host := strings.TrimPrefix(exotel.URL(), "http://")
	for name, tc := range map[string]struct {
		token   string
		trusted []string
		want    bool
	}{
		"accepted":               {"the-token", []string{host}, true},
		"refused":                {"another-token", []string{host}, false},
		"a host of nobody's":     {"the-token", nil, false},
		"another host's trusted": {"the-token", []string{"exotel.example"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := &v1alpha1.Tenant{}
			tenant.Spec.Exotel.AccountSID, tenant.Spec.Exotel.APIBaseURL = "acme1", exotel.URL()
			credentials := &corev1.Secret{Data: map[string][]byte{
				"apiKey":   []byte("the-key"),
				"apiToken": []byte(tc.token),
			}}
			accounts := ExotelAccounts{
				Transport:    http.DefaultTransport,
				TrustedHosts: tc.trusted,
				AllowHTTP:    true,
			}
			if got, ok := accounts.Proves(t.Context(), tenant, credentials); ok != tc.want || ok && got != host {
				t.Errorf("proves %v at %q, want %v at %q", ok, got, tc.want, host)
			}
		})
	}
}
