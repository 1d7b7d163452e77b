package tenantapi_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// fill gives a tenant one of everything, and the word in whatever it is free to write.
func (r *rig) fill(t *testing.T, tenant, word, recording string) {
	t.Helper()
	r.insertCall(t, tenant, word, ago(time.Hour))
	r.db.Exec(
		t, `UPDATE calls SET custom_field = $2, recording_ids = ARRAY[$3] WHERE tenant = $1`, tenant, word, recording,
	)
	r.db.Exec(t, `INSERT INTO call_streams (tenant, call_sid, stream_sid, error)
			VALUES ($1, 'shared', $2, $2), ($1, $2, $2, $2)`, tenant, word)
	r.insertCall(t, tenant, "shared", ago(time.Hour)) // a call of this id is in both
	r.insertRecording(t, tenant, recording, word, "uploaded", "bucket", tenant+"/"+word, ago(time.Hour))
	r.insertRecording(t, tenant, recordingID(7), "shared", "pending", "", "", ago(time.Hour)) // and a recording
	r.db.Exec(t, `UPDATE recordings SET last_error = $2 WHERE tenant = $1`, tenant, word)
	if err := r.db.Dataplane.WriteAudit(t.Context(), tenant, store.Audit{
		Action:  store.ActionLogin,
		Outcome: store.OutcomeSuccess,
		Subject: word,
	}); err != nil {
		t.Fatal(err)
	}
}

// crossed is an operation, asked for by each tenant with the other's ids.
type crossed struct {
	method, path, body string
	status             int
}

// TestOtherTenantsAreOutOfReach asks for everything with everything of another tenant, on every route that there is.
func TestOtherTenantsAreOutOfReach(t *testing.T) {
	rig := newRig(t)
	rig.storeAt(s3test.New(t), "bucket")
	rig.fill(t, acme, "acme-word", recordingID(1))
	rig.fill(t, globex, "globex-word", recordingID(2))
	agent := rig.people[bearer(globex, "agent")]
	rig.insertStream(t, acme, streamID(1), "acme-word", "", ago(time.Hour))
	rig.insertStream(t, globex, streamID(2), "globex-word", "", ago(time.Hour))
	cases := map[string]crossed{
		"listCalls":         {"GET", "/api/calls", "", 200},
		"getCall":           {"GET", "/api/calls/globex-word", "", 404},
		"listRecordings":    {"GET", "/api/recordings", "", 200},
		"getRecording":      {"GET", "/api/recordings/" + recordingID(2), "", 404},
		"downloadRecording": {"GET", "/api/recordings/" + recordingID(2) + "/download", "", 404},
		"getTenant":         {"GET", "/api/tenant", "", 200},
		"getUsage":          {"GET", "/api/tenant/usage", "", 200},
		"listAudit":         {"GET", "/api/audit", "", 200},
		"listUsers":         {"GET", "/api/users", "", 200},
		"inviteUser": {
			"POST",
			"/api/users",
			`{"email":"agent@globex.sales.example","role":"viewer"}`,
			201,
		}, // another account of that email
		"changeUser":         {"PATCH", "/api/users/" + agent, `{"role":"admin","disabled":true}`, 404},
		"revokeUserSessions": {"DELETE", "/api/users/" + agent + "/sessions", "", 404},
		"listStreams":        {"GET", "/api/streams", "", 200},
		"getStream":          {"GET", "/api/streams/" + streamID(2), "", 404},
		"closeStream":        {"DELETE", "/api/streams/" + streamID(2), "", 404},
		"closeStreams":       {"POST", "/api/streams/close", "", 202}, // acme's own
	}
	theirs := []string{
		"globex-word",
		globex,
		agent,
		streamID(2),
		rig.people[bearer(globex, "admin")],
		rig.people[bearer(globex, "viewer")],
	}
	var covered []string
	for id, c := range cases {
		covered = append(covered, id)
		answer := rig.ask(c.method, c.path, bearer(acme, "admin"), c.body)
		if answer.Status != c.status ||
			slices.ContainsFunc(theirs, func(s string) bool { return strings.Contains(string(answer.Body), s) }) {
			t.Errorf("%s: %d %s", id, answer.Status, answer.Body)
		}
		// A tenant that the request names in addition to the token's only makes it refused.
		named := strings.Replace(c.path, "/api/", "/t/"+globex+"/api/", 1)
		if answer := rig.ask(c.method, named, bearer(acme, "admin"), c.body); answer.Status != 401 ||
			answer.Code() != "invalid_token" {
			t.Errorf("%s of the other by path: %d %s", id, answer.Status, answer.Body)
		}
	}
	slices.Sort(covered)
	if diff := cmp.Diff(operations(t, rig.Document()), covered); diff != "" {
		t.Errorf("operations (-there +tested):\n%s", diff)
	}
	for query, want := range map[string]int{
		"/api/calls?from=%2B918047491899":     2,
		"/api/recordings?callSid=globex-word": 0,
		"/api/recordings?callSid=shared":      1,
		"/api/streams?callSid=globex-word":    0,
		"/api/streams?live=true":              1,
		"/api/audit?actor=" + agent:           0,
	} {
		var got items
		if rig.get(t, query, bearer(acme, "admin"), &got); len(got.Items) != want {
			t.Errorf("%s: %v, want %d", query, got.Items, want)
		}
	}
	var call map[string]any
	rig.get(t, "/api/calls/shared", bearer(acme, "viewer"), &call)
	if text, _ := json.Marshal(call); strings.Contains(string(text), "globex-word") ||
		!strings.Contains(string(text), "acme-word") {
		t.Errorf("a call whose id both have: %s", text)
	}
	rig.counts(t, map[string]int{
		`SELECT count(*)::int FROM users WHERE tenant = 'globex/sales' AND role = 'agent' AND disabled_at IS NULL
			AND id = '` + agent + `'`: 1,
		// three hired, one login
		`SELECT count(*)::int FROM audit_log WHERE tenant = 'globex/sales'`:                                      4,
		`SELECT count(*)::int FROM mail_outbox WHERE tenant = 'globex/sales'`:                                    0,
		`SELECT count(*)::int FROM revocations WHERE tenant = 'globex/sales'`:                                    0,
		`SELECT count(*)::int FROM stream_sessions WHERE tenant = 'globex/sales' AND close_requested_at IS NULL`: 1,
		`SELECT count(*)::int FROM stream_sessions WHERE tenant = 'acme/support' AND close_requested_at IS NULL`: 0,
	})
}

// TestRoles verifies that each operation accepts exactly the roles that the document names.
func TestRoles(t *testing.T) {
	rig := newRig(t)
	all := []string{"admin", "agent", "viewer"}
	staff := []string{"admin", "agent"}
	admins := []string{"admin"}
	for _, tc := range []struct {
		method, path, body string
		roles              []string
	}{
		{"GET", "/api/calls", "", all}, {"GET", "/api/calls/c0", "", all}, {"GET", "/api/recordings", "", all},
		{"GET", "/api/recordings/" + recordingID(1), "", all},
		{"GET", "/api/recordings/" + recordingID(1) + "/download", "", staff},
		{"GET", "/api/tenant", "", all},
		{"GET", "/api/tenant/usage", "", admins}, {"GET", "/api/audit", "", admins}, {"GET", "/api/users", "", admins},
		{"GET", "/api/streams", "", all},
		{"GET", "/api/streams/" + streamID(1), "", all},
		{"DELETE", "/api/streams/" + streamID(1), "", admins},
		{"POST", "/api/streams/close", "", admins}, {"DELETE", "/api/users/" + store.NewID() + "/sessions", "", admins},
		{"POST", "/api/users", `{}`, admins}, {"PATCH", "/api/users/" + store.NewID(), `{}`, admins},
	} {
		for _, role := range all {
			answer := rig.ask(tc.method, tc.path, bearer(acme, role), tc.body)
			if refused := answer.Status == 403 &&
				answer.Code() == "forbidden"; refused == slices.Contains(tc.roles, role) ||
				answer.Status == 401 {
				t.Errorf("%s %s as %s: %d %s", tc.method, tc.path, role, answer.Status, answer.Body)
			}
		}
		if answer := rig.ask(tc.method, tc.path, "nobody", tc.body); answer.Status != 401 ||
			answer.Code() != "invalid_token" {
			t.Errorf("%s %s as nobody: %d %s", tc.method, tc.path, answer.Status, answer.Body)
		}
	}
}

// operations are the ids of a document's operations, sorted.
func operations(t *testing.T, document []byte) (ids []string) {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]struct{ OperationID string }
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		t.Fatal(err)
	}
	for path, item := range doc.Paths {
		if strings.HasPrefix(path, "/api/test/") {
			continue
		}
		for _, op := range item {
			ids = append(ids, op.OperationID)
		}
	}
	slices.Sort(ids)
	return ids
}
