package watch

import (
	"log/slog"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

func sample() tenantconfig.Tenant {
	return tenantconfig.Tenant{
		Version:            tenantconfig.Version,
		ID:                 "acme/support",
		UID:                "u",
		TimeZone:           "Asia/Kolkata",
		AllowedSourceHosts: []string{"a.example"},
		Freshness:          tenantconfig.DefaultFreshness,
		Webhooks: &tenantconfig.Webhooks{Signature: &tenantconfig.Signature{
			Scheme:  "HMACSHA1",
			Secrets: []secret.Sensitive{"sixteen bytes or more"},
		}},
	}
}

// emptyList is the list of an operator that has published nothing.
func emptyList() *corev1.Secret {
	return &corev1.Secret{Data: map[string][]byte{tenantconfig.ListKey: {}}}
}

func TestWatcherKeepsTheLastGoodConfig(t *testing.T) {
	watcher := New(nil, "caly-work", slog.New(slog.DiscardHandler))
	secret := func(data []byte) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: tenantconfig.SecretName(tenantconfig.PrefixTenant, "acme/support")},
			Type:       v1alpha1.SecretTypeTenantConfig,
			Data:       map[string][]byte{tenantconfig.Key: data},
		}
	}
	good, err := tenantconfig.EncodeTenant(sample())
	if err != nil {
		t.Fatal(err)
	}
	watcher.publish()
	watcher.set(secret(good))
	before := watcher.Snapshot()
	watcher.set(secret([]byte("nonsense")))
	other := secret(good)
	other.Name = tenantconfig.SecretName(
		tenantconfig.PrefixTenant, "globex/sales",
	) // a config under another tenant's name
	watcher.set(other)
	if _, ok := watcher.Snapshot().Tenant("acme/support"); !ok || watcher.Rejected() != 2 ||
		watcher.Snapshot().Len() != 1 {
		t.Errorf("after two bad configs: %d tenants, %d rejected", watcher.Snapshot().Len(), watcher.Rejected())
	}
	watcher.setList(emptyList())
	watcher.remove(secret(nil))
	if watcher.Snapshot().Len() != 0 || before.Len() != 1 {
		t.Errorf("after the removal: %d tenants, and the old snapshot has %d", watcher.Snapshot().Len(), before.Len())
	}
}

// TestReady checks that a pod is not ready before it has configs: after an upgrade the configs are the old ones until
// the operator has written them again, and a pod without tenants would refuse all webhooks.
func TestReady(t *testing.T) {
	secret := func(tenant string, version int) *corev1.Secret {
		config := sample()
		config.ID = tenant
		config.Version = version
		data, err := tenantconfig.EncodeTenant(config)
		if err != nil {
			t.Fatal(err)
		}
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: tenantconfig.SecretName(tenantconfig.PrefixTenant, tenant)},
			Type:       v1alpha1.SecretTypeTenantConfig,
			Data:       map[string][]byte{tenantconfig.Key: data},
		}
	}
	watcher := New(nil, "caly-work", slog.New(slog.DiscardHandler))
	steps := []struct {
		name                  string
		do                    func()
		wantKnown, wantUnread int
		wantErr               string
	}{
		{"at the start", func() {}, 0, 0, "not read yet"},
		{
			"an old config, not synced",
			func() { watcher.set(secret("acme/support", tenantconfig.Version-1)) },
			0,
			1,
			"not read yet",
		},
		{"synced", watcher.publish, 0, 1, "not yet compiled every Tenant"},
		{"listed", func() { watcher.setList(emptyList()) }, 0, 1, "none of the 1 tenant configs can be read"},
		{
			"another old one",
			func() { watcher.set(secret("globex/sales", tenantconfig.Version-1)) },
			0,
			2,
			"none of the 2",
		},
		{"one written again", func() { watcher.set(secret("acme/support", tenantconfig.Version)) }, 1, 1, ""},
		{
			"a config of a newer release",
			func() { watcher.set(secret("acme/support", tenantconfig.Version+1)) },
			1,
			2,
			"",
		},
		{"all gone", func() {
			watcher.remove(secret("acme/support", tenantconfig.Version))
			watcher.remove(secret("globex/sales", tenantconfig.Version))
		}, 0, 0, ""},
	}
	for _, step := range steps {
		step.do()
		known, unread := watcher.Counts()
		err := watcher.Ready()
		if known != step.wantKnown || unread != step.wantUnread || (err == nil) != (step.wantErr == "") ||
			err != nil && !strings.Contains(err.Error(), step.wantErr) {
			t.Errorf(
				"%s: %d known, %d unreadable, ready: %v; want %d, %d, %q",
				step.name,
				known,
				unread,
				err,
				step.wantKnown,
				step.wantUnread,
				step.wantErr,
			)
		}
	}
}
