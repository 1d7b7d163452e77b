package tenantapi_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
)

func TestTenant(t *testing.T) {
	rig := newRig(t)
	var got map[string]any
	rig.get(t, "/api/tenant", bearer(acme, "viewer"), &got)
	delete(got, "$schema")
	want := map[string]any{
		"id":        acme,
		"suspended": false,
		"features":  map[string]any{"openRegistration": true, "downloads": false},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestUsage(t *testing.T) {
	rig := newRig(t)
	tenant := *rig.Tenant
	tenant.TimeZone = "Asia/Kolkata" // there it is half past eight in the evening, and the day began at half past six the evening before
	rig.Know(&tenant)
	midnight := time.Date(2026, 3, 9, 18, 30, 0, 0, time.UTC)
	for n, at := range []time.Time{
		midnight, midnight.Add(-time.Second), time.Date(2026, 2, 28, 18, 30, 0, 0, time.UTC),
		time.Date(2026, 2, 28, 18, 29, 0, 0, time.UTC),
	} {
		rig.insertCall(t, acme, fmt.Sprintf("c%d", n), at)
		rig.insertRecording(t, acme, recordingID(n), "c", "uploaded", "b", "acme/support/k", at) // a minute later
	}
	rig.insertRecording(t, acme, recordingID(10), "c", "pending", "", "", now)
	rig.insertRecording(t, acme, recordingID(11), "c", "uploading", "", "", now)
	rig.insertCall(t, globex, "c0", now)
	var got map[string]any
	rig.get(t, "/api/tenant/usage", bearer(acme, "admin"), &got)
	delete(got, "$schema")
	count := func(n float64) map[string]any { return map[string]any{"count": n, "atLeast": false} }
	want := map[string]any{
		"dayBegan":         "2026-03-10T00:00:00+05:30",
		"monthBegan":       "2026-03-01T00:00:00+05:30",
		"calls":            map[string]any{"today": count(1), "thisMonth": count(3)},
		"recordings":       map[string]any{"today": count(3), "thisMonth": count(5)},
		"uploadsThisMonth": map[string]any{"count": 4.0, "atLeast": false, "bytes": 44.0},
		"backlog":          map[string]any{"waiting": count(1), "uploading": count(1)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	rig.db.Exec(t, `INSERT INTO recordings (tenant, id, call_sid, source_url)
			SELECT $1, lpad(to_hex(n), 16, '0'), 'c', 'https://x' FROM generate_series(5000, 6100) n`, acme)
	var bounded struct {
		Backlog struct {
			Waiting, Uploading struct {
				Count   int
				AtLeast bool
			}
		}
	}
	rig.get(t, "/api/tenant/usage", bearer(acme, "admin"), &bounded)
	if w := bounded.Backlog.Waiting; w.Count != store.MaxWaiting || !w.AtLeast || bounded.Backlog.Uploading.AtLeast {
		t.Errorf("a long backlog: %+v", bounded)
	}
}

func TestAudit(t *testing.T) {
	rig := newRig(t)
	rig.db.Exec(t, `DELETE FROM audit_log`)
	ana := rig.people[bearer(acme, "agent")]
	session := store.NewID()
	for _, a := range []store.Audit{
		{Action: store.ActionLogin, Outcome: store.OutcomeFailure, Subject: "ana@acme.example", Reason: "password"},
		{
			Action:  store.ActionLogin,
			Outcome: store.OutcomeSuccess,
			Subject: "ana@acme.example",
			Origin: store.Origin{
				ActorID:   ana,
				SessionID: session,
				Address:   netip.MustParseAddr("2001:db8::1"),
				Device:    "curl/8",
				RequestID: "r-1",
			},
		},
		{Action: store.ActionLogout, Outcome: store.OutcomeSuccess, Origin: store.Origin{ActorID: ana}},
	} {
		if err := rig.db.Dataplane.WriteAudit(t.Context(), acme, a); err != nil {
			t.Fatal(err)
		}
	}
	rig.db.Exec(
		t,
		`UPDATE audit_log SET at = $1::timestamptz + (id - (SELECT min(id) FROM audit_log)) * interval '1 minute'`,
		now,
	)
	minute := func(n int) string { return now.Add(time.Duration(n) * time.Minute).Format(time.RFC3339) }
	for query, want := range map[string][]string{
		"":                                {"logout", "login", "login"},
		"action=login":                    {"login", "login"},
		"action=login&outcome=success":    {"login"},
		"action=user_created":             nil,
		"outcome=failure":                 {"login"},
		"actor=" + ana:                    {"logout", "login"},
		"actor=" + store.NewID():          nil,
		"since=" + minute(1):              {"logout", "login"},
		"until=" + minute(1):              {"login"},
		"limit=1":                         {"logout"},
		"actor=" + ana + "&action=logout": {"logout"},
	} {
		var got items
		rig.get(t, "/api/audit?"+query, bearer(acme, "admin"), &got)
		if diff := cmp.Diff(want, got.all("action")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", query, diff)
		}
	}
	var got items
	rig.get(t, "/api/audit?action=login&outcome=success", bearer(acme, "admin"), &got)
	delete(got.Items[0], "id")
	want := map[string]any{
		"at":        minute(1),
		"action":    "login",
		"outcome":   "success",
		"actorId":   ana,
		"subject":   "ana@acme.example",
		"sessionId": session,
		"address":   "2001:db8::1",
		"device":    "curl/8",
		"requestId": "r-1",
	}
	if diff := cmp.Diff(want, got.Items[0]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
