package watch_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/tenantconfig/watch"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

// state is what a pod answers a tenant with: "known", "401" or "503".
func state(w *watch.Watcher, id string) string {
	s := w.Snapshot()
	if _, known := s.Tenant(id); known {
		return "known"
	}
	if s.Complete() {
		return "401"
	}
	return "503"
}

func (w workspace) becomes(watcher *watch.Watcher, id, want string) {
	w.t.Helper()
	eventually.Within(10*time.Second).Holds(w.t, id+" is "+want, func() bool { return state(watcher, id) == want })
}

// stays fails unless the tenant is in a state for a while: long enough for the watch to bring a change.
func (w workspace) stays(watcher *watch.Watcher, id, want string) {
	w.t.Helper()
	for end := time.Now().Add(700 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got := state(watcher, id); got != want {
			w.t.Fatalf("%s is %s, want %s", id, got, want)
		}
	}
}

func (w workspace) notReady(watcher *watch.Watcher, why string) {
	w.t.Helper()
	if err := watcher.Ready(); err == nil || !strings.Contains(err.Error(), why) {
		w.t.Errorf("ready: %v, want an error with %q", err, why)
	}
}

// TestReinstalled starts a pod in an empty work namespace, as after a new installation over Tenants that exist. The
// pod is not ready, and rejects no tenant, until the operator has written the list and what is in it.
func TestReinstalled(t *testing.T) {
	w := newWorkspace(t)
	watcher := w.watching(kubetest.Get(t).Config.Host)
	w.notReady(watcher, "not yet compiled every Tenant")
	w.stays(watcher, "acme/support", "503")
	w.create(w.secret("acme/support", w.encode(config("acme/support", firstSecret))))
	w.becomes(watcher, "acme/support", "known")
	w.notReady(watcher, "not yet compiled every Tenant")
	w.stays(watcher, "globex/sales", "503")
	w.list("acme/support", "globex/sales") // one of them is missing
	eventually.Within(10*time.Second).Holds(w.t, "the pod is ready", func() bool { return watcher.Ready() == nil })
	if n := watcher.Missing(); n != 1 {
		t.Errorf("%d configs are missing, want 1", n)
	}
	w.stays(watcher, "globex/sales", "503")
	w.stays(watcher, "initech/help", "503") // or 503 would tell a stranger which tenants exist
	w.create(w.secret("globex/sales", w.encode(config("globex/sales", firstSecret))))
	w.becomes(watcher, "initech/help", "401")
}

// TestNoTenants tests an installation without a Tenant, whose list is empty.
func TestNoTenants(t *testing.T) {
	w := newWorkspace(t)
	w.list()
	watcher := w.watching(kubetest.Get(t).Config.Host)
	w.becomes(watcher, "acme/support", "401")
	if err := watcher.Ready(); err != nil {
		t.Error(err)
	}
}

// TestAllConfigsDeleted restarts a pod after somebody has deleted all configs but not the list.
func TestAllConfigsDeleted(t *testing.T) {
	w := newWorkspace(t)
	w.list("acme/support", "globex/sales")
	watcher := w.watching(kubetest.Get(t).Config.Host)
	eventually.Within(10*time.Second).Holds(w.t, "the list is read", func() bool { return watcher.Missing() == 2 })
	w.notReady(watcher, "no Secret of them exists")
	w.stays(watcher, "acme/support", "503")
}

// TestConfigDeletedByHand deletes configs that are published: their last values stay in force for the grace period.
func TestConfigDeletedByHand(t *testing.T) {
	w := newWorkspace(t)
	for _, id := range []string{"acme/support", "globex/sales"} {
		w.create(w.secret(id, w.encode(config(id, firstSecret))))
	}
	w.list("acme/support", "globex/sales")
	watcher := w.startWith(kubetest.Get(t).Config.Host, slog.DiscardHandler, 3*time.Second)
	w.becomes(watcher, "initech/help", "401")
	w.remove("acme/support")
	eventually.Within(10*time.Second).Holds(w.t, "the deletion is counted", func() bool {
		return watcher.Missing() == 1
	})
	w.stays(watcher, "acme/support", "known")
	w.create(w.secret("acme/support", w.encode(config("acme/support", secondSecret))))
	eventually.Within(10*time.Second).Holds(w.t, "the config that was written again is in force", func() bool {
		return signs(watcher.Snapshot(), "acme/support", secondSecret) && watcher.Missing() == 0
	})
	w.remove("globex/sales")
	w.becomes(watcher, "globex/sales", "503") // after the grace period
	w.stays(watcher, "globex/sales", "503")
	if state(watcher, "acme/support") != "known" || watcher.Ready() != nil {
		t.Errorf("the other tenant is %s; ready: %v", state(watcher, "acme/support"), watcher.Ready())
	}
}

// TestTenantDeleted deletes configs as the operator does, in either order of the two watches: the tenants end at once.
func TestTenantDeleted(t *testing.T) {
	w := newWorkspace(t)
	for _, id := range []string{"acme/support", "globex/sales"} {
		w.create(w.secret(id, w.encode(config(id, firstSecret))))
	}
	w.list("acme/support", "globex/sales")
	watcher := w.watching(kubetest.Get(t).Config.Host)
	w.becomes(watcher, "initech/help", "401")
	w.list("globex/sales")
	w.stays(watcher, "acme/support", "known") // until its Secret is deleted
	w.remove("acme/support")
	w.becomes(watcher, "acme/support", "401")
	w.remove("globex/sales")
	eventually.Within(10*time.Second).Holds(w.t, "the deletion is counted", func() bool {
		return watcher.Missing() == 1
	})
	w.list()
	w.becomes(watcher, "globex/sales", "401")
}

// TestListLost deletes and spoils the list: the last one stays in force.
func TestListLost(t *testing.T) {
	w := newWorkspace(t)
	w.create(w.secret("acme/support", w.encode(config("acme/support", firstSecret))))
	w.list("acme/support")
	watcher := w.watching(kubetest.Get(t).Config.Host)
	w.becomes(watcher, "initech/help", "401")
	var list corev1.Secret
	list.Namespace, list.Name = w.namespace, tenantconfig.ListSecretName
	if err := w.client.Delete(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	w.stays(watcher, "initech/help", "401")
	w.remove("acme/support")
	w.stays(watcher, "acme/support", "known")
}
