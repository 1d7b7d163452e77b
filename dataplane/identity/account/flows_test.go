package account_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/identity/account"
	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/store"
)

// TestLife goes from registration to logout, each request to another pod than the last.
func TestLife(t *testing.T) {
	rig := newRig(t)
	rig.post(t, "register", fields{"email": " Jane@ACME.example ", "password": good}).must(t, http.StatusAccepted)
	rig.post(t, "login", fields{
		"email":    jane,
		"password": good,
	}).want(t, "before the email is verified", 401, "authentication")
	code := rig.mail(t, jane, mail.VerifyEmail).Data.Code.Reveal()
	rig.post(t, "verify-email", fields{"email": jane, "code": code}).must(t, http.StatusOK)
	first := rig.login(t, "JANE@acme.example", good)
	if first.TokenType != "Bearer" || first.ExpiresIn != 900 || first.User.Email != jane ||
		first.User.Role != store.RoleViewer {
		t.Errorf("login answered %+v", first.User)
	}
	second := rig.refresh(t, first.RefreshToken).tokens(t)
	if second.RefreshToken == first.RefreshToken || second.AccessToken == first.AccessToken {
		t.Error("the refresh gave an old token")
	}
	var me struct{ ID, Email, Role, Tenant, SessionID string }
	rig.do(t, request{
		method: http.MethodGet,
		path:   "/api/auth/me",
		bearer: second.AccessToken,
	}).must(t, 200).JSON(t, &me)
	if me.ID != first.User.ID || me.Email != jane || me.Tenant != acme || me.SessionID == "" {
		t.Errorf("me answered %+v", me)
	}
	rig.do(t, request{
		path:   "/api/auth/logout",
		bearer: second.AccessToken,
		pod:    rig.pods[0],
	}).must(t, http.StatusNoContent)
	rig.do(t, request{
		method: http.MethodGet,
		path:   "/api/auth/me",
		bearer: second.AccessToken,
		pod:    rig.pods[0],
	}).want(t, "after logout, same pod", 401, "invalid_token")
	soon.Holds(t, "the other pod sees the logout", func() bool {
		return rig.do(t, request{
			method: http.MethodGet,
			path:   "/api/auth/me",
			bearer: second.AccessToken,
			pod:    rig.pods[1],
		}).Status == 401
	})
	rig.refresh(t, second.RefreshToken).want(t, "refresh after logout", 401, "invalid_token")
	got := rig.text(t, `SELECT string_agg(action || '/' || outcome, ' ' ORDER BY id) FROM audit_log`)
	if want := "register/success login/failure verify_email/success login/success logout/success"; got != want {
		t.Errorf("the audit log has %q, want %q", got, want)
	}
	rig.noSecrets(t, good, code, first.AccessToken, first.RefreshToken, second.AccessToken, second.RefreshToken)
}

// noSecrets looks for secrets in the log, the audit log and the rows that are not sealed.
func (r *rig) noSecrets(t *testing.T, secrets ...string) {
	t.Helper()
	rows := r.text(
		t,
		`SELECT (SELECT string_agg(a::text, ' ') FROM audit_log a) || (SELECT string_agg(u::text, ' ') FROM users u) ||
		coalesce((SELECT string_agg(s::text, ' ') FROM login_sessions s), '') ||
			(SELECT string_agg(encode(m.sealed, 'escape') || m.event_key, ' ') FROM mail_outbox m)`,
	)
	for _, s := range secrets {
		if strings.Contains(r.log.String(), s) {
			t.Errorf("the log has %q", s)
		}
		if strings.Contains(rows, s) {
			t.Errorf("a row has %q", s)
		}
	}
}

func TestSessions(t *testing.T) {
	rig := newRig(t)
	rig.user(t, acme, jane, store.RoleAgent)
	rig.user(t, acme, "joe@acme.example", store.RoleAgent)
	mine := rig.login(t, jane, good)
	other := rig.login(t, jane, good)
	joes := rig.login(t, "joe@acme.example", good)
	list := rig.sessions(t, mine.AccessToken)
	if len(list) != 2 || list[0].Current == list[1].Current || list[0].Device != "test/1.0" || list[0].Address != home {
		t.Fatalf("sessions %+v", list)
	}
	otherID := list[0].ID
	if list[0].Current {
		otherID = list[1].ID
	}
	end := func(id, bearer string) answer {
		return rig.do(t, request{method: http.MethodDelete, path: "/api/auth/sessions/" + id, bearer: bearer})
	}
	end(otherID, joes.AccessToken).want(t, "somebody else's", 404, "not_found")
	end("00000000-0000-4000-8000-000000000000", mine.AccessToken).want(t, "nobody's", 404, "not_found")
	end("me", mine.AccessToken).want(t, "no id", 404, "not_found")
	end(otherID, mine.AccessToken).must(t, http.StatusNoContent)
	end(otherID, mine.AccessToken).want(t, "again", 404, "not_found")
	rig.refresh(t, other.RefreshToken).want(t, "its refresh", 401, "invalid_token")
	soon.Holds(t, "its access ends", func() bool {
		return rig.do(t, request{method: http.MethodGet, path: "/api/auth/me", bearer: other.AccessToken}).Status == 401
	})
	if list := rig.sessions(t, mine.AccessToken); len(list) != 1 || !list[0].Current {
		t.Errorf("what is left: %+v", list)
	}
	rig.refresh(t, joes.RefreshToken).must(t, 200)
}

func (r *rig) sessions(t *testing.T, bearer string) []account.Session {
	t.Helper()
	var out struct{ Items []account.Session }
	r.do(t, request{method: http.MethodGet, path: "/api/auth/sessions", bearer: bearer}).must(t, 200).JSON(t, &out)
	return out.Items
}

func TestLogoutAll(t *testing.T) {
	rig := newRig(t)
	rig.user(t, acme, jane, store.RoleAgent)
	a := rig.login(t, jane, good)
	b := rig.login(t, jane, good)
	rig.do(t, request{path: "/api/auth/logout-all", bearer: a.AccessToken}).must(t, http.StatusNoContent)
	for name, tk := range map[string]tokens{"this": a, "the other": b} {
		rig.refresh(t, tk.RefreshToken).want(t, name+" session's refresh", 401, "invalid_token")
		soon.Holds(t, name+" session's access ends", func() bool {
			return rig.do(t, request{
				method: http.MethodGet,
				path:   "/api/auth/me",
				bearer: tk.AccessToken,
			}).Status == 401
		})
	}
	again := rig.login(t, jane, good) // at once: what was revoked is older
	rig.do(t, request{method: http.MethodGet, path: "/api/auth/me", bearer: again.AccessToken}).must(t, 200)
}

func TestReset(t *testing.T) {
	rig := newRig(t)
	rig.user(t, acme, jane, store.RoleAgent)
	before := rig.login(t, jane, good)
	rig.post(t, "forgot-password", fields{"email": jane}).must(t, http.StatusAccepted)
	raw := rig.mail(t, jane, mail.ResetPassword).Data.Code.Reveal()
	reset := func(token, pw string) answer {
		return rig.post(t, "reset-password", fields{"token": token, "password": pw})
	}
	refused := reset(raw, weak)
	refused.want(t, "a weak password", 400, "validation")
	if !strings.Contains(string(refused.Body), `"/password"`) {
		t.Errorf("the field is not named: %s", refused.Body)
	}
	reset("x"+raw, better).want(t, "another token", 400, "validation")
	rig.do(t, request{
		path:   "/api/auth/reset-password",
		tenant: globex,
		body:   fields{"token": raw, "password": better},
	}).want(t, "another tenant", 400, "validation")
	reset(raw, better).must(t, http.StatusNoContent)
	reset(raw, good).want(t, "used twice", 400, "validation")
	rig.mail(t, jane, mail.PasswordChanged)
	rig.refresh(t, before.RefreshToken).want(t, "the old session's refresh", 401, "invalid_token")
	soon.Holds(t, "the old access ends", func() bool {
		return rig.do(t, request{
			method: http.MethodGet,
			path:   "/api/auth/me",
			bearer: before.AccessToken,
		}).Status == 401
	})
	rig.post(t, "login", fields{"email": jane, "password": good}).want(t, "the old password", 401, "authentication")
	after := rig.login(t, jane, better) // at once: what was revoked is older
	rig.do(t, request{method: http.MethodGet, path: "/api/auth/me", bearer: after.AccessToken}).must(t, 200)
	rig.noSecrets(t, good, better, raw, after.RefreshToken)
}

// TestResetLink verifies that the mail of a tenant with its own host has a link to that host.
func TestResetLink(t *testing.T) {
	rig := newRig(t)
	rig.acme.Auth.Hosts = []string{"voice.acme.example", "other.acme.example"}
	rig.user(t, acme, jane, store.RoleAgent)
	rig.post(t, "forgot-password", fields{"email": jane}).must(t, http.StatusAccepted)
	message := rig.mail(t, jane, mail.ResetPassword)
	raw, ok := strings.CutPrefix(message.Data.Link.Reveal(), "https://voice.acme.example/reset-password?token=")
	if !ok || message.Data.Code != "" || message.Data.Service != "voice.acme.example" {
		t.Fatalf("the mail's link is %q", message.Data.Link.Reveal())
	}
	rig.post(t, "reset-password", fields{"token": raw, "password": better}).must(t, http.StatusNoContent)
}

func TestChangePassword(t *testing.T) {
	rig := newRig(t)
	rig.user(t, acme, jane, store.RoleAgent)
	mine := rig.login(t, jane, good)
	other := rig.login(t, jane, good)
	change := func(current, pw string) answer {
		return rig.do(t, request{
			path:   "/api/auth/change-password",
			bearer: mine.AccessToken,
			body:   fields{"currentPassword": current, "newPassword": pw},
		})
	}
	change(better, better).want(t, "a wrong current password", 400, "validation")
	change(good, weak).want(t, "a weak new password", 400, "validation")
	change(good, better).must(t, http.StatusNoContent)
	change(good, "eleven yellow medlars").want(t, "the one before", 400, "validation")
	rig.mail(t, jane, mail.PasswordChanged)
	rig.refresh(t, other.RefreshToken).want(t, "the other session", 401, "invalid_token")
	rig.refresh(t, mine.RefreshToken).must(t, 200)
	rig.login(t, jane, better)
	if got := rig.text(
		t, `SELECT count(*) FROM audit_log WHERE action = 'password_changed' AND outcome = 'failure'`,
	); got != "2" {
		t.Errorf("%s failures in the audit log, want 2", got)
	}
}

func TestInvitation(t *testing.T) {
	rig := newRig(t)
	rig.acme.Auth.OpenRegistration = false
	user, err := rig.pods[0].svc.Invite(t.Context(), rig.acme, " Jane@acme.example", store.RoleAdmin)
	if err != nil || !user.Invited || user.Email != jane || user.Role != store.RoleAdmin {
		t.Fatalf("%+v, %v", user, err)
	}
	if _, err := rig.pods[1].svc.Invite(t.Context(), rig.acme, jane, store.RoleViewer); err == nil ||
		!strings.HasPrefix(err.Error(), "conflict") {
		t.Errorf("invited twice: %v", err)
	}
	rig.post(t, "login", fields{"email": jane, "password": ""}).want(t, "no password", 401, "authentication")
	raw := rig.mail(t, jane, mail.Invitation).Data.Code.Reveal()
	rig.post(t, "reset-password", fields{"token": raw, "password": good}).must(t, http.StatusNoContent)
	if tk := rig.login(t, jane, good); tk.User.Role != store.RoleAdmin {
		t.Errorf("role %s", tk.User.Role)
	}
}

// TestLoginUpgradesParameters shows that a login replaces a hash of other parameters by one of the same password.
func TestLoginUpgradesParameters(t *testing.T) {
	rig := newRig(t)
	id := rig.user(t, acme, jane, store.RoleAgent)
	const old = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc" // of "password"
	rig.db.Exec(t, `UPDATE users SET password_hash = $1`, old)
	rig.post(t, "login", fields{"email": jane, "password": "Password"}).want(t, "a wrong one", 401, "authentication")
	if got := rig.text(t, `SELECT password_hash FROM users WHERE id = $1`, id); got != old {
		t.Errorf("a wrong password changed the hash to %s", got)
	}
	rig.login(t, jane, "password")
	if got := rig.text(t, `SELECT password_hash FROM users WHERE id = $1`, id); !strings.HasPrefix(
		got, "$argon2id$v=19$m=64,t=1,p=1$",
	) {
		t.Errorf("the hash is %s", got)
	}
	rig.login(t, jane, "password")
}

// TestAccountsOfTwoTenants verifies that one email in two tenants is two accounts. Tokens and codes of one tenant are
// not valid for the other.
func TestAccountsOfTwoTenants(t *testing.T) {
	rig := newRig(t)
	rig.user(t, acme, jane, store.RoleAdmin)
	here := rig.login(t, jane, good)
	there := func(path, bearer string, body fields) answer {
		return rig.do(t, request{path: "/api/auth/" + path, tenant: globex, bearer: bearer, body: body})
	}
	there("login", "", fields{"email": jane, "password": good}).want(t, "login", 401, "authentication")
	there("refresh", "", fields{"refreshToken": here.RefreshToken}).want(t, "refresh", 401, "invalid_token")
	there("logout", here.AccessToken, nil).want(t, "access", 401, "invalid_token")
	rig.post(t, "refresh", fields{"refreshToken": here.RefreshToken}).must(t, 200) // it was not ended by that
	rig.user(t, globex, jane, store.RoleViewer)
	other := there("login", "", fields{"email": jane, "password": good}).tokens(t)
	if other.User.ID == here.User.ID {
		t.Error("both tenants have one account")
	}
	there("register", "", fields{"email": "new@acme.example", "password": good}).must(t, http.StatusAccepted)
	code := rig.mail(t, "new@acme.example", mail.VerifyEmail).Data.Code.Reveal()
	rig.post(t, "verify-email", fields{"email": "new@acme.example", "code": code}).want(t, "a code", 400, "validation")
	there("verify-email", "", fields{"email": "new@acme.example", "code": code}).must(t, 200)
}

func TestSuspendedTenant(t *testing.T) {
	rig := newRig(t)
	rig.user(t, acme, jane, store.RoleAgent)
	tk := rig.login(t, jane, good)
	rig.acme.Suspended = true
	rig.post(t, "login", fields{"email": jane, "password": good}).want(t, "login", 403, "forbidden")
	rig.refresh(t, tk.RefreshToken).want(t, "refresh", 403, "forbidden")
	rig.do(t, request{
		method: http.MethodGet,
		path:   "/api/auth/me",
		bearer: tk.AccessToken,
	}).want(t, "access", 401, "invalid_token")
	rig.acme.Suspended = false
	rig.refresh(t, tk.RefreshToken).must(t, 200)
}

func TestDisabledUser(t *testing.T) {
	rig := newRig(t)
	id := rig.user(t, acme, jane, store.RoleAgent)
	tk := rig.login(t, jane, good)
	if _, err := rig.db.Operator.SetUserDisabled(t.Context(), acme, store.AccessChange{
		UserID:   id,
		Disabled: true,
	}, store.Origin{}); err != nil {
		t.Fatal(err)
	}
	rig.refresh(t, tk.RefreshToken).want(t, "refresh", 401, "invalid_token")
	rig.post(t, "login", fields{"email": jane, "password": good}).want(t, "login", 401, "authentication")
	soon.Holds(t, "access ends", func() bool {
		return rig.do(t, request{method: http.MethodGet, path: "/api/auth/me", bearer: tk.AccessToken}).Status == 401
	})
	if _, err := rig.db.Operator.SetUserDisabled(
		t.Context(), acme, store.AccessChange{UserID: id}, store.Origin{},
	); err != nil {
		t.Fatal(err)
	}
	rig.refresh(t, tk.RefreshToken).want(t, "the old session, enabled again", 401, "invalid_token")
	rig.login(t, jane, good)
}

// TestAccessEndsWithTheSession verifies that an access token expires with its session at the latest.
func TestAccessEndsWithTheSession(t *testing.T) {
	rig := newRig(t)
	rig.user(t, acme, jane, store.RoleAgent)
	tk := rig.login(t, jane, good)
	rig.db.Exec(t, `UPDATE login_sessions SET expires_at = now() + interval '1 minute'`)
	if got := rig.refresh(t, tk.RefreshToken).tokens(t); got.ExpiresIn < 50 || got.ExpiresIn > 60 {
		t.Errorf("the access token is good for %d s of the session's minute", got.ExpiresIn)
	}
}

func TestRegistration(t *testing.T) {
	r := newRig(t)
	for name, tc := range map[string]struct {
		change          func(r *rig)
		email, password string
		status          int
		want            []string // in the body
	}{
		"good": {email: jane, password: good, status: 202},
		"closed": {
			func(r *rig) { r.acme.Auth.OpenRegistration = false },
			jane,
			good,
			403,
			[]string{`"forbidden"`},
		},
		"another domain": {
			func(r *rig) { r.acme.Auth.AllowedEmailDomains = []string{"acme.test"} },
			jane,
			good,
			400,
			[]string{`"validation"`, `"/email"`},
		},
		"a domain below": {
			func(r *rig) { r.acme.Auth.AllowedEmailDomains = []string{"example"} },
			jane,
			good,
			400,
			[]string{`"validation"`, `"/email"`},
		},
		"an allowed one": {
			func(r *rig) { r.acme.Auth.AllowedEmailDomains = []string{"acme.test", "acme.example"} },
			jane,
			good,
			202,
			nil,
		},
		"no email": {email: "jane", password: good, status: 400, want: []string{`"validation"`, `"/email"`}},
		"short password": {
			email:    jane,
			password: "short",
			status:   400,
			want:     []string{`"validation"`, `"/password"`},
		},
		"weak password": {email: jane, password: weak, status: 400, want: []string{`"validation"`, `"/password"`}},
		"of the email": {
			email:    jane,
			password: "jane-acme-example",
			status:   400,
			want:     []string{`"validation"`, `"/password"`},
		},
		"of the tenant": {
			email:    jane,
			password: "support-acme-support",
			status:   400,
			want:     []string{`"validation"`, `"/password"`},
		},
		"endless password": {
			email:    jane,
			password: strings.Repeat("x", 1025),
			status:   400,
			want:     []string{`"validation"`, `password`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			*r.acme.Auth = *newTenant(acme).Auth
			r.db.Exec(t, `DELETE FROM users`)
			if tc.change != nil {
				tc.change(r)
			}
			answer := r.post(t, "register", fields{"email": tc.email, "password": tc.password}).must(t, tc.status)
			for _, want := range tc.want {
				if !strings.Contains(string(answer.Body), want) {
					t.Errorf("the answer lacks %s: %s", want, answer.Body)
				}
			}
			if strings.Contains(string(answer.Body), tc.password) {
				t.Error("the answer quotes the password")
			}
			if n := r.text(t, `SELECT count(*) FROM users`); (n == "1") != (tc.status == 202) {
				t.Errorf("%s accounts", n)
			}
		})
	}
}

// TestCodeIsSpentByGuesses shows that the right code is no longer valid after five wrong ones.
func TestCodeIsSpentByGuesses(t *testing.T) {
	rig := newRig(t)
	rig.post(t, "register", fields{"email": jane, "password": good}).must(t, 202)
	code := rig.mail(t, jane, mail.VerifyEmail).Data.Code.Reveal()
	wrong := string('0'+(code[0]-'0'+1)%10) + code[1:]
	var bodies []string
	for range 5 {
		bodies = append(bodies, rig.post(t, "verify-email", fields{"email": jane, "code": wrong}).must(t, 400).raw)
	}
	bodies = append(bodies, rig.post(t, "verify-email", fields{"email": jane, "code": code}).must(t, 400).raw)
	for _, b := range bodies {
		if d := cmp.Diff(bodies[0], b); d != "" {
			t.Errorf("answers differ:\n%s", d)
		}
	}
	rig.post(t, "resend-code", fields{"email": jane}).must(t, 202)
	again := rig.mail(t, jane, mail.VerifyEmail).Data
	if again.ValidFor != 10*time.Minute {
		t.Errorf("the mail says that it is good for %s", again.ValidFor)
	}
	rig.post(t, "verify-email", fields{"email": jane, "code": again.Code.Reveal()}).must(t, 200)
}
