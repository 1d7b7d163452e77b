package tenantconfig_test

import (
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// TestDigestOfRenewal is for those that compare digests: a renewal of credentials changes nothing for them.
func TestDigestOfRenewal(t *testing.T) {
	expires := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	digest := func(key secret.Sensitive, t *tenantconfig.Temporary) string {
		return tenantconfig.Tenant{
			ID: "acme/support",
			Storage: &tenantconfig.Storage{
				Bucket:          "b",
				Endpoint:        "https://s3.test",
				Region:          "r",
				AccessKeyID:     key,
				SecretAccessKey: "secret-of-" + key,
				SessionToken:    "token-of-" + key,
				Temporary:       t,
			},
		}.Digest()
	}
	first := digest("a", &tenantconfig.Temporary{Identity: "i", Expires: expires})
	for name, tc := range map[string]struct {
		key  secret.Sensitive
		is   *tenantconfig.Temporary
		want bool // it is equal
	}{
		"renewed":          {"b", &tenantconfig.Temporary{Identity: "i", Expires: expires.Add(time.Hour)}, true},
		"another identity": {"b", &tenantconfig.Temporary{Identity: "j", Expires: expires}, false},
		"of a Secret":      {"a", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := digest(tc.key, tc.is) == first; got != tc.want {
				t.Errorf("equal: %t, want %t", got, tc.want)
			}
		})
	}
}
