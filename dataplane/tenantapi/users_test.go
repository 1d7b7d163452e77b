package tenantapi_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
)

func TestUsers(t *testing.T) {
	rig := newRig(t)
	admin := bearer(acme, "admin")
	var got items
	rig.get(t, "/api/users", admin, &got)
	if diff := cmp.Diff(
		[]string{"admin@acme.support.example", "agent@acme.support.example", "viewer@acme.support.example"},
		got.all("email"),
	); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	if _, ok := got.Items[0]["passwordHash"]; ok || got.Items[0]["disabled"] != false ||
		got.Items[0]["invited"] != false ||
		got.Items[0]["verifiedAt"] == nil {
		t.Errorf("%v", got.Items[0])
	}
	for name, tc := range map[string]struct {
		method, path, body string
		status             int
		code, field        string
	}{
		"invite an invalid email": {
			"POST",
			"/api/users",
			`{"email":"jane","role":"agent"}`,
			400,
			"validation",
			"/email",
		},
		"invite without a role": {"POST", "/api/users", `{"email":"a@acme.example"}`, 400, "validation", ""},
		"invite to another role": {
			"POST",
			"/api/users",
			`{"email":"a@acme.example","role":"owner"}`,
			400,
			"validation",
			"/role",
		},
		"invite with a password": {
			"POST",
			"/api/users",
			`{"email":"a@acme.example","role":"agent","password":"x"}`,
			400,
			"validation",
			"/password",
		},
		"invite somebody twice": {
			"POST",
			"/api/users",
			`{"email":"Agent@Acme.support.example","role":"agent"}`,
			409,
			"conflict",
			"",
		},
		"change nothing": {"PATCH", "/api/users/" + rig.people[admin], `{}`, 400, "validation", "/role"},
		"change to another role": {
			"PATCH",
			"/api/users/" + rig.people[admin],
			`{"role":"owner"}`,
			400,
			"validation",
			"/role",
		},
		"change somebody unknown": {"PATCH", "/api/users/" + store.NewID(), `{"role":"agent"}`, 404, "not_found", ""},
		"change an invalid id":    {"PATCH", "/api/users/jane", `{"role":"agent"}`, 400, "validation", "id"},
		"the last admin's role": {
			"PATCH",
			"/api/users/" + rig.people[admin],
			`{"role":"viewer"}`,
			409,
			"conflict",
			"",
		},
		"disable the last admin": {
			"PATCH",
			"/api/users/" + rig.people[admin],
			`{"disabled":true}`,
			409,
			"conflict",
			"",
		},
	} {
		answer := rig.ask(tc.method, tc.path, admin, tc.body)
		if answer.Status != tc.status || answer.Code() != tc.code ||
			(tc.field != "" && !hasField(answer.Body, tc.field)) {
			t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
		}
	}
}

func TestInviteAndChange(t *testing.T) {
	rig := newRig(t)
	admin := bearer(acme, "admin")
	answer := rig.ask("POST", "/api/users", admin, `{"email":" Jane@Acme.example","role":"admin"}`)
	var jane struct {
		ID, Email, Role   string
		Invited, Disabled bool
	}
	answer.JSON(t, &jane)
	if answer.Status != http.StatusCreated || jane.Email != "jane@acme.example" || jane.Role != "admin" ||
		!jane.Invited ||
		jane.Disabled {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	rig.counts(t, map[string]int{
		`SELECT count(*)::int FROM mail_outbox WHERE tenant = 'acme/support' AND recipient = 'jane@acme.example'
			AND template = 'invitation'`: 1,
		`SELECT count(*)::int FROM password_reset_tokens WHERE tenant = 'acme/support'
			AND user_id = '` + jane.ID + `'`: 1,
	})
	// She has not accepted yet, so the one who can sign in stays the last.
	if answer := rig.ask("PATCH", "/api/users/"+rig.people[admin], admin, `{"disabled":true}`); answer.Status != 409 {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	rig.db.Exec(t, `UPDATE users SET email_verified_at = now(), password_hash = 'x' WHERE id = $1`, jane.ID)
	agent := rig.people[bearer(acme, "agent")]
	rig.session(t, agent)
	for _, step := range []struct{ body, role, disabled string }{
		{`{"role":"viewer"}`, "viewer", "false"},
		{`{"disabled":true}`, "viewer", "true"},
		{`{"disabled":true}`, "viewer", "true"},
		{`{"disabled":false,"role":"agent"}`, "agent", "false"},
	} {
		var got map[string]any
		answer := rig.ask("PATCH", "/api/users/"+agent, admin, step.body)
		answer.JSON(t, &got)
		if answer.Status != 200 || got["role"] != step.role || fmt.Sprint(got["disabled"]) != step.disabled {
			t.Errorf("%s: %d %s", step.body, answer.Status, answer.Body)
		}
	}
	if answer := rig.ask("PATCH", "/api/users/"+rig.people[admin], admin, `{"disabled":true}`); answer.Status != 200 {
		t.Errorf("not the last any more: %d %s", answer.Status, answer.Body)
	}
	rig.counts(t, map[string]int{
		`SELECT count(*)::int FROM login_sessions WHERE ended_at IS NULL AND user_id = '` + agent + `'`:     0,
		`SELECT count(*)::int FROM revocations WHERE tenant = 'acme/support' AND user_id = '` + agent + `'`: 3,
		`SELECT count(*)::int FROM audit_log WHERE action = 'user_role_changed'
			AND actor_id = '` + rig.people[admin] + `'`: 2,
		`SELECT count(*)::int FROM audit_log WHERE action = 'user_disabled' AND request_id <> ''
			AND subject LIKE 'agent@%'`: 1,
		`SELECT count(*)::int FROM audit_log WHERE action IN ('user_enabled', 'user_invited')
			AND actor_id = '` + rig.people[admin] + `'`: 2,
	})
}

// TestRevokeUserSessions verifies that an admin can end all sessions of a user, and that the user is not otherwise
// changed.
func TestRevokeUserSessions(t *testing.T) {
	rig := newRig(t)
	admin := bearer(acme, "admin")
	agent := rig.people[bearer(acme, "agent")]
	rig.session(t, agent)
	rig.session(t, agent)
	rig.session(t, rig.people[bearer(acme, "viewer")])
	for name, tc := range map[string]struct {
		bearer, id string
		status     int
		code       string
	}{
		"as an agent, of oneself": {bearer(acme, "agent"), agent, 403, "forbidden"},
		"as a viewer":             {bearer(acme, "viewer"), agent, 403, "forbidden"},
		"as another tenant's":     {bearer(globex, "admin"), agent, 404, "not_found"},
		"unknown":                 {admin, store.NewID(), 404, "not_found"},
		"no id":                   {admin, "jane", 400, "validation"},
	} {
		if answer := rig.ask("DELETE", "/api/users/"+tc.id+"/sessions", tc.bearer, ""); answer.Status != tc.status ||
			answer.Code() != tc.code {
			t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
		}
	}
	rig.counts(t, map[string]int{
		`SELECT count(*)::int FROM login_sessions WHERE ended_at IS NULL`: 3,
		`SELECT count(*)::int FROM revocations`:                           0,
	})
	for _, want := range []int{2, 0} {
		answer := rig.ask("DELETE", "/api/users/"+agent+"/sessions", admin, "")
		var got struct{ Ended int }
		if answer.JSON(t, &got); answer.Status != 200 || got.Ended != want {
			t.Errorf("%d %s, want %d", answer.Status, answer.Body, want)
		}
	}
	rig.counts(t, map[string]int{
		`SELECT count(*)::int FROM login_sessions WHERE end_reason = 'revoked' AND user_id = '` + agent + `'`: 2,
		`SELECT count(*)::int FROM login_sessions WHERE ended_at IS NULL`:                                     1,
		`SELECT count(*)::int FROM revocations WHERE user_id = '` + agent + `'`:                               2,
		`SELECT count(*)::int FROM users WHERE disabled_at IS NULL AND id = '` + agent + `'`:                  1,
		`SELECT count(*)::int FROM audit_log WHERE action = 'sessions_revoked'
			AND actor_id = '` + rig.people[admin] + `' AND subject LIKE 'agent@%'`: 2,
	})
	if diff := cmp.Diff([]string{acme + " " + agent, acme + " " + agent}, rig.revoked.users); diff != "" {
		t.Errorf("shut out on this pod (-want +got):\n%s", diff)
	}
}

// session is one that is alive.
func (r *rig) session(t *testing.T, user string) {
	t.Helper()
	r.db.Exec(t, `INSERT INTO login_sessions (tenant, id, user_id, hmac_key, expires_at)
			VALUES ($1, gen_random_uuid(), $2, decode(repeat('00', 32), 'hex'),
		now() + interval '1 hour')`, acme, user)
}

// counts wants what statements count, as the superuser.
func (r *rig) counts(t *testing.T, want map[string]int) {
	t.Helper()
	for sql, n := range want {
		if got := r.db.Number(t, sql); got != n {
			t.Errorf("%s: %d, want %d", sql, got, n)
		}
	}
}
