package account_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/identity/account"
	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/store"
)

// accounts of every kind, and none.
const (
	verified   = "verified@acme.example"
	unverified = "unverified@acme.example"
	disabled   = "disabled@acme.example"
	invited    = "invited@acme.example"
	unknown    = "unknown@acme.example"
)

func newCast(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.user(t, acme, verified, store.RoleAgent)
	id := r.user(t, acme, disabled, store.RoleAgent)
	if _, err := r.db.Operator.SetUserDisabled(t.Context(), acme, store.AccessChange{
		UserID:   id,
		Disabled: true,
	}, store.Origin{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.pods[0].svc.Invite(t.Context(), r.acme, invited, store.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	r.post(t, "register", fields{"email": unverified, "password": good}).must(t, 202)
	return r
}

// seen is all that a client sees of an answer.
type seen struct {
	Status int
	Header http.Header
	Body   string
}

func (a answer) seen() seen {
	header := a.Header.Clone()
	header.Del("X-Request-Id")
	return seen{a.Status, header, a.raw}
}

// TestAccountsAreHidden verifies that the answers about an email are the same for each kind of account and for an
// unknown email. The numbers of new rows are the same too.
func TestAccountsAreHidden(t *testing.T) {
	emails := []string{unknown, verified, unverified, disabled, invited}
	for name, tc := range map[string]struct {
		path string
		body func(email string) fields
		of   []string
	}{
		"register": {"register", func(e string) fields { return fields{"email": e, "password": good} }, emails},
		"resend":   {"resend-code", func(e string) fields { return fields{"email": e} }, emails},
		"verify": {"verify-email", func(e string) fields {
			return fields{
				"email": e,
				"code":  "000000",
			}
		}, emails},
		"forgot":         {"forgot-password", func(e string) fields { return fields{"email": e} }, emails},
		"wrong password": {"login", func(e string) fields { return fields{"email": e, "password": better} }, emails},
		"right password": {"login", func(e string) fields {
			return fields{
				"email":    e,
				"password": good,
			}
		}, []string{unknown, unverified, disabled, invited}},
		"no password": {"login", func(e string) fields { return fields{"email": e, "password": ""} }, emails},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newCast(t)
			const rows = `SELECT (SELECT count(*) FROM mail_outbox) || ' mails ' || (SELECT count(*)
				FROM audit_log) || ' audited'`
			var first seen
			for i, email := range tc.of {
				before := [2]string{
					rig.text(t, `SELECT count(*) FROM mail_outbox`),
					rig.text(t, `SELECT count(*) FROM audit_log`),
				}
				got := rig.post(t, tc.path, tc.body(email)).seen()
				if i == 0 {
					first = got
				}
				if d := cmp.Diff(first, got); d != "" {
					t.Errorf("%s is answered otherwise than nobody (-nobody +%s):\n%s", email, email, d)
				}
				wantRows(t, rig, before, name, rows)
			}
		})
	}
}

// wantRows fails the test unless the request wrote as many rows as each of its kind does.
func wantRows(t *testing.T, r *rig, before [2]string, name, rows string) {
	t.Helper()
	wrote := map[string][2]int{
		"register":       {1, 1},
		"resend":         {1, 0},
		"verify":         {0, 1},
		"forgot":         {1, 1},
		"wrong password": {0, 1},
		"right password": {0, 1},
		"no password":    {0, 1},
	}[name]
	for i, table := range []string{"mail_outbox", "audit_log"} {
		want := r.text(t, `SELECT $1::bigint + $2::bigint`, before[i], wrote[i])
		if got := r.text(t, `SELECT count(*) FROM `+table); got != want {
			t.Errorf("%s has %s rows, want %s (%s)", table, got, want, r.text(t, rows))
		}
	}
}

// TestMailOfHiddenAccounts verifies that only the mail to an address shows whether it has an account.
func TestMailOfHiddenAccounts(t *testing.T) {
	for email, want := range map[string][3]mail.Template{ // of register, resend, forgot
		unknown:    {mail.VerifyEmail, mail.None, mail.None},
		verified:   {mail.AccountExists, mail.None, mail.ResetPassword},
		unverified: {mail.VerifyEmail, mail.VerifyEmail, mail.ResetPassword},
		disabled:   {mail.AccountExists, mail.None, mail.None},
		invited:    {mail.AccountExists, mail.None, mail.ResetPassword},
	} {
		t.Run(email, func(t *testing.T) {
			rig := newCast(t)
			rig.post(t, "forgot-password", fields{"email": email}).must(t, 202)
			rig.mail(t, email, want[2])
			rig.post(t, "resend-code", fields{"email": email}).must(t, 202)
			rig.mail(t, email, want[1])
			rig.post(t, "register", fields{"email": email, "password": good}).must(t, 202)
			rig.mail(t, email, want[0])
		})
	}
}

// TestInvitationIsNotTakenOver checks that a registration with an invited email gets neither the account nor its role.
func TestInvitationIsNotTakenOver(t *testing.T) {
	rig := newCast(t)
	raw := rig.mail(t, invited, mail.Invitation).Data.Code.Reveal()
	rig.post(t, "register", fields{"email": invited, "password": good}).must(t, 202)
	rig.post(t, "login", fields{
		"email":    invited,
		"password": good,
	}).want(t, "the one who registered", 401, "authentication")
	rig.post(t, "reset-password", fields{"token": raw, "password": better}).must(t, 204)
	if tk := rig.login(t, invited, better); tk.User.Role != store.RoleAdmin {
		t.Errorf("the one who was invited has the role %s", tk.User.Role)
	}
}

// TestRegistrationIsNotTakenOver verifies that the owner of an email never verifies a password that another person
// registered, before or afterwards.
func TestRegistrationIsNotTakenOver(t *testing.T) {
	for name, order := range map[string][]string{"before": {better, good}, "after": {good, better}} {
		t.Run(name, func(t *testing.T) {
			rig := newRig(t)
			for _, pw := range order {
				rig.post(t, "register", fields{"email": jane, "password": pw}).must(t, 202)
			}
			verify := func(f fields) int {
				f["email"] = jane
				for _, m := range rig.mails(t, jane) {
					f["code"] = m.Data.Code.Reveal()
					if rig.post(t, "verify-email", f).Status == 200 {
						return 200
					}
					rig.db.Exec(t, `UPDATE email_codes SET attempts = 0`)
				}
				return 400
			}
			if verify(fields{}) == 200 {
				t.Fatal("a code alone verifies, whosever password it is")
			}
			if verify(fields{"password": good}) != 200 { // another request came in between: try again
				rig.post(t, "register", fields{"email": jane, "password": good}).must(t, 202)
				if verify(fields{"password": good}) != 200 {
					t.Fatal("the owner of the email cannot verify it")
				}
			}
			rig.post(t, "login", fields{
				"email":    jane,
				"password": better,
			}).want(t, "the other's password", 401, "authentication")
			rig.login(t, jane, good)
		})
	}
}

// TestAnswersSettle checks that answers wait until they are due, for every kind of account, where the work differs by
// a statement or two.
func TestAnswersSettle(t *testing.T) {
	const due = 300 * time.Millisecond
	rig := newRig(t, func(o *account.Options) { o.Settle = due })
	rig.user(t, acme, verified, store.RoleAgent)
	for _, email := range []string{verified, unknown} {
		for path, body := range map[string]fields{
			"forgot-password": {"email": email},
			"resend-code":     {"email": email},
			"verify-email":    {"email": email, "code": "000000"},
			"register":        {"email": email, "password": good},
		} {
			start := time.Now()
			rig.post(t, path, body)
			if took := time.Since(start); took < due {
				t.Errorf("%s of %s was answered after %s, before it was due", path, email, took)
			}
		}
	}
}
