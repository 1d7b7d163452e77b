package watch_test

import (
	"context"
	"fmt"
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
	snapshot := w.Snapshot()
	if _, known := snapshot.Tenant(id); known {
		return "known"
	}
	if snapshot.Complete() {
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
	eventually.For(700*time.Millisecond).Stays(w.t, func(context.Context) error {
		if got := state(watcher, id); got != want {
			return fmt.Errorf("%s is %s, want %s", id, got, want)
		}
		return nil
	})
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
	workspace := newWorkspace(t)
	watcher := workspace.watching(kubetest.Get(t).Config.Host)
	workspace.notReady(watcher, "not yet compiled every Tenant")
	workspace.stays(watcher, "acme/support", "503")
	workspace.create(workspace.secret("acme/support", workspace.encode(config("acme/support", firstSecret))))
	workspace.becomes(watcher, "acme/support", "known")
	workspace.notReady(watcher, "not yet compiled every Tenant")
	workspace.stays(watcher, "globex/sales", "503")
	workspace.list("acme/support", "globex/sales") // one of them is missing
	eventually.Within(
		10*time.Second,
	).Holds(workspace.t, "the pod is ready", func() bool { return watcher.Ready() == nil })
	if n := watcher.Missing(); n != 1 {
		t.Errorf("%d configs are missing, want 1", n)
	}
	workspace.stays(watcher, "globex/sales", "503")
	workspace.stays(watcher, "initech/help", "503") // or 503 would tell a stranger which tenants exist
	workspace.create(workspace.secret("globex/sales", workspace.encode(config("globex/sales", firstSecret))))
	workspace.becomes(watcher, "initech/help", "401")
}

// TestNoTenants tests an installation without a Tenant, whose list is empty.
func TestNoTenants(t *testing.T) {
	workspace := newWorkspace(t)
	workspace.list()
	watcher := workspace.watching(kubetest.Get(t).Config.Host)
	workspace.becomes(watcher, "acme/support", "401")
	if err := watcher.Ready(); err != nil {
		t.Error(err)
	}
}

// TestAllConfigsDeleted restarts a pod after somebody has deleted all configs but not the list.
func TestAllConfigsDeleted(t *testing.T) {
	workspace := newWorkspace(t)
	workspace.list("acme/support", "globex/sales")
	watcher := workspace.watching(kubetest.Get(t).Config.Host)
	eventually.Within(
		10*time.Second,
	).Holds(workspace.t, "the list is read", func() bool { return watcher.Missing() == 2 })
	workspace.notReady(watcher, "no Secret of them exists")
	workspace.stays(watcher, "acme/support", "503")
}

// TestConfigDeletedByHand deletes configs that are published: their last values stay in force for the grace period.
func TestConfigDeletedByHand(t *testing.T) {
	workspace := newWorkspace(t)
	for _, id := range []string{"acme/support", "globex/sales"} {
		workspace.create(workspace.secret(id, workspace.encode(config(id, firstSecret))))
	}
	workspace.list("acme/support", "globex/sales")
	watcher := workspace.startWith(kubetest.Get(t).Config.Host, slog.DiscardHandler, 3*time.Second)
	workspace.becomes(watcher, "initech/help", "401")
	workspace.remove("acme/support")
	eventually.Within(10*time.Second).Holds(workspace.t, "the deletion is counted", func() bool {
		return watcher.Missing() == 1
	})
	workspace.stays(watcher, "acme/support", "known")
	workspace.create(workspace.secret("acme/support", workspace.encode(config("acme/support", secondSecret))))
	eventually.Within(10*time.Second).Holds(workspace.t, "the config that was written again is in force", func() bool {
		return signs(watcher.Snapshot(), "acme/support", secondSecret) && watcher.Missing() == 0
	})
	workspace.remove("globex/sales")
	workspace.becomes(watcher, "globex/sales", "503") // after the grace period
	workspace.stays(watcher, "globex/sales", "503")
	if state(watcher, "acme/support") != "known" || watcher.Ready() != nil {
		t.Errorf("the other tenant is %s; ready: %v", state(watcher, "acme/support"), watcher.Ready())
	}
}

// TestTenantDeleted deletes configs as the operator does, in either order of the two watches: the tenants end at once.
func TestTenantDeleted(t *testing.T) {
	workspace := newWorkspace(t)
	for _, id := range []string{"acme/support", "globex/sales"} {
		workspace.create(workspace.secret(id, workspace.encode(config(id, firstSecret))))
	}
	workspace.list("acme/support", "globex/sales")
	watcher := workspace.watching(kubetest.Get(t).Config.Host)
	workspace.becomes(watcher, "initech/help", "401")
	workspace.list("globex/sales")
	workspace.stays(watcher, "acme/support", "known") // until its Secret is deleted
	workspace.remove("acme/support")
	workspace.becomes(watcher, "acme/support", "401")
	workspace.remove("globex/sales")
	eventually.Within(10*time.Second).Holds(workspace.t, "the deletion is counted", func() bool {
		return watcher.Missing() == 1
	})
	workspace.list()
	workspace.becomes(watcher, "globex/sales", "401")
}

// TestListLost deletes and spoils the list: the last one stays in force.
func TestListLost(t *testing.T) {
	workspace := newWorkspace(t)
	workspace.create(workspace.secret("acme/support", workspace.encode(config("acme/support", firstSecret))))
	workspace.list("acme/support")
	watcher := workspace.watching(kubetest.Get(t).Config.Host)
	workspace.becomes(watcher, "initech/help", "401")
	var list corev1.Secret
	list.Namespace = workspace.namespace
	list.Name = tenantconfig.ListSecretName
	if err := workspace.client.Delete(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	workspace.stays(watcher, "initech/help", "401")
	workspace.remove("acme/support")
	workspace.stays(watcher, "acme/support", "known")
}
