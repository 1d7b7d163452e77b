package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

func registration(password, code, mail string) store.Registration {
	return store.Registration{
		User: store.NewUser{
			ID:           store.NewID(),
			Email:        "jane@acme.example",
			PasswordHash: password,
			Role:         store.RoleViewer,
		},
		Code:   store.EmailCode{Hash: digest(code), Lifetime: time.Minute},
		Verify: letter("verify" + mail),
		Exists: letter("exists" + mail),
	}
}

func (p *people) register(t *testing.T, password, code, mail string) {
	t.Helper()
	if err := p.Dataplane.Register(t.Context(), acme, registration(password, code, mail), p.by); err != nil {
		t.Fatal(err)
	}
}

// verify with a code and the stored hash of the password that came with it, if one did.
func (p *people) verify(t *testing.T, code string, confirmed ...string) bool {
	t.Helper()
	good, err := p.Dataplane.VerifyEmail(t.Context(), acme, store.Verification{
		Email:     "jane@acme.example",
		Hash:      digest(code),
		Confirmed: strings.Join(confirmed, ""),
	}, p.by)
	if err != nil {
		t.Fatal(err)
	}
	return good
}

// TestRegisterOver verifies that a registration takes an email only while no verified, invited or disabled account has
// it.
func TestRegisterOver(t *testing.T) {
	for name, tc := range map[string]struct {
		before                       func(t *testing.T, p *people)
		wantMail, wantHash, wantRole string
		wantCodes                    int
	}{
		"nobody": {func(*testing.T, *people) {}, "verify2", "second", "viewer", 1},
		"not verified": {func(t *testing.T, p *people) { p.register(t, "first", "111111", "1") },
			"verify2", "second", "viewer", 1},
		"not verified, tried too often": {func(t *testing.T, p *people) {
			p.register(t, "first", "111111", "1")
			for range store.MaxCodeTries {
				p.verify(t, "000000")
			}
		}, "verify2", "second", "viewer", 1},
		"verified": {func(t *testing.T, p *people) { p.register(t, "first", "111111", "1"); p.verify(t, "111111") },
			"exists2", "first", "viewer", 0},
		"invited": {func(t *testing.T, p *people) {
			newUser := store.NewUser{ID: store.NewID(), Email: "jane@acme.example", Role: store.RoleAdmin}
			if err := p.Dataplane.Invite(t.Context(), acme, store.Invitation{
				User:  newUser,
				Token: token("t"),
				Mail:  letter("invitation"),
			}, p.by); err != nil {
				t.Fatal(err)
			}
		}, "exists2", "", "admin", 0},
		"disabled": {func(t *testing.T, p *people) {
			p.register(t, "first", "111111", "1")
			p.Exec(t, `UPDATE users SET disabled_at = now()`)
		}, "exists2", "first", "viewer", 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeople(t)
			tc.before(t, p)
			p.register(t, "second", "222222", "2")
			if got := pgtest.Value[string](
				t, p.Server, `SELECT template FROM mail_outbox ORDER BY id DESC LIMIT 1`,
			); got != tc.wantMail {
				t.Errorf("mail %q, want %q", got, tc.wantMail)
			}
			got := pgtest.Value[string](t, p.Server, `SELECT password_hash || '|' || role FROM users`)
			if d := cmp.Diff(tc.wantHash+"|"+tc.wantRole, got); d != "" {
				t.Errorf("account (-want +got):\n%s", d)
			}
			if n := p.Number(t, `SELECT count(*) FROM email_codes`); n != tc.wantCodes {
				t.Errorf("%d codes, want %d", n, tc.wantCodes)
			}
			fresh := tc.wantMail == "verify2"
			if good := p.verify(t, "222222", "second"); good != fresh {
				t.Errorf("the code verifies: %v, want %v", good, fresh)
			}
		})
	}
}

const notTheLast = "not the password that was registered last"

func TestVerifyEmail(t *testing.T) {
	for name, tc := range map[string]struct {
		before func(t *testing.T, p *people)
		code   string
		want   bool
		reason string // in the audit log
		sent   string // with the code: the password's hash
	}{
		"right":               {func(*testing.T, *people) {}, "111111", true, "", ""},
		"right, and password": {func(*testing.T, *people) {}, "111111", true, "", hash},
		"another password":    {func(*testing.T, *people) {}, "111111", false, notTheLast, "other"},
		"registered again": {
			func(t *testing.T, p *people) { p.register(t, "second", "222222", "2") },
			"222222",
			false,
			notTheLast,
			"",
		},
		"again, password": {
			func(t *testing.T, p *people) { p.register(t, "second", "222222", "2") },
			"222222",
			true,
			"",
			"second",
		},
		"again, the first's": {
			func(t *testing.T, p *people) { p.register(t, "second", "222222", "2") },
			"222222",
			false,
			notTheLast,
			hash,
		},
		"again, then resent": {
			func(t *testing.T, p *people) { p.register(t, "second", "222222", "2"); p.resend(t, "333333") },
			"333333",
			false,
			notTheLast,
			"",
		},
		"wrong": {func(*testing.T, *people) {}, "111112", false, "wrong code", ""},
		"expired": {
			func(t *testing.T, p *people) { p.Exec(t, `UPDATE email_codes SET expires_at = now()`) },
			"111111",
			false,
			"expired",
			"",
		},
		"disabled": {
			func(t *testing.T, p *people) { p.Exec(t, `UPDATE users SET disabled_at = now()`) },
			"111111",
			false,
			"no code is waited for",
			"",
		},
		"used": {
			func(t *testing.T, p *people) { p.verify(t, "111111") },
			"111111",
			false,
			"no code is waited for",
			"",
		},
		"unknown email": {
			func(t *testing.T, p *people) { p.Exec(t, `DELETE FROM users`) },
			"111111",
			false,
			"no code is waited for",
			"",
		},
		"right after four": {func(t *testing.T, p *people) { wrongs(t, p, 4) }, "111111", true, "", ""},
		"right after five": {
			func(t *testing.T, p *people) { wrongs(t, p, 5) },
			"111111",
			false,
			"too many tries",
			"",
		},
		"the code before a new": {
			func(t *testing.T, p *people) { p.resend(t, "222222") },
			"111111",
			false,
			"wrong code",
			"",
		},
		"a new one after five": {
			func(t *testing.T, p *people) { wrongs(t, p, 5); p.resend(t, "222222") },
			"222222",
			true,
			"",
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeople(t)
			p.register(t, hash, "111111", "1")
			tc.before(t, p)
			if got := p.verify(t, tc.code, tc.sent); got != tc.want {
				t.Errorf("verified: %v, want %v", got, tc.want)
			}
			if n := p.Number(
				t, `SELECT count(*) FROM users WHERE email_verified_at IS NOT NULL AND disabled_at IS NULL`,
			); (n == 1) != (tc.want || name == "used") {
				t.Errorf("%d verified users", n)
			}
			if got := pgtest.Value[string](
				t, p.Server, `SELECT reason FROM audit_log WHERE action = 'verify_email' ORDER BY id DESC LIMIT 1`,
			); got != tc.reason {
				t.Errorf("the audit log says %q, want %q", got, tc.reason)
			}
		})
	}
}

func wrongs(t *testing.T, p *people, n int) {
	t.Helper()
	for range n {
		p.verify(t, "000000")
	}
}

func (p *people) resend(t *testing.T, code string) {
	t.Helper()
	err := p.Dataplane.Resend(t.Context(), acme, store.CodeRequest{
		Email: "jane@acme.example",
		Code:  store.EmailCode{Hash: digest(code), Lifetime: time.Minute},
		Mail:  letter("again" + code),
		Other: letter("none" + code),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCodeUnderConcurrency verifies that concurrent guesses count one by one, and that a right code verifies once.
func TestCodeUnderConcurrency(t *testing.T) {
	people := newPeople(t)
	people.register(t, hash, "111111", "1")
	var wg sync.WaitGroup
	var good atomic.Int32
	try := func(code string) {
		ok, err := people.Dataplane.VerifyEmail(context.Background(), acme, store.Verification{
			Email: "jane@acme.example",
			Hash:  digest(code),
		}, people.by)
		if err != nil {
			t.Error(err)
		}
		if ok {
			good.Add(1)
		}
	}
	for i := range 30 {
		wg.Go(func() { try(fmt.Sprint("00000", i)) })
	}
	wg.Wait()
	if n := people.Number(t, `SELECT count(*) FROM audit_log WHERE reason = 'wrong code'`); n != store.MaxCodeTries ||
		good.Load() != 0 {
		t.Errorf("%d guesses counted, %d verified; want %d and 0", n, good.Load(), store.MaxCodeTries)
	}
	people.resend(t, "222222")
	for range 30 {
		wg.Go(func() { try("222222") })
	}
	wg.Wait()
	if good.Load() != 1 {
		t.Errorf("the code verified %d times, want once", good.Load())
	}
}

func TestResend(t *testing.T) {
	for name, tc := range map[string]struct {
		before func(t *testing.T, p *people)
		want   string
	}{
		"waits":    {func(t *testing.T, p *people) { p.register(t, hash, "111111", "1") }, "again2"},
		"unknown":  {func(*testing.T, *people) {}, "none2"},
		"verified": {func(t *testing.T, p *people) { p.add(t, "jane@acme.example", store.RoleViewer) }, "none2"},
		"disabled": {func(t *testing.T, p *people) {
			p.register(t, hash, "111111", "1")
			p.Exec(t, `UPDATE users SET disabled_at = now()`)
		}, "none2"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeople(t)
			tc.before(t, p)
			p.resend(t, "2")
			if got := pgtest.Value[string](
				t, p.Server, `SELECT template FROM mail_outbox ORDER BY id DESC LIMIT 1`,
			); got != tc.want {
				t.Errorf("mail %q, want %q", got, tc.want)
			}
		})
	}
}

func (p *people) reset(token, newHash string) error {
	_, _, err := p.Dataplane.ResetPassword(context.Background(), acme, store.PasswordReset{
		TokenHash: digest(token),
		NewHash:   newHash,
		Mail: func(store.User) (*store.OutboxMail, error) {
			return letter("changed" + newHash), nil
		},
	}, p.by)
	return err
}

func (p *people) request(t *testing.T, name string) {
	t.Helper()
	if err := p.Dataplane.RequestReset(t.Context(), acme, store.ResetRequest{
		Email: "jane@acme.example",
		Token: token(name),
		Mail:  letter("reset" + name),
		Other: letter("none" + name),
	}, p.by); err != nil {
		t.Fatal(err)
	}
}

func TestResetPassword(t *testing.T) {
	for name, tc := range map[string]struct {
		before func(t *testing.T, p *people)
		token  string
		want   error
	}{
		"good":    {func(*testing.T, *people) {}, "t1", nil},
		"unknown": {func(*testing.T, *people) {}, "t2", store.ErrNotFound},
		"expired": {
			func(t *testing.T, p *people) { p.Exec(t, `UPDATE password_reset_tokens SET expires_at = now()`) },
			"t1",
			store.ErrNotFound,
		},
		"used": {func(_ *testing.T, p *people) { _ = p.reset("t1", "first") }, "t1", store.ErrNotFound},
		"disabled": {
			func(t *testing.T, p *people) { p.Exec(t, `UPDATE users SET disabled_at = now()`) },
			"t1",
			store.ErrNotFound,
		},
		"one of three": {func(t *testing.T, p *people) { p.request(t, "t2"); p.request(t, "t3") }, "t1", nil},
		"the oldest of four": {
			func(t *testing.T, p *people) { p.request(t, "t2"); p.request(t, "t3"); p.request(t, "t4") },
			"t1",
			store.ErrNotFound,
		},
		"another was used": {
			func(t *testing.T, p *people) { p.request(t, "t2"); _ = p.reset("t2", "first") },
			"t1",
			store.ErrNotFound,
		},
		"the password changed": {func(t *testing.T, p *people) { p.change(t) }, "t1", store.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeople(t)
			id := p.add(t, "jane@acme.example", store.RoleViewer)
			p.Exec(t, `UPDATE users SET email_verified_at = NULL`) // a reset by mail verifies it
			p.request(t, "t1")
			tc.before(t, p)
			owner, err := p.Dataplane.ResetTokenOwner(t.Context(), acme, digest(tc.token))
			if !errors.Is(err, tc.want) || err == nil && owner.ID != id {
				t.Errorf("owner %v, %v; want %v", owner, err, tc.want)
			}
			if err := p.reset(tc.token, "second"); !errors.Is(err, tc.want) {
				t.Fatalf("%v, want %v", err, tc.want)
			}
			n := p.Number(
				t, `SELECT count(*) FROM users WHERE password_hash = 'second' AND email_verified_at IS NOT NULL`,
			)
			mail := p.Number(t, `SELECT count(*) FROM mail_outbox WHERE template = 'changedsecond'`)
			if want := map[bool]int{true: 1}[tc.want == nil]; n != want || mail != want {
				t.Errorf("%d passwords set, %d mails; want %d of each", n, mail, want)
			}
		})
	}
}

func (p *people) change(t *testing.T) {
	t.Helper()
	id := pgtest.Value[string](t, p.Server, `SELECT id::text FROM users`)
	if _, err := p.Dataplane.ChangePassword(t.Context(), acme, store.PasswordChange{
		UserID:   id,
		SeenHash: hash,
		NewHash:  "changed",
	}, p.by); err != nil {
		t.Fatal(err)
	}
}

// TestResetOnceUnderConcurrency verifies that one of many concurrent resets sets the password, with one token or
// several tokens of the user.
func TestResetOnceUnderConcurrency(t *testing.T) {
	for name, tokens := range map[string][]string{"one token": {"t1"}, "three tokens": {"t1", "t2", "t3"}} {
		t.Run(name, func(t *testing.T) {
			people := newPeople(t)
			people.add(t, "jane@acme.example", store.RoleViewer)
			for _, name := range tokens {
				people.request(t, name)
			}
			won := make(chan string, 20)
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					newHash := fmt.Sprint("hash", i)
					switch err := people.reset(tokens[i%len(tokens)], newHash); {
					case err == nil:
						won <- newHash
					case !errors.Is(err,
						store.ErrNotFound) && !errors.Is(err,
						store.ErrUnavailable): // the latter: a deadlock was resolved
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if len(won) != 1 {
				t.Fatalf("%d set the password, want 1", len(won))
			}
			if got, want := pgtest.Value[string](
				t, people.Server, `SELECT password_hash FROM users`,
			), <-won; got != want {
				t.Errorf("the password is %s, and %s was told that it is his", got, want)
			}
		})
	}
}

func TestRequestReset(t *testing.T) {
	for name, tc := range map[string]struct {
		before func(t *testing.T, p *people)
		want   string
		tokens int
	}{
		"known": {
			func(t *testing.T, p *people) { p.add(t, "jane@acme.example", store.RoleViewer) },
			"resett1",
			1,
		},
		"unknown":      {func(*testing.T, *people) {}, "nonet1", 0},
		"not verified": {func(t *testing.T, p *people) { p.register(t, hash, "111111", "1") }, "resett1", 1},
		"disabled": {func(t *testing.T, p *people) {
			p.add(t, "jane@acme.example", store.RoleViewer)
			p.Exec(t, `UPDATE users SET disabled_at = now()`)
		}, "nonet1", 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeople(t)
			tc.before(t, p)
			p.request(t, "t1")
			if got := pgtest.Value[string](
				t, p.Server, `SELECT template FROM mail_outbox ORDER BY id DESC LIMIT 1`,
			); got != tc.want {
				t.Errorf("mail %q, want %q", got, tc.want)
			}
			if n := p.Number(t, `SELECT count(*) FROM password_reset_tokens`); n != tc.tokens {
				t.Errorf("%d tokens, want %d", n, tc.tokens)
			}
		})
	}
}

// TestNothingHalfDone verifies that a transaction whose mail cannot be written changes nothing.
func TestNothingHalfDone(t *testing.T) {
	broken := errors.New("no key")
	mail := func(store.User) (*store.OutboxMail, error) { return nil, broken }
	for name, change := range map[string]func(p *people, id string) error{
		"reset": func(p *people, _ string) error {
			_, _, err := p.Dataplane.ResetPassword(context.Background(), acme, store.PasswordReset{
				TokenHash: digest("t1"),
				NewHash:   "new",
				Mail:      mail,
			}, p.by)
			return err
		},
		"change": func(p *people, id string) error {
			_, err := p.Dataplane.ChangePassword(context.Background(), acme, store.PasswordChange{
				UserID:   id,
				SeenHash: hash,
				NewHash:  "new",
				Mail:     mail,
			}, p.by)
			return err
		},
		"revoke": func(p *people, id string) error {
			_, err := p.Dataplane.RevokeUser(context.Background(), acme, id, mail, p.by)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeople(t)
			id := p.add(t, "jane@acme.example", store.RoleViewer)
			p.signIn(t, id)
			p.request(t, "t1")
			const rows = `SELECT (SELECT string_agg(u::text, ',') FROM users u) || (SELECT string_agg(s::text, ',')
				FROM login_sessions s) ||
				(SELECT string_agg(t::text, ',') FROM password_reset_tokens t) || (SELECT count(*) FROM audit_log) ||
					(SELECT count(*) FROM revocations)`
			before := pgtest.Value[string](t, p.Server, rows)
			if err := change(p, id); err == nil || errors.Is(err, store.ErrUnavailable) {
				t.Errorf("error %v, want the mail's", err)
			}
			if after := pgtest.Value[string](t, p.Server, rows); after != before {
				t.Errorf("rows changed from\n%s to\n%s", before, after)
			}
		})
	}
}
