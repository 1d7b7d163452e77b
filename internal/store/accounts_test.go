package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/refreshtoken"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// people is a database with accounts, and who may touch them.
type people struct {
	*storetest.DB
	by store.Origin
}

func newPeople(t *testing.T) *people {
	t.Helper()
	return &people{
		DB: storetest.New(t),
		by: store.Origin{Address: netip.MustParseAddr("192.0.2.7"), Device: "test", RequestID: "r1"},
	}
}

const hash = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI"

// add makes a verified user of acme and returns the id.
func (p *people) add(t *testing.T, email, role string) string {
	t.Helper()
	newUser := store.NewUser{ID: store.NewID(), Email: email, PasswordHash: hash, Role: role, Verified: true}
	if err := p.Operator.CreateUser(t.Context(), acme, newUser, store.Origin{}); err != nil {
		t.Fatal(err)
	}
	return newUser.ID
}

func newSession(userID string) store.NewSession {
	return store.NewSession{
		ID:       store.NewID(),
		UserID:   userID,
		Key:      bytes.Repeat([]byte{7}, refreshtoken.KeySize),
		Lifetime: time.Hour,
		SeenHash: hash,
	}
}

func (p *people) signIn(t *testing.T, userID string) store.Started {
	t.Helper()
	st, err := p.Dataplane.StartSession(t.Context(), acme, newSession(userID), p.by)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func letter(key string) *store.OutboxMail {
	return &store.OutboxMail{
		EventKey:  key,
		Template:  key,
		Recipient: "jane@acme.example",
		Sealed:    []byte("sealed"),
		ExpiresAt: time.Now().Add(time.Hour),
	}
}

func digest(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

func token(s string) store.ResetToken {
	return store.ResetToken{Hash: digest(s), Lifetime: time.Hour}
}

func TestNewID(t *testing.T) {
	pgtest.SameOnEachServer(t)
	seen := map[string]bool{}
	for range 1000 {
		id := store.NewID()
		if !store.ValidID(id) || seen[id] || id[14] != '4' || !strings.ContainsRune("89ab", rune(id[19])) {
			t.Fatalf("%q", id)
		}
		seen[id] = true
	}
	for name, id := range map[string]string{
		"empty":     "",
		"short":     "0",
		"capitals":  "00112233-4455-6677-8899-AABBCCDDEEFF",
		"braces":    "{0112233-4455-6677-8899-aabbccddeef}",
		"no dashes": "00112233445566778899aabbccddeeff0000",
		"quote":     "00112233-4455-6677-8899-aabbccddee'f",
	} {
		if store.ValidID(id) {
			t.Errorf("%s: %q is valid", name, id)
		}
	}
}

func TestUsers(t *testing.T) {
	people := newPeople(t)
	id := people.add(t, "jane@acme.example", store.RoleAgent)
	err := people.Operator.CreateUser(t.Context(), acme, store.NewUser{
		ID:    store.NewID(),
		Email: "jane@acme.example",
		Role:  store.RoleAdmin,
	}, people.by)
	if !errors.Is(err, store.ErrEmailTaken) {
		t.Errorf("a second account of one email: %v", err)
	}
	err = people.Operator.CreateUser(t.Context(), globex, store.NewUser{
		ID:    store.NewID(),
		Email: "jane@acme.example",
		Role:  store.RoleAdmin,
	}, people.by)
	if err != nil {
		t.Errorf("the same email in another tenant: %v", err)
	}
	got, err := people.Operator.UserByEmail(t.Context(), acme, "jane@acme.example")
	if err != nil {
		t.Fatal(err)
	}
	want := store.User{ID: id, Email: "jane@acme.example", Role: store.RoleAgent}
	if d := cmp.Diff(
		want, got, cmpopts.IgnoreFields(store.User{}, "VerifiedAt", "CreatedAt", "UpdatedAt"),
	); d != "" || !got.Verified() ||
		got.Disabled() {
		t.Errorf("user (-want +got):\n%s", d)
	}
	if n := people.Number(
		t, `SELECT count(*) FROM audit_log WHERE action = 'user_created' AND outcome = 'success'`,
	); n != 2 {
		t.Errorf("%d audit rows, want 2", n)
	}
}

func TestListUsersPages(t *testing.T) {
	people := newPeople(t)
	var want []string
	for i := range 7 {
		email := fmt.Sprintf("u%d@acme.example", i)
		people.add(t, email, store.RoleViewer)
		want = append(want, email)
	}
	var got []string
	for after := (store.UserCursor{}); ; {
		page, err := people.Dataplane.ListUsers(t.Context(), acme, after, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, u := range page {
			got = append(got, u.Email)
		}
		after.Email = got[len(got)-1]
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("users (-want +got):\n%s", d)
	}
}

// TestLastAdminStays verifies that one of two admins stays when both are demoted or disabled at the same time.
func TestLastAdminStays(t *testing.T) {
	for name, end := range map[string]func(p *people, id string) error{
		"demoted": func(p *people, id string) error {
			_, err := p.Dataplane.SetUserRole(context.Background(), acme, store.RoleChange{
				UserID:    id,
				Role:      store.RoleViewer,
				KeepAdmin: true,
			}, p.by)
			return err
		},
		"disabled": func(p *people, id string) error {
			_, err := p.Dataplane.SetUserDisabled(context.Background(), acme, store.AccessChange{
				UserID:    id,
				Disabled:  true,
				KeepAdmin: true,
			}, p.by)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeople(t)
			ids := []string{p.add(t, "a@acme.example", store.RoleAdmin), p.add(t, "b@acme.example", store.RoleAdmin)}
			invited := store.NewUser{ID: store.NewID(), Email: "c@acme.example", Role: store.RoleAdmin}
			if err := p.Dataplane.Invite(t.Context(), acme, store.Invitation{
				User:  invited,
				Token: token("c"),
				Mail:  letter("invitation"),
			}, p.by); err != nil {
				t.Fatal(err)
			}
			results := make(chan error, 2)
			for _, id := range ids {
				go func() { results <- end(p, id) }()
			}
			refused := 0
			for range 2 {
				switch err := <-results; {
				case errors.Is(err, store.ErrLastAdmin):
					refused++
				case err != nil:
					t.Error(err)
				}
			}
			n := p.Number(
				t,
				`SELECT count(*) FROM users WHERE role = 'admin' AND disabled_at IS NULL AND email_verified_at IS NOT NULL`,
			)
			if refused != 1 || n != 1 {
				t.Errorf("%d refused, %d admins left; want 1 and 1", refused, n)
			}
		})
	}
}

func TestOperatorMayEndTheLastAdmin(t *testing.T) {
	people := newPeople(t)
	id := people.add(t, "a@acme.example", store.RoleAdmin)
	if _, err := people.Dataplane.SetUserDisabled(t.Context(), acme, store.AccessChange{
		UserID:    id,
		Disabled:  true,
		KeepAdmin: true,
	}, people.by); !errors.Is(err, store.ErrLastAdmin) {
		t.Errorf("through the API: %v", err)
	}
	if user, err := people.Operator.SetUserDisabled(t.Context(), acme, store.AccessChange{
		UserID:   id,
		Disabled: true,
	}, people.by); err != nil || !user.Disabled() {
		t.Errorf("by the operator: %v", err)
	}
	if user, err := people.Operator.SetUserDisabled(t.Context(), acme, store.AccessChange{
		UserID: id,
	}, people.by); err != nil || user.Disabled() {
		t.Errorf("and back: %v", err)
	}
}

// TestEndOfAUser verifies that disabling and revoking end all sessions, blacklist their tokens and revoke the access,
// once.
func TestEndOfAUser(t *testing.T) {
	for name, tc := range map[string]struct {
		end             func(p *people, id string) error
		action          string
		wantCanSignIn   bool
		wantRevocations int // the user's, without one for each session
	}{
		"disabled": {func(p *people, id string) error {
			_, err := p.Operator.SetUserDisabled(context.Background(), acme, store.AccessChange{
				UserID:   id,
				Disabled: true,
			}, p.by)
			return err
		}, store.ActionUserDisabled, false, 1},
		"revoked": {func(p *people, id string) error {
			n, err := p.Operator.RevokeUser(context.Background(), acme, id, nil, p.by)
			if n != 2 && n != 0 {
				err = errors.Join(err, fmt.Errorf("%d sessions ended", n))
			}
			return err
		}, store.ActionSessionsRevoked, true, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeople(t)
			id := p.add(t, "jane@acme.example", store.RoleAgent)
			other := p.add(t, "joe@acme.example", store.RoleAgent)
			p.signIn(t, id)
			p.signIn(t, id)
			p.signIn(t, other)
			for range 2 {
				if err := tc.end(p, id); err != nil {
					t.Fatal(err)
				}
			}
			for sql, want := range map[string]int{
				`SELECT count(*) FROM login_sessions WHERE ended_at IS NULL`:                             1,
				`SELECT count(*) FROM refresh_token_blacklist`:                                           2,
				`SELECT count(*) FROM revocations WHERE session_id IS NOT NULL`:                          2,
				`SELECT count(*) FROM revocations WHERE user_id = '` + id + `'`:                          tc.wantRevocations,
				`SELECT count(*) FROM audit_log WHERE action = '` + tc.action + `' AND actor_id IS NULL`: tc.wantRevocations,
			} {
				if n := p.Number(t, sql); n != want {
					t.Errorf("%s: %d, want %d", sql, n, want)
				}
			}
			if _, err := p.Dataplane.StartSession(
				t.Context(), acme, newSession(id), p.by,
			); (err == nil) != tc.wantCanSignIn {
				t.Errorf("sign in again: %v", err)
			}
		})
	}
}

func TestRoleChangeRevokesAccess(t *testing.T) {
	people := newPeople(t)
	id := people.add(t, "jane@acme.example", store.RoleAdmin)
	people.add(t, "joe@acme.example", store.RoleAdmin)
	people.signIn(t, id)
	for range 2 { // the second changes nothing
		user, err := people.Dataplane.SetUserRole(t.Context(), acme, store.RoleChange{
			UserID:    id,
			Role:      store.RoleViewer,
			KeepAdmin: true,
		}, people.by)
		if err != nil || user.Role != store.RoleViewer {
			t.Fatalf("%+v, %v", user, err)
		}
	}
	if n := people.Number(t, `SELECT count(*) FROM revocations WHERE user_id = $1`, id); n != 1 {
		t.Errorf("%d revocations, want 1", n)
	}
	if n := people.Number(t, `SELECT count(*) FROM login_sessions WHERE ended_at IS NULL`); n != 1 {
		t.Errorf("%d live sessions, want the one", n)
	}
	if got := pgtest.Value[string](
		t, people.Server, `SELECT reason FROM audit_log WHERE action = 'user_role_changed'`,
	); got != "from admin to viewer" {
		t.Errorf("the audit log says %q", got)
	}
}

func TestSuspensionRevokesTheTenantOnce(t *testing.T) {
	people := newPeople(t)
	for i, suspended := range []bool{false, true, true, false, false, true} {
		if err := people.Operator.SuspendTenant(t.Context(), acme, suspended); err != nil {
			t.Fatal(i, err)
		}
	}
	if n := people.Number(
		t, `SELECT count(*) FROM revocations WHERE tenant = $1 AND user_id IS NULL AND session_id IS NULL`, acme,
	); n != 2 {
		t.Errorf("%d revocations, want 2", n)
	}
}

// accountTables hold rows of accounts.
var accountTables = []string{
	"users",
	"email_codes",
	"login_sessions",
	"refresh_token_blacklist",
	"password_reset_tokens",
	"revocations",
	"mail_outbox",
	"audit_log",
}

// fill leaves a row of the tenant in each of them.
func (p *people) fill(t *testing.T, tenant string) {
	t.Helper()
	ctx := t.Context()
	newUser := store.NewUser{
		ID:           store.NewID(),
		Email:        "joe@acme.example",
		PasswordHash: hash,
		Role:         store.RoleAdmin,
		Verified:     true,
	}
	n := newSession(newUser.ID)
	reg := store.Registration{
		User: store.NewUser{
			ID:           store.NewID(),
			Email:        "jane@acme.example",
			PasswordHash: hash,
			Role:         store.RoleViewer,
		},
		Code:   store.EmailCode{Hash: digest("code"), Lifetime: time.Minute},
		Verify: letter("verify"),
		Exists: letter("exists"),
	}
	_ = error(nil)
	started := error(nil)
	err := errors.Join(p.Operator.CreateUser(ctx, tenant, newUser, p.by), p.Dataplane.Register(ctx, tenant, reg, p.by),
		p.Dataplane.RequestReset(ctx, tenant, store.ResetRequest{
			Email: newUser.Email,
			Token: token("t"),
			Mail:  letter("reset"),
			Other: letter("none"),
		}, p.by))
	if err == nil {
		_, started = p.Dataplane.StartSession(ctx, tenant, n, p.by)
	}
	if err = errors.Join(err, started); err == nil {
		err = p.Dataplane.EndSession(ctx, tenant, store.SessionEnd{
			UserID:    newUser.ID,
			SessionID: n.ID,
			Reason:    store.EndLogout,
			Action:    store.ActionLogout,
		}, p.by)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range accountTables {
		if n := p.Number(t, `SELECT count(*) FROM `+table+` WHERE tenant = $1`, tenant); n == 0 {
			t.Fatalf("no row in %s", table)
		}
	}
}

func TestDeleteTenantLeavesNoAccounts(t *testing.T) {
	people := newPeople(t)
	people.fill(t, acme)
	people.fill(t, globex)
	if err := people.Operator.DeleteTenant(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	for _, table := range accountTables {
		if n := people.Number(t, `SELECT count(*) FROM `+table+` WHERE tenant = $1`, acme); n != 0 {
			t.Errorf("%d rows left in %s", n, table)
		}
		if n := people.Number(t, `SELECT count(*) FROM `+table+` WHERE tenant = $1`, globex); n == 0 {
			t.Errorf("the other tenant's rows in %s are gone", table)
		}
	}
}

// TestAccountsAreBoundToTheTenant verifies that the data plane's role sees and writes only rows of the transaction's
// tenant. It sees none without a tenant, and cannot delete rows that are kept.
func TestAccountsAreBoundToTheTenant(t *testing.T) {
	people := newPeople(t)
	people.fill(t, acme)
	conn, err := pgx.Connect(t.Context(), people.DataplaneDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, table := range accountTables {
		for _, setting := range []string{"", globex} {
			var n int
			err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
				if _, err := tx.Exec(t.Context(), `SELECT set_config('caly.tenant', $1, true)`, setting); err != nil {
					return err
				}
				return tx.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n)
			})
			if err != nil || n != 0 {
				t.Errorf("%s under %q: %d rows, %v", table, setting, n, err)
			}
		}
		if table != "email_codes" && table != "password_reset_tokens" {
			if _, err := conn.Exec(t.Context(), `DELETE FROM `+table); err == nil {
				t.Errorf("the data plane may delete from %s", table)
			}
		}
	}
	_, err = conn.Exec(
		t.Context(),
		`INSERT INTO users (tenant, id, email, role) VALUES ($1, $2, 'x@acme.example', 'admin')`,
		acme,
		store.NewID(),
	)
	if err == nil {
		t.Error("a user was made of a tenant that the transaction is not bound to")
	}
	if _, err := conn.Exec(t.Context(), `UPDATE audit_log SET outcome = 'success'`); err == nil {
		t.Error("the data plane may change the audit log")
	}
}

// TestOtherTenantsIDs verifies that a tenant finds and changes nothing with the ids of another tenant.
func TestOtherTenantsIDs(t *testing.T) {
	people := newPeople(t)
	id := people.add(t, "jane@acme.example", store.RoleAgent)
	st := people.signIn(t, id)
	before := pgtest.Value[string](
		t, people.Server, `SELECT string_agg(u::text || s::text, ',') FROM users u, login_sessions s`,
	)
	ctx := t.Context()
	db := people.Dataplane
	if err := db.RequestReset(ctx, acme, store.ResetRequest{
		Email: "jane@acme.example",
		Token: token("t"),
		Mail:  letter("m"),
		Other: letter("o"),
	}, people.by); err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() error{
		"user by id":    func() error { _, err := db.UserByID(ctx, globex, id); return err },
		"user by email": func() error { _, err := people.Operator.UserByEmail(ctx, globex, "jane@acme.example"); return err },
		"credentials":   func() error { _, err := db.CredentialsByID(ctx, globex, id); return err },
		"role": func() error {
			_, err := db.SetUserRole(ctx, globex, store.RoleChange{
				UserID: id,
				Role:   store.RoleAdmin,
			}, people.by)
			return err
		},
		"disable": func() error {
			_, err := db.SetUserDisabled(ctx, globex, store.AccessChange{
				UserID:   id,
				Disabled: true,
			}, people.by)
			return err
		},
		"revoke":  func() error { _, err := db.RevokeUser(ctx, globex, id, nil, people.by); return err },
		"session": func() error { _, err := db.StartSession(ctx, globex, newSession(id), people.by); return err },
		"end session": func() error {
			return db.EndSession(ctx, globex, store.SessionEnd{
				UserID:    id,
				SessionID: st.Session.ID,
				Reason:    "x",
				Action:    "logout",
			}, people.by)
		},
		"end sessions": func() error { _, err := db.EndSessions(ctx, globex, id, people.by); return err },
		"reset owner":  func() error { _, err := db.ResetTokenOwner(ctx, globex, digest("t")); return err },
		"reset": func() error {
			_, _, err := db.ResetPassword(ctx, globex, store.PasswordReset{
				TokenHash: digest("t"),
				NewHash:   "x",
			}, people.by)
			return err
		},
		"change": func() error {
			_, err := db.ChangePassword(ctx, globex, store.PasswordChange{
				UserID:   id,
				SeenHash: hash,
				NewHash:  "x",
			}, people.by)
			return err
		},
		"id of no shape": func() error { _, err := db.UserByID(ctx, acme, "1' OR true--"); return err },
		"rotate": func() error {
			_, _, err := db.RotateSession(ctx, globex, store.Refresh{
				SessionID: st.Session.ID,
				TokenHash: digest("x"),
				Decide:    func(store.RefreshState) store.Rotation { return store.RotateEnd },
			}, people.by)
			return err
		},
	} {
		if err := try(); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", name, err)
		}
	}
	if list, err := db.ListSessions(ctx, globex, id, time.Hour); err != nil || len(list) != 0 {
		t.Errorf("sessions: %v, %v", list, err)
	}
	if list, err := db.ListUsers(ctx, globex, store.UserCursor{}, 10); err != nil || len(list) != 0 {
		t.Errorf("users: %v, %v", list, err)
	}
	if after := pgtest.Value[string](
		t, people.Server, `SELECT string_agg(u::text || s::text, ',') FROM users u, login_sessions s`,
	); after != before {
		t.Errorf("rows changed from %s to %s", before, after)
	}
	if _, err := db.UserByID(ctx, acme+","+globex, id); err == nil {
		t.Error("two tenants were named at once")
	}
}

func TestSweepAccounts(t *testing.T) {
	people := newPeople(t)
	people.fill(t, acme)
	if n, err := people.Operator.SweepAccounts(t.Context(), store.DefaultKeep, 100); err != nil || n != 0 {
		t.Fatalf("%d rows went that are in use, %v", n, err)
	}
	old := `now() - interval '400 days'`
	for table, column := range map[string]string{
		"email_codes":             "expires_at",
		"password_reset_tokens":   "expires_at",
		"refresh_token_blacklist": "expires_at",
		"login_sessions":          "expires_at",
		"audit_log":               "at",
	} {
		people.Exec(t, `UPDATE `+table+` SET `+column+` = `+old)
	}
	people.Exec(t, `UPDATE users SET updated_at = `+old)
	if _, err := people.Operator.SweepAccounts(t.Context(), store.DefaultKeep, 100); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"email_codes", "password_reset_tokens", "refresh_token_blacklist", "login_sessions", "audit_log"} {
		if n := people.Number(t, `SELECT count(*) FROM `+table); n != 0 {
			t.Errorf("%d rows left in %s", n, table)
		}
	}
	if got := pgtest.Value[string](
		t, people.Server, `SELECT string_agg(email, ' ') FROM users`,
	); got != "joe@acme.example" {
		t.Errorf("the users left are %q, want the verified one", got)
	}
}

func TestSweepAccountsIsBounded(t *testing.T) {
	people := newPeople(t)
	for i := range 5 {
		people.add(t, fmt.Sprintf("u%d@acme.example", i), store.RoleViewer)
	}
	people.Exec(
		t, `UPDATE audit_log SET at = now() - interval '400 days' WHERE id <= (SELECT min(id) + 2 FROM audit_log)`,
	)
	for _, want := range []int64{2, 1, 0} {
		if n, err := people.Operator.SweepAccounts(t.Context(), store.DefaultKeep, 2); err != nil || n != want {
			t.Errorf("%d rows, %v; want %d", n, err, want)
		}
	}
	if _, err := store.AsOperator(people.Dataplane).SweepAccounts(t.Context(), store.DefaultKeep, 2); err == nil {
		t.Error("the data plane may prune")
	}
}
