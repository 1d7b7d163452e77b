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
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: keyring.SecretName},
		Type: v1alpha1.SecretTypeKeyring, Data: map[string][]byte{keyring.DataKey: data}}
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
		r := w.Ring()
		return r != nil && r.Secret == want.Secret && len(r.Keys) == len(want.Keys)
	}
}

// TestKeyring : from none to one, through what cannot be read, a rotation and a deletion.
func TestKeyring(t *testing.T) {
	w := newWorkspace(t)
	w.list()
	watcher := w.watching(kubetest.Get(t).Config.Host)
	eventually.Within(10*time.Second).Holds(w.t, "the list is read", func() bool {
		return watcher.Snapshot().Complete()
	})
	if watcher.Ring() != nil || watcher.Ready() != nil {
		t.Fatalf("without a keyring: a ring %v, webhooks not ready for %v", watcher.Ring() != nil, watcher.Ready())
	}
	first := keyring.New(time.Now())
	w.create(w.keyring(w.encodeRing(first)))
	eventually.Within(tenantconfig.RefreshDelay).Holds(w.t, "the keyring is known", holds(watcher, first))
	was := watcher.Ring()

	for i, bad := range [][]byte{[]byte("garbage"), nil, []byte(`{"version":2}`), w.encodeRing(first)[:50]} {
		w.updateRing(w.keyring(bad))
		eventually.Within(tenantconfig.RefreshDelay).Holds(w.t, "the bad keyring is counted", func() bool {
			return watcher.RejectedKeyrings() == int64(i)+1
		})
	}
	w.updateRing(w.keyring(w.encodeRing(first))) // as good as before, and no other
	w.updateRing(w.keyring([]byte("more garbage")))
	eventually.Within(tenantconfig.RefreshDelay).Holds(w.t, "the bad keyring is counted", func() bool {
		return watcher.RejectedKeyrings() == 5
	})
	if watcher.Ring() != was {
		t.Error("the last good keyring is not in force, or the same keys are another ring")
	}
	next, _, _ := keyring.Rotate(first, time.Now().Add(40*24*time.Hour), keyring.Policy{})
	w.updateRing(w.keyring(w.encodeRing(next)))
	eventually.Within(tenantconfig.RefreshDelay).Holds(w.t, "the rotated keyring is known", holds(watcher, next))
	if len(was.Keys) != 1 {
		t.Error("a ring that was taken before has changed")
	}

	if err := w.client.Delete(t.Context(), w.keyring(nil)); err != nil {
		t.Fatal(err)
	}
	w.create(w.secret("acme/support", w.encode(config("acme/support", firstSecret)))) // read after the deletion, more or less
	eventually.Within(tenantconfig.RefreshDelay).Holds(w.t, "a tenant is known", func() bool {
		return watcher.Snapshot().Len() == 1
	})
	if !holds(watcher, next)() {
		t.Error("the deleted keyring is not in force until there is another")
	}
	another := keyring.New(time.Now())
	w.create(w.keyring(w.encodeRing(another)))
	eventually.Within(tenantconfig.RefreshDelay).Holds(w.t, "the new keyring is known", holds(watcher, another))
	if known, unread := watcher.Counts(); known != 1 || unread != 0 || watcher.Rejected() != 0 {
		t.Errorf("the keyring counts among the tenants: %d, %d, %d", known, unread, watcher.Rejected())
	}
}

// TestOtherKeyrings : name and type both make a Secret the keyring.
func TestOtherKeyrings(t *testing.T) {
	w := newWorkspace(t)
	other, kind := w.keyring(w.encodeRing(keyring.New(time.Now()))), w.keyring(w.encodeRing(keyring.New(time.Now())))
	other.Name = "caly-keyring-2"
	kind.Type = corev1.SecretTypeOpaque
	w.create(other)
	w.create(kind)
	watcher := w.watching(kubetest.Get(t).Config.Host)
	if err := w.client.Delete(t.Context(), kind); err != nil {
		t.Fatal(err)
	}
	mine := keyring.New(time.Now())
	w.create(w.keyring(w.encodeRing(mine)))
	eventually.Within(tenantconfig.RefreshDelay).Holds(w.t, "the keyring is known", func() bool {
		return watcher.Ring() != nil
	})
	if !holds(watcher, mine)() || watcher.RejectedKeyrings() != 0 {
		t.Error("it is another Secret's")
	}
}
