package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/dataplane/identity/account"
	"github.com/caly-dev/caly/dataplane/ratelimit"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/password"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

const goodPassword = "topsecret-violet-tundra-9"

// accounts is a database whose operator knows two tenants.
type accounts struct {
	*storetest.DB
	t *testing.T
}

func newAccounts(t *testing.T) *accounts {
	t.Helper()
	db := storetest.New(t)
	t.Setenv("CALY_DATABASE_URL", db.OperatorDSN)
	for _, tenant := range []string{"acme/support", "globex/sales"} {
		if err := db.Operator.SuspendTenant(t.Context(), tenant, false); err != nil {
			t.Fatal(err)
		}
	}
	return &accounts{DB: db, t: t}
}

// user runs a command of acme's, with standard input.
func (a *accounts) user(in io.Reader, args ...string) result {
	a.t.Helper()
	var out, errs strings.Builder
	cmd := newRootCommand()
	cmd.SetArgs(append([]string{"user", "--tenant=acme/support"}, args...))
	cmd.SetIn(in)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	err := cmd.ExecuteContext(a.t.Context())
	return result{out.String(), errs.String(), err}
}

func (a *accounts) create(email, role string) {
	a.t.Helper()
	if result := a.user(
		strings.NewReader(goodPassword+"\n"), "create", "--email="+email, "--role="+role,
	); result.err != nil {
		a.t.Fatal(result.err)
	}
}

// count reads a number as the superuser.
func (a *accounts) count(sql string, args ...any) int {
	a.t.Helper()
	return a.Number(a.t, sql, args...)
}

func TestUserCreate(t *testing.T) {
	accounts := newAccounts(t)
	result := accounts.user(
		strings.NewReader(goodPassword+"\r\n"), "create", "--email= Jane@Acme.example", "--role=admin",
	)
	if result.err != nil || result.out != "jane@acme.example is admin of acme/support\n" ||
		strings.Contains(result.out+result.errs, "topsecret") {
		t.Fatalf("%q, %q, %v", result.out, result.errs, result.err)
	}
	credentials, err := accounts.Dataplane.Credentials(t.Context(), "acme/support", "jane@acme.example")
	if err != nil || !credentials.User.Verified() || credentials.User.Role != store.RoleAdmin {
		t.Fatalf("%+v, %v", credentials.User, err)
	}
	if ok, _, err := password.NewHasher(
		password.Options{},
	).Verify(t.Context(), goodPassword, credentials.PasswordHash); err != nil ||
		!ok {
		t.Errorf("the password is not the one: %v", err)
	}
	if n := accounts.count(
		`SELECT count(*)::int FROM audit_log WHERE tenant = 'acme/support' AND action = 'user_created'
			AND actor_id IS NULL`,
	); n != 1 {
		t.Errorf("%d rows in the audit log", n)
	}
	// The same email in another tenant is another account.
	if result := accounts.user(
		strings.NewReader(goodPassword),
		"create",
		"--tenant=globex/sales",
		"--email=jane@acme.example",
		"--role=viewer",
		"--password-stdin",
	); result.err != nil {
		t.Error(result.err)
	}
	checkFailure(
		t,
		accounts.user(strings.NewReader(goodPassword), "create", "--email=JANE@acme.example", "--role=viewer"),
		"acme/support has an account of jane@acme.example already: caly user list shows it",
	)
}

// TestUserToken verifies that a printed token sets the password once, as a mailed token does.
func TestUserToken(t *testing.T) {
	accounts := newAccounts(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	for name, tc := range map[string]struct {
		in   io.Reader
		args []string
	}{
		"asked for":     {strings.NewReader("ignored"), []string{"--invite"}},
		"without input": {null, nil},
		"json":          {null, []string{"-ojson"}},
	} {
		t.Run(name, func(t *testing.T) {
			email := strings.ReplaceAll(name, " ", "-") + "@acme.example"
			result := accounts.user(
				tc.in,
				append([]string{"create", "--role=agent", "--email=" + email}, tc.args...)...)
			token := strings.TrimSuffix(result.out, "\n")
			if name == "json" {
				var out created
				if err := json.Unmarshal(
					[]byte(result.out), &out,
				); err != nil || out.Email != email || out.Role != "agent" ||
					!store.ValidID(out.ID) ||
					time.Until(*out.ExpiresAt) < 6*24*time.Hour {
					t.Fatalf("%q, %v", result.out, err)
				}
				token = out.ResetToken
			} else if !strings.Contains(result.errs, email+" is agent of acme/support. This token sets the password "+
				"until ") || strings.Contains(result.errs, token) {
				t.Errorf("it says %q", result.errs)
			}
			if result.err != nil || len(token) != 43 {
				t.Fatalf("the token %q, %v", token, result.err)
			}
			credentials, err := accounts.Dataplane.Credentials(t.Context(), "acme/support", email)
			if err != nil || !credentials.User.Invited || credentials.User.Verified() {
				t.Fatalf("%+v, %v", credentials.User, err)
			}
			if n := accounts.count(`SELECT count(*)::int FROM mail_outbox WHERE recipient = $1`, email); n != 0 {
				t.Errorf("%d messages are to be sent", n)
			}
			if err := accounts.setPassword(t, token); err != nil {
				t.Error(err)
			}
			if err := accounts.setPassword(t, token); err == nil {
				t.Error("the token is good a second time")
			}
		})
	}
}

// unlimited lets everything through.
type unlimited struct{}

func (unlimited) Take(context.Context, *tenantconfig.Tenant, ratelimit.Name, string) ratelimit.Decision {
	return ratelimit.Decision{Allowed: true}
}

func (unlimited) Blocked(*tenantconfig.Tenant, ratelimit.Name, string) (ratelimit.Decision, bool) {
	return ratelimit.Decision{}, false
}

func (unlimited) Return(context.Context, *tenantconfig.Tenant, ratelimit.Decision, string) {}

// setPassword uses a token as the data plane does.
func (a *accounts) setPassword(t *testing.T, token string) error {
	t.Helper()
	ring := keyring.New(time.Now())
	service := account.New(account.Options{
		Store:   a.Dataplane,
		Limiter: unlimited{},
		Hasher:  password.NewHasher(password.Options{}),
		Ring:    func() *keyring.Ring { return ring },
	})
	tenant := &tenantconfig.Tenant{ID: "acme/support", Auth: &tenantconfig.Auth{}}
	return service.ResetPassword(t.Context(), tenant, token, goodPassword)
}

func TestUserCreateRefuses(t *testing.T) {
	accounts := newAccounts(t)
	for name, tc := range map[string]struct {
		in   string
		args string
		says string
		code int
	}{
		"no role": {
			goodPassword,
			"--email=a@b.example",
			`--role "" is not one of admin, agent and viewer`,
			cli.ExitUsage,
		},
		"an unknown role": {
			goodPassword,
			"--email=a@b.example --role=owner",
			`--role "owner" is not one of`,
			cli.ExitUsage,
		},
		"no email": {goodPassword, "--role=admin", "the email must be an email address", cli.ExitUsage},
		"an invalid email": {
			goodPassword,
			"--role=admin --email=topsecret",
			"the email must be an email address",
			cli.ExitUsage,
		},
		"both": {
			goodPassword,
			"--role=admin --email=a@b.example --invite --password-stdin",
			"not both",
			cli.ExitUsage,
		},
		"an unknown output": {
			goodPassword,
			"--role=admin --email=a@b.example -oyaml",
			"neither table nor json",
			cli.ExitUsage,
		},
		"no tenant": {
			goodPassword,
			"--role=admin --email=a@b.example --tenant=",
			"--tenant is needed",
			cli.ExitUsage,
		},
		"tenant without name": {
			goodPassword,
			"--role=admin --email=a@b.example --tenant=acme",
			"is not namespace/name",
			cli.ExitUsage,
		},
		"an unknown tenant": {
			goodPassword,
			"--role=admin --email=a@b.example --tenant=acme/other",
			"the operator knows no Tenant acme/other: apply it first",
			1,
		},
		"no password": {"\n", "--role=admin --email=a@b.example", "kubectl exec needs -i", cli.ExitUsage},
		"nothing at all": {
			"",
			"--role=admin --email=a@b.example --password-stdin",
			"no password in its first line",
			cli.ExitUsage,
		},
		"a short password": {
			"topsecret\n",
			"--role=admin --email=a@b.example",
			"the password must have at least 15 characters",
			cli.ExitUsage,
		},
		"a long password": {
			strings.Repeat("topsecret", 1000),
			"--role=admin --email=a@b.example",
			"the password must have at most",
			cli.ExitUsage,
		},
		"a password of two": {
			goodPassword + "\ntopsecret\n",
			"--role=admin --email=a@b.example",
			"more than one line",
			cli.ExitUsage,
		},
		"its own email": {
			"topsecret@b.example\n",
			"--role=admin --email=topsecret@b.example",
			"the password is too easy",
			cli.ExitUsage,
		},
	} {
		t.Run(name, func(t *testing.T) {
			result := accounts.user(strings.NewReader(tc.in), append([]string{"create"}, strings.Fields(tc.args)...)...)
			checkFailure(t, result, tc.says)
			var exit *cli.ExitError
			code := 1
			if errors.As(result.err, &exit) {
				code = exit.Code
			}
			if code != tc.code {
				t.Errorf("ends with %d, want %d", code, tc.code)
			}
		})
	}
	if n := accounts.count(`SELECT count(*)::int FROM users`); n != 0 {
		t.Errorf("%d accounts were made all the same", n)
	}
}

func TestUserList(t *testing.T) {
	accounts := newAccounts(t)
	for i, email := range []string{"c@acme.example", "a@acme.example", "b@acme.example", "d@acme.example"} {
		accounts.create(email, []string{"admin", "agent", "viewer", "viewer"}[i])
	}
	if result := accounts.user(
		nil, "create", "--invite", "--tenant=globex/sales", "--email=x@globex.example", "--role=admin",
	); result.err != nil {
		t.Fatal(result.err)
	}
	if result := accounts.user(nil, "create", "--invite", "--email=e@acme.example", "--role=admin"); result.err != nil {
		t.Fatal(result.err)
	}
	if result := accounts.user(nil, "disable", "B@acme.example"); result.err != nil ||
		result.out != "b@acme.example of acme/support: disabled, and signed out everywhere\n" {
		t.Fatalf("%q, %v", result.out, result.err)
	}
	accounts.count(`WITH x AS (UPDATE users SET email_verified_at = NULL WHERE email = 'd@acme.example' RETURNING 1)
			SELECT count(*)::int FROM x`)
	var got struct {
		Users []userView
		After string
	}
	result := accounts.user(nil, "list", "-ojson")
	if err := json.Unmarshal([]byte(result.out), &got); err != nil || result.err != nil {
		t.Fatal(err, result.err)
	}
	var lines []string
	for _, u := range got.Users {
		lines = append(lines, fmt.Sprint(u.Email, " ", u.Role, " ", u.State))
	}
	want := []string{"a@acme.example agent active", "b@acme.example viewer disabled", "c@acme.example admin active",
		"d@acme.example viewer unverified", "e@acme.example admin invited"}
	if diff := cmp.Diff(want, lines); diff != "" || got.After != "" {
		t.Errorf("after %q, accounts (-want +got):\n%s", got.After, diff)
	}
	result = accounts.user(nil, "list", "--limit=1", "--after=a@acme.example")
	table := strings.Split(result.out, "\n")
	if result.err != nil || result.errs != "there are more: add --after=b@acme.example\n" || len(table) != 3 {
		t.Fatalf("%q, %q, %v", result.out, result.errs, result.err)
	}
	if diff := cmp.Diff([]string{"EMAIL", "ROLE", "STATE", "CREATED", "ID"}, strings.Fields(table[0])); diff != "" ||
		!strings.HasPrefix(table[1], "b@acme.example  viewer  disabled  ") {
		t.Errorf("%q, heading (-want +got):\n%s", table[1], diff)
	}
	if result := accounts.user(nil, "list", "--tenant=nobody/here", "-ojson"); result.err != nil ||
		!strings.Contains(result.out, `"users": []`) {
		t.Errorf("%q, %v", result.out, result.err)
	}
	for _, limit := range []string{"0", "-1", "10001"} {
		checkFailure(t, accounts.user(nil, "list", "--limit="+limit), "--limit must be between 1 and 10000")
	}
}

func TestUserChange(t *testing.T) {
	accounts := newAccounts(t)
	accounts.create("jane@acme.example", "admin") // the last admin: it is the platform's to decide
	credentials, err := accounts.Dataplane.Credentials(t.Context(), "acme/support", "jane@acme.example")
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		command, says string
		signsIn       bool
		counts        string // of revocations and of rows in the audit log
	}{
		{"revoke", "signed out everywhere: 1 sessions were ended", true, "2 1"}, // of the session, and of the user
		{"disable", "disabled, and signed out everywhere", false, "4 2"},
		{"disable", "disabled, and signed out everywhere", false, "4 2"},
		{"revoke", "signed out everywhere: 0 sessions were ended", false, "5 3"},
		{"enable", "enabled", true, "5 4"},
		{"enable", "enabled", true, "5 4"},
	} {
		if i == 0 {
			accounts.signIn(t, credentials, true)
		}
		result := accounts.user(nil, step.command, "Jane@acme.example")
		if want := "jane@acme.example of acme/support: " + step.says + "\n"; result.err != nil || result.out != want {
			t.Errorf("%d, %s: %q, %v; want %q", i, step.command, result.out, result.err, want)
		}
		counts := fmt.Sprint(
			accounts.count(`SELECT count(*)::int FROM revocations`), " ",
			accounts.count(`SELECT count(*)::int FROM audit_log
					WHERE action IN ('user_disabled', 'user_enabled', 'sessions_revoked')`),
		)
		if counts != step.counts {
			t.Errorf("%d, %s: %s revocations and rows in the audit log, want %s", i, step.command, counts, step.counts)
		}
		if n := accounts.count(
			`SELECT count(*)::int FROM login_sessions WHERE ended_at IS NULL`,
		); step.command != "enable" &&
			n != 0 {
			t.Errorf("%d, %s leaves %d sessions", i, step.command, n)
		}
		accounts.signIn(t, credentials, step.signsIn)
	}
}

// signIn begins a session, or is refused.
func (a *accounts) signIn(t *testing.T, c store.Credentials, want bool) {
	t.Helper()
	_, err := a.Dataplane.StartSession(t.Context(), "acme/support", store.NewSession{
		ID:       store.NewID(),
		UserID:   c.User.ID,
		Key:      make([]byte, 32),
		Lifetime: time.Hour,
		SeenHash: c.PasswordHash,
	}, store.Origin{})
	if (err == nil) != want {
		t.Errorf("signing in: %v, want it to succeed: %v", err, want)
	}
}

func TestUserChangeRefuses(t *testing.T) {
	accounts := newAccounts(t)
	accounts.create("jane@acme.example", "admin")
	for _, command := range []string{"disable", "enable", "revoke"} {
		checkFailure(
			t,
			accounts.user(nil, command, "nobody@acme.example"),
			"acme/support has no account of nobody@acme.example: caly user list",
		)
		checkFailure(
			t, accounts.user(nil, command, "--tenant=globex/sales", "jane@acme.example"), "globex/sales has no account",
		)
		checkFailure(t, accounts.user(nil, command), "one email is needed, and 0 are given")
		checkFailure(t, accounts.user(nil, command, "a@b.example", "topsecret"), "one email is needed, and 2 are given")
		checkFailure(t, accounts.user(nil, command, "--tenant=", "jane@acme.example"), "--tenant is needed")
	}
	t.Setenv("CALY_DATABASE_URL", "postgres://caly:topsecret@"+calytest.FreeAddress(t)+"/caly")
	for _, args := range [][]string{
		{"list"},
		{"revoke", "jane@acme.example"},
		{"create", "--invite", "--role=admin", "--email=a@b.example"},
	} {
		checkFailure(t, accounts.user(nil, args...), "database unavailable")
	}
}
