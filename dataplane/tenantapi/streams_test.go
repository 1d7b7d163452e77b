package tenantapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
)

// streamID is of the nth stream that insertStream makes.
func streamID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// insertStream makes a row of a stream; one without a reason is live.
func (r *rig) insertStream(t *testing.T, tenant, id, sid, reason string, at time.Time) {
	t.Helper()
	r.db.Exec(
		t,
		`INSERT INTO stream_sessions (tenant, id, call_sid, pod, agent, started_at, last_seen_at, end_reason, ended_at)
		VALUES ($1, $2, $3, 'pod', 'bot.example', $4, $4, $5,
			CASE WHEN $5 <> '' THEN $4::timestamptz + interval '1 minute' END)`,
		tenant, id, sid, at, reason,
	)
}

func TestStreams(t *testing.T) {
	rig := newRig(t)
	for n, sid := range []string{"c0", "c1", "c1", "a b"} {
		rig.insertStream(
			t, acme, streamID(n), sid, []string{"", "call_ended", "", "orphaned"}[n], ago(time.Duration(n)*time.Hour),
		)
	}
	ids := func(n ...int) (list []string) {
		for _, n := range n {
			list = append(list, streamID(n))
		}
		return list
	}
	for query, want := range map[string][]string{
		"":                       ids(0, 1, 2, 3),
		"live=true":              ids(0, 2),
		"live=false":             ids(0, 1, 2, 3),
		"callSid=c1":             ids(1, 2),
		"callSid=c1&live=true":   ids(2),
		"callSid=a+b":            ids(3),
		"callSid=nobody":         nil,
		"limit=1":                ids(0),
		"callSid='+OR+true--":    nil,
		"live=true&callSid=a%20": nil,
		"since=" + ago(time.Hour).Format(time.RFC3339):           ids(0, 1),
		"live=true&until=" + ago(time.Hour).Format(time.RFC3339): ids(2),
		"until=" + ago(10*time.Hour).Format(time.RFC3339):        nil,
	} {
		var got items
		rig.get(t, "/api/streams?"+query, bearer(acme, "viewer"), &got)
		if diff := cmp.Diff(want, got.all("id")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", query, diff)
		}
	}
}

// TestStream verifies all fields of a stream, in each of its states.
func TestStream(t *testing.T) {
	rig := newRig(t)
	rig.insertStream(t, acme, streamID(1), "", "", ago(time.Hour))
	zero := map[string]any{"frames": 0.0, "bytes": 0.0, "dropped": 0.0}
	at := "2026-03-10T14:00:00Z"
	want := map[string]any{
		"id":          streamID(1),
		"state":       "live",
		"pod":         "pod",
		"agent":       "bot.example",
		"startedAt":   at,
		"lastSeenAt":  at,
		"reconnected": false,
		"toAgent":     zero,
		"toExotel":    zero,
	}
	check := func(what string) {
		t.Helper()
		var got map[string]any
		rig.get(t, "/api/streams/"+streamID(1), bearer(acme, "viewer"), &got)
		delete(got, "$schema")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("live")
	rig.db.Exec(t, `UPDATE stream_sessions SET call_sid = 'c1', stream_sid = 's1', close_requested_at = now(),
			frames_to_agent = 1, bytes_to_agent = 2, dropped_to_agent = 3,
		frames_to_exotel = 4, bytes_to_exotel = 5, dropped_to_exotel = 6, address = '203.0.113.9',
			token_id = 'topsecret'`)
	want["callSid"], want["streamSid"], want["state"] = "c1", "s1", "closing"
	want["toAgent"], want["toExotel"] = map[string]any{
		"frames":  1.0,
		"bytes":   2.0,
		"dropped": 3.0,
	}, map[string]any{
		"frames":  4.0,
		"bytes":   5.0,
		"dropped": 6.0,
	}
	check("closing")
	rig.db.Exec(t, `UPDATE stream_sessions SET ended_at = $1, end_reason = 'closed', reconnected = true`, ago(0))
	want["state"], want["endedAt"], want["endReason"], want["reconnected"] = "ended", "2026-03-10T15:00:00Z", "closed", true
	check("ended")
	for path, status := range map[string]int{
		streamID(2):                             404,
		"x":                                     400,
		strings.ToUpper(streamID(1)[:35] + "a"): 400,
		streamID(1) + "0":                       400,
		"close":                                 400,
		"%00":                                   400,
	} {
		if answer := rig.ask("GET", "/api/streams/"+path, bearer(acme, "viewer"), ""); answer.Status != status {
			t.Errorf("%s: %d %s", path, answer.Status, answer.Body)
		}
	}
}

// TestCloseStream checks the answer for each role and kind of stream, and that the audit log has one row.
func TestCloseStream(t *testing.T) {
	rig := newRig(t)
	rig.insertStream(t, acme, streamID(1), "c1", "", ago(time.Hour))
	rig.insertStream(t, acme, streamID(2), "c2", "call_ended", ago(time.Hour))
	rig.insertStream(t, globex, streamID(3), "c3", "", ago(time.Hour))
	admin := bearer(acme, "admin")
	for name, tc := range map[string]struct {
		bearer, id string
		status     int
		code       string
	}{
		"as an agent":      {bearer(acme, "agent"), streamID(1), 403, "forbidden"},
		"as a viewer":      {bearer(acme, "viewer"), streamID(1), 403, "forbidden"},
		"as another":       {bearer(globex, "admin"), streamID(1), 404, "not_found"},
		"another tenant's": {admin, streamID(3), 404, "not_found"},
		"unknown":          {admin, store.NewID(), 404, "not_found"},
		"no id":            {admin, "1", 400, "validation"},
		"ended":            {admin, streamID(2), 409, "conflict"},
	} {
		if answer := rig.ask("DELETE", "/api/streams/"+tc.id, tc.bearer, ""); answer.Status != tc.status ||
			answer.Code() != tc.code {
			t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
		}
	}
	rig.counts(t, map[string]int{
		`SELECT count(*)::int FROM stream_sessions WHERE close_requested_at IS NOT NULL`: 0,
		`SELECT count(*)::int FROM audit_log WHERE action LIKE 'stream%'`:                0,
	})
	for range 2 {
		answer := rig.ask("DELETE", "/api/streams/"+streamID(1), admin, "")
		var got struct{ ID, State string }
		if answer.JSON(t, &got); answer.Status != http.StatusAccepted || got.ID != streamID(1) ||
			got.State != "closing" {
			t.Errorf("%d %s", answer.Status, answer.Body)
		}
	}
	rig.counts(t, map[string]int{
		`SELECT count(*)::int FROM stream_sessions WHERE close_requested_at IS NOT NULL`: 1,
		`SELECT count(*)::int FROM audit_log WHERE tenant = 'acme/support' AND action = 'stream_closed'
			AND outcome = 'success' AND request_id <> '' AND
			session_id IS NOT NULL AND actor_id = '` + rig.people[admin] + `' AND reason = 'stream ` + streamID(1) + `'`: 1,
		`SELECT count(*)::int FROM audit_log WHERE action LIKE 'stream%'`: 1,
	})
	var got items
	if rig.get(t, "/api/audit?action=stream_closed", admin, &got); len(got.Items) != 1 ||
		got.Items[0]["reason"] != "stream "+streamID(1) {
		t.Errorf("the audit log shows %v", got.Items)
	}
}

// TestCloseStreams verifies that all live streams of the tenant are closed, and streams of other tenants are not.
func TestCloseStreams(t *testing.T) {
	rig := newRig(t)
	for n := range 3 {
		rig.insertStream(t, acme, streamID(n), "c", []string{"", "", "call_ended"}[n], ago(time.Hour))
		rig.insertStream(t, globex, streamID(n), "c", "", ago(time.Hour))
	}
	for _, role := range []string{"agent", "viewer"} {
		if answer := rig.ask("POST", "/api/streams/close", bearer(acme, role), ""); answer.Status != 403 {
			t.Errorf("as %s: %d %s", role, answer.Status, answer.Body)
		}
	}
	for range 2 {
		answer := rig.ask("POST", "/api/streams/close", bearer(acme, "admin"), "")
		var got struct{ Closing int }
		if answer.JSON(t, &got); answer.Status != http.StatusAccepted || got.Closing != 2 {
			t.Errorf("%d %s", answer.Status, answer.Body)
		}
	}
	rig.counts(t, map[string]int{
		`SELECT count(*)::int FROM stream_sessions WHERE tenant = 'acme/support' AND close_requested_at IS NOT NULL
			AND ended_at IS NULL`: 2,
		`SELECT count(*)::int FROM stream_sessions WHERE close_requested_at IS NOT NULL`: 2,
		`SELECT count(*)::int FROM audit_log WHERE tenant = 'acme/support' AND action = 'streams_closed'
			AND reason = 'live streams: 2'`: 1,
		`SELECT count(*)::int FROM audit_log WHERE action LIKE 'stream%'`: 1,
	})
}

// TestStreamsWithoutDatabase verifies that each operation reports that the database is unreachable, and changes
// nothing.
func TestStreamsWithoutDatabase(t *testing.T) {
	rig := newRig(t)
	rig.insertStream(t, acme, streamID(1), "c1", "", ago(time.Hour))
	user := rig.people[bearer(acme, "viewer")]
	rig.db.Stop(t)
	for _, op := range []string{"GET /api/streams", "GET /api/streams/" + streamID(1),
		"DELETE /api/streams/" + streamID(1), "POST /api/streams/close",
		"DELETE /api/users/" + user + "/sessions"} {
		method, path, _ := strings.Cut(op, " ")
		if answer := rig.ask(method, path, bearer(acme, "admin"), ""); answer.Status != 503 ||
			answer.Code() != "database" {
			t.Errorf("%s: %d %s", op, answer.Status, answer.Body)
		}
	}
	rig.db.Start(t)
	rig.counts(t, map[string]int{
		`SELECT count(*)::int FROM stream_sessions WHERE close_requested_at IS NULL AND ended_at IS NULL`: 1,
	})
}
