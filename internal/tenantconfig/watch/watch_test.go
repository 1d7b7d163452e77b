package watch

import (
	"log/slog"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

func sample() tenantconfig.Tenant {
	return tenantconfig.Tenant{Version: tenantconfig.Version, ID: "acme/support", UID: "u", TimeZone: "Asia/Kolkata", AllowedSourceHosts: []string{"a.example"},
		Signature: &tenantconfig.Signature{Scheme: "HMACSHA1", Secrets: []tenantconfig.Sensitive{"sixteen bytes or more"}}}
}

func TestWatcherKeepsTheLastGoodConfig(t *testing.T) {
	w := New(nil, "caly-work", slog.New(slog.DiscardHandler))
	secret := func(data []byte) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: tenantconfig.SecretName(tenantconfig.PrefixTenant, "acme/support")},
			Type: v1alpha1.SecretTypeTenantConfig, Data: map[string][]byte{tenantconfig.Key: data}}
	}
	good, err := tenantconfig.EncodeTenant(sample())
	if err != nil {
		t.Fatal(err)
	}
	w.publish()
	w.set(secret(good))
	before := w.Snapshot()
	w.set(secret([]byte("nonsense")))
	other := secret(good)
	other.Name = tenantconfig.SecretName(tenantconfig.PrefixTenant, "globex/sales") // a config under another tenant's name
	w.set(other)
	if _, ok := w.Snapshot().Tenant("acme/support"); !ok || w.Rejected() != 2 || w.Snapshot().Len() != 1 {
		t.Errorf("after two bad configs: %d tenants, %d rejected", w.Snapshot().Len(), w.Rejected())
	}
	w.remove(secret(nil))
	if w.Snapshot().Len() != 0 || before.Len() != 1 {
		t.Errorf("after the removal: %d tenants, and the old snapshot has %d", w.Snapshot().Len(), before.Len())
	}
}
