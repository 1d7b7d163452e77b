package kubectl

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/eventview"
	"github.com/caly-dev/caly/internal/testkit/admintest"
)

// TestStreams shows and closes live streams as a person with the ClusterRole edit.
func TestStreams(t *testing.T) {
	r := admintest.New(t)
	support, sales := r.NewTenant(t, r.Namespace, "support"), r.NewTenant(t, r.Namespace, "sales")
	other := r.NewTenant(t, r.NewNamespace(t), "support")
	first, second := r.Stream(t, support, "c1"), r.Stream(t, support, "c2")
	third, theirs := r.Stream(t, sales, "c3"), r.Stream(t, other, "c4")
	r.Grant(t, r.Namespace, "edit", admintest.Named(rbacv1.UserKind, "alice"))
	alice := admintest.Kubeconfig(t, r.User(t, "alice"), r.Namespace)

	list := execute(t, r, alice, "streams", "list", "-o", "name")
	want := []string{sales + "/" + third, support + "/" + second, support + "/" + first}
	if diff := cmp.Diff(want, strings.Fields(list.out)); diff != "" || list.err != nil {
		t.Errorf("%v; streams (-want +got):\n%s", list.err, diff)
	}
	shown := execute(t, r, alice, "streams", "show", support+"/"+first)
	if !strings.Contains(shown.out, "bot.example") || !strings.Contains(shown.out, "c1") {
		t.Errorf("show: %+v", shown)
	}
	if got := execute(t, r, alice, "streams", "close", theirs); got.status != exitFailed ||
		!strings.Contains(got.err.Error(), "not found") {
		t.Errorf("close of another namespace's stream: %+v", got)
	}
	if got := execute(t, r, alice, "streams", "close", other+"/"+theirs); got.status != exitNoPermission {
		t.Errorf("close of another namespace's stream by its name: %+v", got)
	}
	if got := execute(t, r, alice, "streams", "close", first, sales+"/"+third); got.err != nil ||
		strings.Count(got.out, adminapi.ResultDone) != 2 {
		t.Errorf("close: %+v", got)
	}
	if got := execute(t, r, alice, "streams", "close", "--all", "-t", "support"); got.err != nil ||
		got.out != "2 streams of "+support+" will be closed\n" {
		t.Errorf("close all: %+v", got)
	}
	closing := r.PG.Number(t, "SELECT count(*) FROM stream_sessions WHERE close_requested_at IS NOT NULL")
	untouched := r.PG.Number(t, "SELECT count(*) FROM stream_sessions WHERE close_requested_at IS NULL")
	if closing != 3 || untouched != 1 {
		t.Errorf("%d streams are closed and %d are not, want 3 and 1", closing, untouched)
	}
	audits := r.PG.Number(t, "SELECT count(*) FROM audit_log WHERE device = 'kubectl caly' AND request_id <> ''")
	if audits != 3 {
		t.Errorf("the tenants' audit logs have %d rows of kubectl caly, want 3", audits)
	}
}

// TestEvents shows and replays dead events. An event's request has telephone numbers, which view may not read.
func TestEvents(t *testing.T) {
	r := admintest.New(t)
	support := r.NewTenant(t, r.Namespace, "support")
	other := r.NewTenant(t, r.NewNamespace(t), "support")
	first, second, theirs := r.DeadEvent(t, support, "c1"), r.DeadEvent(t, support, "c2"), r.DeadEvent(t, other, "c3")
	r.Grant(t, r.Namespace, "view", admintest.Named(rbacv1.UserKind, "viewer"))
	r.Grant(t, r.Namespace, "edit", admintest.Named(rbacv1.UserKind, "alice"))
	viewer := admintest.Kubeconfig(t, r.User(t, "viewer"), r.Namespace)
	alice := admintest.Kubeconfig(t, r.User(t, "alice"), r.Namespace)

	for user, kubeconfig := range map[string]string{"viewer": viewer, "alice": alice} {
		got := execute(t, r, kubeconfig, "events", "list", "-o", "json")
		var list struct{ Items []eventview.Event }
		if err := json.Unmarshal([]byte(got.out), &list); err != nil || len(list.Items) != 2 ||
			list.Items[0].ID != second || list.Items[1].ID != first || list.Items[0].DeadReason != "stale" {
			t.Errorf("%s lists %s, %v, %v", user, got.out, err, got.err)
		}
		if strings.Contains(got.out, "919900000001") {
			t.Errorf("a list has a telephone number: %s", got.out)
		}
	}
	id := eventColumns.name(eventview.Event{Tenant: support, ID: first})
	if got := execute(t, r, viewer, "events", "show", id); got.status != exitNoPermission {
		t.Errorf("a viewer reads a request: %+v", got)
	}
	shown := execute(t, r, alice, "events", "show", id)
	if !strings.Contains(shown.out, "919900000001") || !strings.Contains(shown.out, "What to do") ||
		strings.Contains(shown.out, "topsecret") {
		t.Errorf("show: %+v", shown)
	}
	foreign := eventColumns.name(eventview.Event{Tenant: support, ID: theirs})
	if got := execute(t, r, alice, "events", "show", foreign); got.status != exitFailed ||
		!strings.Contains(got.err.Error(), "not found") {
		t.Errorf("another namespace's event: %+v", got)
	}
	if got := execute(t, r, viewer, "events", "replay", "--all"); got.status != exitNoPermission {
		t.Errorf("a viewer replays: %+v", got)
	}
	if got := execute(t, r, alice, "events", "replay", "--reason=stale", "--dry-run"); got.err != nil ||
		strings.Count(got.out, "would be applied") != 2 || dead(t, r) != 3 {
		t.Errorf("a dry run: %+v", got)
	}
	if got := execute(t, r, alice, "events", "replay", id); got.err != nil || !strings.Contains(got.out, "applied") {
		t.Errorf("replay: %+v", got)
	}
	if got := dead(t, r); got != 2 {
		t.Errorf("%d events are dead, want 2", got)
	}
}

func dead(t *testing.T, r *admintest.Rig) int {
	t.Helper()
	return r.PG.Number(t, "SELECT count(*) FROM call_events WHERE dead_reason IS NOT NULL")
}
