package watch_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/tenantconfig/watch"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

func (w workspace) keyring(data []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: keyring.SecretName},
		Type:       v1alpha1.SecretTypeKeyring,
		Data:       map[string][]byte{keyring.DataKey: data},
	}
}

func (w workspace) encodeRing(r *keyring.Ring) []byte {
	w.t.Helper()
	data, err := keyring.Encode(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

func (w workspace) updateRing(s *corev1.Secret) {
	w.t.Helper()
	if err := w.client.Update(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
}

// holds tells whether the watcher has that very ring.
func holds(w *watch.Watcher, want *keyring.Ring) func() bool {
	return func() bool {
		ring := w.Ring()
		return ring != nil && ring.Secret == want.Secret && len(ring.Keys) == len(want.Keys)
	}
}

// TestKeyring verifies that the watcher follows the keyring from its creation through unreadable data and a rotation to
// its deletion.
func TestKeyring(t *testing.T) {
	workspace := newWorkspace(t)
	workspace.list()
	watcher := workspace.watching(kubetest.Get(t).Config.Host)
	eventually.Within(10*time.Second).Holds(workspace.t, "the list is read", func() bool {
		return watcher.Snapshot().Complete()
	})
	if watcher.Ring() != nil || watcher.Ready() != nil {
		t.Fatalf("without a keyring: a ring %v, webhooks not ready for %v", watcher.Ring() != nil, watcher.Ready())
	}
	first := keyring.New(time.Now())
	workspace.create(workspace.keyring(workspace.encodeRing(first)))
	eventually.Within(tenantconfig.RefreshDelay).Holds(workspace.t, "the keyring is known", holds(watcher, first))
	was := watcher.Ring()

	for i, bad := range [][]byte{[]byte("garbage"), nil, []byte(`{"version":2}`), workspace.encodeRing(first)[:50]} {
		workspace.updateRing(workspace.keyring(bad))
		eventually.Within(tenantconfig.RefreshDelay).Holds(workspace.t, "the bad keyring is counted", func() bool {
			return watcher.RejectedKeyrings() == int64(i)+1
		})
	}
	workspace.updateRing(workspace.keyring(workspace.encodeRing(first))) // as good as before, and no other
	workspace.updateRing(workspace.keyring([]byte("more garbage")))
	eventually.Within(tenantconfig.RefreshDelay).Holds(workspace.t, "the bad keyring is counted", func() bool {
		return watcher.RejectedKeyrings() == 5
	})
	if watcher.Ring() != was {
		t.Error("the last good keyring is not in force, or the same keys are another ring")
	}
	next, _, _ := keyring.Rotate(first, time.Now().Add(40*24*time.Hour), keyring.Policy{})
	workspace.updateRing(workspace.keyring(workspace.encodeRing(next)))
	eventually.Within(
		tenantconfig.RefreshDelay,
	).Holds(workspace.t, "the rotated keyring is known", holds(watcher, next))
	if len(was.Keys) != 1 {
		t.Error("a ring that was taken before has changed")
	}

	if err := workspace.client.Delete(t.Context(), workspace.keyring(nil)); err != nil {
		t.Fatal(err)
	}
	workspace.create(
		workspace.secret("acme/support", workspace.encode(config("acme/support", firstSecret))),
	) // read after the deletion, more or less
	eventually.Within(tenantconfig.RefreshDelay).Holds(workspace.t, "a tenant is known", func() bool {
		return watcher.Snapshot().Len() == 1
	})
	if !holds(watcher, next)() {
		t.Error("the deleted keyring is not in force until there is another")
	}
	another := keyring.New(time.Now())
	workspace.create(workspace.keyring(workspace.encodeRing(another)))
	eventually.Within(tenantconfig.RefreshDelay).Holds(workspace.t, "the new keyring is known", holds(watcher, another))
	if known, unread := watcher.Counts(); known != 1 || unread != 0 || watcher.Rejected() != 0 {
		t.Errorf("the keyring counts among the tenants: %d, %d, %d", known, unread, watcher.Rejected())
	}
}

// TestOtherKeyrings verifies that only a Secret with the right name and the right type is the keyring.
func TestOtherKeyrings(t *testing.T) {
	workspace := newWorkspace(t)
	other := workspace.keyring(workspace.encodeRing(keyring.New(time.Now())))
	kind := workspace.keyring(workspace.encodeRing(keyring.New(time.Now())))
	other.Name = "caly-keyring-2"
	kind.Type = corev1.SecretTypeOpaque
	workspace.create(other)
	workspace.create(kind)
	watcher := workspace.watching(kubetest.Get(t).Config.Host)
	if err := workspace.client.Delete(t.Context(), kind); err != nil {
		t.Fatal(err)
	}
	mine := keyring.New(time.Now())
	workspace.create(workspace.keyring(workspace.encodeRing(mine)))
	eventually.Within(tenantconfig.RefreshDelay).Holds(workspace.t, "the keyring is known", func() bool {
		return watcher.Ring() != nil
	})
	if !holds(watcher, mine)() || watcher.RejectedKeyrings() != 0 {
		t.Error("it is another Secret's")
	}
}
