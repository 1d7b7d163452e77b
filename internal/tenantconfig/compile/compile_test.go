package compile_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/tenantconfig/compile"
)

func TestTenant(t *testing.T) {
	created := metav1.NewTime(time.Date(2026, 3, 1, 5, 30, 0, 0, time.FixedZone("IST", 19800)))
	tenant := &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:         "acme",
			Name:              "support",
			UID:               "7",
			Generation:        3,
			CreationTimestamp: created,
		},
		Spec: v1alpha1.TenantSpec{Exotel: v1alpha1.ExotelSpec{
			AccountSID:   "acme1",
			PhoneNumbers: []string{"+918030752400"},
			TimeZone:     "Asia/Kolkata",
		}},
	}
	want := &tenantconfig.Tenant{
		Version:            tenantconfig.Version,
		ID:                 "acme/support",
		UID:                "7",
		Generation:         3,
		Created:            time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
		AccountSID:         "acme1",
		PhoneNumbers:       []string{"+918030752400"},
		TimeZone:           "Asia/Kolkata",
		AllowedSourceHosts: tenantconfig.DefaultSourceHosts,
	}
	if diff := cmp.Diff(want, compile.Tenant(tenant)); diff != "" {
		t.Errorf("Tenant() mismatch (-want +got):\n%s", diff)
	}
	tenant.Spec.Recordings.AllowedSourceHosts = []string{"relay.acme.example"}
	if diff := cmp.Diff([]string{"relay.acme.example"}, compile.SourceHosts(tenant)); diff != "" {
		t.Errorf("SourceHosts() mismatch (-want +got):\n%s", diff)
	}
}
