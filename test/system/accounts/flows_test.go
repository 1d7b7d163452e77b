package accounts

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// Passwords that the rules take.
const (
	firstPassword  = "seven unripe quinces"
	secondPassword = "nine overripe medlars"
	thirdPassword  = "eleven frozen sloes at dawn"
)

// revoked is within what time each pod refuses an access token that was revoked: two seconds, and one more for a slow machine.
const revoked = 3 * time.Second

// TestAccountFlows verifies that each account flow works when its requests go to different pods.
func TestAccountFlows(t *testing.T) {
	t.Parallel()
	platform := newPlatform(t, setup{pods: 3, args: wideLimits()})
	for _, flow := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"a life", platform.testLife},
		{"logout everywhere", platform.testLogoutAll},
		{"an account twice", platform.testTwoTenants},
		{"register again", platform.testRegisterAgain},
		{"an admin and a colleague", platform.testInvitation},
		{"disabled", platform.testDisabled},
		{"suspended", platform.testSuspended},
		{"SMTP away", platform.testMailLater},
		{"SMTP silent", platform.testMailNeverWaitedFor},
		{"fifty at once", platform.testFiftyRefreshes},
		{"reuse", platform.testReuse},
		{"lost answers", platform.testLostAnswers},
		{"kill -9", platform.testKilledWhileRotating},
	} {
		t.Run(flow.name, flow.run)
	}
	for i := range platform.pods {
		if n := platform.proxy.served[i].Load(); n < 20 {
			t.Errorf("pod %d answered %d requests: this proves nothing", i, n)
		}
	}
}

// deadEverywhere fails the test unless every pod soon refuses an access token.
func (p *platform) deadEverywhere(t *testing.T, bearer string) {
	t.Helper()
	eventually.Within(revoked).Holds(t, "every pod refuses the access token", func() bool {
		return p.refusedEverywhere(t, bearer)
	})
}

func (p *platform) refusedEverywhere(t *testing.T, bearer string) bool {
	t.Helper()
	for _, pod := range p.pods {
		answer := p.do(t, request{method: "GET", path: "/api/auth/me", tenant: "-", bearer: bearer, pod: pod})
		if answer.status != 401 || jsonAt(answer.body, "code") != "invalid_token" {
			return false
		}
	}
	return true
}

// aliveEverywhere fails the test unless every pod takes an access token.
func (p *platform) aliveEverywhere(t *testing.T, bearer string) {
	t.Helper()
	for _, pod := range p.pods {
		p.do(t, request{method: "GET", path: "/api/auth/me", tenant: "-", bearer: bearer, pod: pod}).want(t, 200)
	}
}

func (p *platform) refreshRefused(t *testing.T, tenant, token string) {
	t.Helper()
	p.refresh(t, tenant, token).want(t, 401, "invalid_token")
}

func (p *platform) loginRefused(t *testing.T, tenant, email, password string) {
	t.Helper()
	p.post(t, tenant, "login", fields{"email": email, "password": password}).want(t, 401, "authentication")
}

type sessionView struct {
	ID, Device, Address string
	Current             bool
}

func (p *platform) sessions(t *testing.T, bearer string) (items []sessionView) {
	t.Helper()
	var list struct{ Items []sessionView }
	p.as(t, bearer, "GET", "/api/auth/sessions", nil).want(t, 200).into(t, &list)
	return list.Items
}

func (p *platform) testLife(t *testing.T) {
	const email = "jane@acme.example"
	p.post(t, acme, "register", fields{"email": " Jane@ACME.example", "password": firstPassword}).want(t, 202)
	code := p.mailTo(t, email, subjectVerify).secret(t)
	p.loginRefused(t, acme, email, firstPassword) // not verified yet
	p.post(t, acme, "verify-email", fields{"email": email, "code": wrongCode(code)}).want(t, 400, "validation")
	p.post(t, acme, "verify-email", fields{"email": email, "code": code}).want(t, 200)
	p.post(t, acme, "verify-email", fields{"email": email, "code": code}).want(t, 400, "validation")
	jane := p.login(t, acme, email, firstPassword)
	if jane.TokenType != "Bearer" || jane.ExpiresIn != 900 || jane.User.Email != email ||
		jane.User.Role != store.RoleViewer {
		t.Errorf("the login gives %s tokens for %d s to %+v", jane.TokenType, jane.ExpiresIn, jane.User)
	}
	var me struct{ ID, Email, Role, Tenant string }
	p.as(t, jane.AccessToken, "GET", "/api/auth/me", nil).want(t, 200).into(t, &me)
	if d := cmp.Diff(
		[]string{jane.User.ID, email, store.RoleViewer, acme}, []string{me.ID, me.Email, me.Role, me.Tenant},
	); d != "" {
		t.Errorf("me (-want +got):\n%s", d)
	}
	seen := map[string]bool{jane.RefreshToken: true}
	for range 7 {
		jane = p.refreshed(t, acme, jane.RefreshToken)
		if seen[jane.RefreshToken] {
			t.Error("a refresh token is given again")
		}
		seen[jane.RefreshToken] = true
	}
	p.aliveEverywhere(t, jane.AccessToken)
	p.revokeOne(t, email, jane)
	p.changePassword(t, email, jane)
	p.resetPassword(t, email, jane)
	p.signOut(t, email)
}

// wrongCode is another one.
func wrongCode(code string) string {
	return fmt.Sprintf("%c%s", '0'+(code[0]-'0'+1)%10, code[1:])
}

func (p *platform) revokeOne(t *testing.T, email string, jane tokens) {
	t.Helper()
	other := p.login(t, acme, email, firstPassword)
	list := p.sessions(t, jane.AccessToken)
	ids := map[bool][]string{}
	for _, s := range list {
		ids[s.Current] = append(ids[s.Current], s.ID)
		if s.Device != "proof/1.0" || s.Address != "192.0.2.7" {
			t.Errorf("a session is of %q at %q", s.Device, s.Address)
		}
	}
	if len(ids[true]) != 1 || len(ids[false]) != 1 {
		t.Fatalf("sessions: %+v", list)
	}
	p.as(t, jane.AccessToken, "DELETE", "/api/auth/sessions/"+ids[false][0], nil).want(t, 204)
	p.refreshRefused(t, acme, other.RefreshToken)
	p.deadEverywhere(t, other.AccessToken)
	p.aliveEverywhere(t, jane.AccessToken)
}

// changePassword ends the other sessions and not this one.
func (p *platform) changePassword(t *testing.T, email string, jane tokens) {
	t.Helper()
	other := p.login(t, acme, email, firstPassword)
	change := func(current, next string) answer {
		return p.as(t, jane.AccessToken, "POST", "/api/auth/change-password", fields{
			"currentPassword": current,
			"newPassword":     next,
		})
	}
	change("not "+firstPassword, secondPassword).want(t, 400, "validation")
	change(firstPassword, "passwordpassword").want(t, 400, "validation")
	change(firstPassword, secondPassword).want(t, 204)
	p.refreshRefused(t, acme, other.RefreshToken)
	p.deadEverywhere(t, other.AccessToken)
	p.aliveEverywhere(t, jane.AccessToken)
	p.loginRefused(t, acme, email, firstPassword)
	p.mailTo(t, email, subjectChanged)
}

// resetPassword ends every session.
func (p *platform) resetPassword(t *testing.T, email string, jane tokens) {
	t.Helper()
	p.post(t, acme, "forgot-password", fields{"email": email}).want(t, 202)
	token := p.mailTo(t, email, subjectReset).secret(t)
	reset := func(tenant, password string) answer {
		return p.post(t, tenant, "reset-password", fields{"token": token, "password": password})
	}
	reset(globex, thirdPassword).want(t, 400, "validation") // it is acme's
	reset(acme, "short").want(t, 400, "validation")
	reset(acme, thirdPassword).want(t, 204)
	reset(acme, firstPassword).want(t, 400, "validation") // once
	p.refreshRefused(t, acme, jane.RefreshToken)
	p.deadEverywhere(t, jane.AccessToken)
	p.loginRefused(t, acme, email, secondPassword)
}

func (p *platform) signOut(t *testing.T, email string) {
	t.Helper()
	jane := p.login(t, acme, email, thirdPassword)
	p.aliveEverywhere(t, jane.AccessToken)
	p.as(t, jane.AccessToken, "POST", "/api/auth/logout", nil).want(t, 204)
	p.refreshRefused(t, acme, jane.RefreshToken)
	p.deadEverywhere(t, jane.AccessToken)
}

func (p *platform) testLogoutAll(t *testing.T) {
	john := p.enroll(t, acme, "john@acme.example", firstPassword)
	other := p.login(t, acme, john.email, john.password)
	p.as(t, other.AccessToken, "POST", "/api/auth/logout-all", nil).want(t, 204)
	for _, of := range []tokens{john.tokens, other} {
		p.refreshRefused(t, acme, of.RefreshToken)
		p.deadEverywhere(t, of.AccessToken)
	}
	again := p.login(t, acme, john.email, john.password) // at once: it is newer than what was revoked
	p.aliveEverywhere(t, again.AccessToken)
}

// testTwoTenants verifies that the same email in two tenants is two accounts.
func (p *platform) testTwoTenants(t *testing.T) {
	const email = "both@example.com"
	here := p.enroll(t, acme, email, firstPassword)
	p.loginRefused(t, globex, email, firstPassword)
	p.post(t, globex, "register", fields{"email": email, "password": secondPassword}).want(t, 202)
	eventually.Holds(t, "a second letter arrives", func() bool { return len(p.mailOf(t, email)) == 2 })
	p.post(t, globex, "verify-email", fields{"email": email, "code": p.mailOf(t, email)[1].secret(t)}).want(t, 200)
	there := p.login(t, globex, email, secondPassword)
	if here.User.ID == there.User.ID {
		t.Error("it is one account")
	}
	p.refreshRefused(t, globex, here.RefreshToken)
	p.as(t, there.AccessToken, "POST", "/api/auth/logout-all", nil).want(t, 204)
	p.deadEverywhere(t, there.AccessToken)
	p.aliveEverywhere(t, here.AccessToken)
}

// testRegisterAgain checks that the owner of an account is informed by mail, and that nothing of the account changes.
func (p *platform) testRegisterAgain(t *testing.T) {
	const email = "again@acme.example"
	first := p.post(t, acme, "register", fields{"email": email, "password": firstPassword}).want(t, 202)
	p.post(t, acme, "verify-email", fields{
		"email": email,
		"code":  p.mailTo(t, email, subjectVerify).secret(t),
	}).want(t, 200)
	if again := p.post(t, acme, "register", fields{
		"email":    email,
		"password": secondPassword,
	}).want(t, 202); again.raw() != first.raw() {
		t.Errorf("it is answered %s, and the first time %s", again.body, first.body)
	}
	p.mailTo(t, email, "You already have an account")
	p.loginRefused(t, acme, email, secondPassword)
	p.login(t, acme, email, firstPassword)
}

// firstAdmin is made by the platform's engineer, and chooses the password.
func (p *platform) firstAdmin(t *testing.T, email string) tokens {
	t.Helper()
	made := p.operator(t, "user", "create", "--tenant="+acme, "--email="+email, "--role=admin", "--output=json")
	token, _ := jsonAt([]byte(made), "resetToken").(string)
	p.loginRefused(t, acme, email, "")
	p.post(t, acme, "reset-password", fields{"token": token, "password": firstPassword}).want(t, 204)
	return p.login(t, acme, email, firstPassword)
}

func (p *platform) testInvitation(t *testing.T) {
	admin := p.firstAdmin(t, "admin@acme.example")
	const email = "colleague@acme.example"
	invite := func() answer {
		return p.as(t, admin.AccessToken, "POST", "/api/users", fields{"email": email, "role": store.RoleAgent})
	}
	invite().want(t, 201)
	invite().want(t, 409, "conflict")
	p.loginRefused(t, acme, email, "")
	token := p.mailTo(t, email, subjectInvited).secret(t)
	p.post(t, acme, "reset-password", fields{"token": token, "password": secondPassword}).want(t, 204)
	colleague := p.login(t, acme, email, secondPassword)
	if colleague.User.Role != store.RoleAgent {
		t.Errorf("the colleague is %s", colleague.User.Role)
	}
	p.as(t, colleague.AccessToken, "GET", "/api/users", nil).want(t, 403, "forbidden")
	path := "/api/users/" + colleague.User.ID
	p.as(t, admin.AccessToken, "PATCH", path, fields{"role": store.RoleAdmin}).want(t, 200)
	p.deadEverywhere(t, colleague.AccessToken) // it says the old role
	colleague = p.refreshed(t, acme, colleague.RefreshToken)
	p.as(t, colleague.AccessToken, "GET", "/api/users", nil).want(t, 200)
	p.as(t, admin.AccessToken, "PATCH", path, fields{"disabled": true}).want(t, 200)
	p.loginRefused(t, acme, email, secondPassword)
}

func (p *platform) testDisabled(t *testing.T) {
	mallory := p.enroll(t, acme, "mallory@acme.example", firstPassword)
	p.operator(t, "user", "disable", "--tenant="+acme, mallory.email)
	p.refreshRefused(t, acme, mallory.RefreshToken)
	p.loginRefused(t, acme, mallory.email, mallory.password)
	p.deadEverywhere(t, mallory.AccessToken)
}

// testSuspended verifies that every pod rejects the people of a suspended tenant until the tenant is resumed. The
// people of another tenant are not affected.
func (p *platform) testSuspended(t *testing.T) {
	ann := p.enroll(t, globex, "ann@globex.example", firstPassword)
	bob := p.enroll(t, acme, "bob@acme.example", firstPassword)
	p.configure(globex, func(c *tenantconfig.Tenant) { c.Suspended = true })
	eventually.Within(tenantconfig.RefreshDelay).Holds(t, "every pod refuses the tenant's access token", func() bool {
		return p.refusedEverywhere(t, ann.AccessToken)
	})
	for _, pod := range p.pods {
		p.do(t, request{
			path:   "/api/auth/refresh",
			tenant: globex,
			body:   fields{"refreshToken": ann.RefreshToken},
			pod:    pod,
		}).want(t, 403, "forbidden")
		p.do(t, request{
			path:   "/api/auth/login",
			tenant: globex,
			body:   fields{"email": ann.email, "password": ann.password},
			pod:    pod,
		}).want(t, 403, "forbidden")
	}
	p.aliveEverywhere(t, bob.AccessToken)
	p.configure(globex, nil)
	eventually.Within(tenantconfig.RefreshDelay).Holds(t, "the tenant is accepted again", func() bool {
		for _, pod := range p.pods {
			body := fields{"email": ann.email, "password": ann.password}
			if p.do(t, request{path: "/api/auth/login", tenant: globex, body: body, pod: pod}).status != 200 {
				return false
			}
		}
		return true
	})
}

// testMailLater verifies that registration works while the SMTP server is unreachable. The mail arrives exactly once
// after the server is back.
func (p *platform) testMailLater(t *testing.T) {
	const email = "late@acme.example"
	usual := p.post(t, acme, "register", fields{"email": "usual@acme.example", "password": firstPassword}).want(t, 202)
	p.relay.become(cut)
	defer p.relay.become(whole)
	late := p.post(t, acme, "register", fields{"email": email, "password": firstPassword}).want(t, 202)
	if late.raw() != usual.raw() {
		t.Errorf("it is answered %s, and usually %s", late.body, usual.body)
	}
	eventually.Holds(t, "the mail is tried", func() bool {
		return p.count(
			t,
			"SELECT count(*) FROM mail_outbox WHERE recipient = $1 AND attempts > 0 AND state = 'pending' AND "+
				"last_error <> ''",
			email,
		) == 1
	})
	p.relay.become(whole)
	p.post(t, acme, "verify-email", fields{
		"email": email,
		"code":  p.mailTo(t, email, subjectVerify).secret(t),
	}).want(t, 200)
	p.settle(t)
	if n := len(p.mailOf(t, email)); n != 1 {
		t.Errorf("the mail came %d times", n)
	}
	if n := p.count(t, "SELECT count(*) FROM mail_outbox WHERE length(sealed) > 0"); n != 0 {
		t.Errorf("%d codes and tokens are kept after they were sent", n)
	}
}

// testMailNeverWaitedFor verifies that requests do not wait for an SMTP server that accepts connections and never
// answers.
func (p *platform) testMailNeverWaitedFor(t *testing.T) {
	p.relay.become(silent)
	defer p.relay.become(whole)
	const patience = 3 * time.Second // the senders' own is fifteen
	for i := range 12 {
		email := fmt.Sprintf("silent%d@acme.example", i)
		for _, q := range []request{{
			path: "/api/auth/register",
			body: fields{"email": email, "password": firstPassword},
		},
			{
				path: "/api/auth/resend-code",
				body: fields{"email": email},
			}, {
				path: "/api/auth/forgot-password",
				body: fields{"email": "jane@acme.example"},
			}} {
			began := time.Now()
			p.do(t, q).want(t, 202)
			if took := time.Since(began); took > patience {
				t.Errorf("%s takes %s", q.path, took)
			}
		}
	}
}
