package account_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/identity/account"
	"github.com/caly-dev/caly/dataplane/identity/session"
	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/store"
)

// late is a moment behind the interval in which everyone with the last token is given the current one.
const late = session.ReuseInterval + time.Second

// ended fails the test unless the session was ended for reuse, with all that belongs to it.
func (r *rig) ended(t *testing.T, blacklisted string) {
	t.Helper()
	for what, q := range map[string][2]string{
		"reason":     {`SELECT string_agg(end_reason, ',') FROM login_sessions`, store.EndReuse},
		"audit":      {`SELECT string_agg(outcome || host(address), ',') FROM audit_log WHERE action = 'refresh_reuse'`, "failure" + home},
		"revocation": {`SELECT count(*) FROM revocations r JOIN login_sessions s ON r.session_id = s.id`, "1"},
		"blacklist":  {`SELECT count(*) FROM refresh_token_blacklist WHERE reason = 'reuse'`, blacklisted},
	} {
		if got := r.text(t, q[0]); got != q[1] {
			t.Errorf("%s: %q, want %q", what, got, q[1])
		}
	}
	r.mail(t, jane, mail.SessionsEnded)
}

func signedIn(t *testing.T, change ...func(*account.Options)) (*rig, tokens) {
	t.Helper()
	r := newRig(t, change...)
	r.user(t, acme, jane, store.RoleAgent)
	return r, r.login(t, jane, good)
}

// TestFiftyRefreshesAtOnce verifies that fifty concurrent refreshes over two pods all get the same token.
func TestFiftyRefreshesAtOnce(t *testing.T) {
	rig, tk := signedIn(t)
	var mu sync.Mutex
	got := map[string]int{}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			answer := rig.do(t, request{
				path: "/api/auth/refresh",
				body: fields{"refreshToken": tk.RefreshToken},
				pod:  rig.pods[i%2],
			})
			var out tokens
			if answer.Status == 200 {
				answer.JSON(t, &out)
			}
			mu.Lock()
			defer mu.Unlock()
			got[out.RefreshToken]++
		})
	}
	wg.Wait()
	if len(got) != 1 || got[""] != 0 {
		t.Fatalf("%d tokens were given, %d were refused; want one for all", len(got), got[""])
	}
	for raw := range got {
		if next := rig.refresh(t, raw).tokens(t); next.RefreshToken == raw || next.RefreshToken == tk.RefreshToken {
			t.Error("it leads to no new one")
		}
	}
}

func TestTwoGenerationsOldWithinTheInterval(t *testing.T) {
	rig, first := signedIn(t)
	second := rig.refresh(t, first.RefreshToken).tokens(t)
	third := rig.refresh(t, second.RefreshToken).tokens(t)
	if again := rig.refresh(t, second.RefreshToken).tokens(t); again.RefreshToken != third.RefreshToken {
		t.Error("one generation old: another token than the current one")
	}
	rig.refresh(t, first.RefreshToken).want(t, "two generations old", 401, "invalid_token")
	rig.refresh(t, third.RefreshToken).want(t, "the current one, after that", 401, "invalid_token")
	soon.Holds(t, "access ends", func() bool {
		return rig.do(t, request{method: http.MethodGet, path: "/api/auth/me", bearer: third.AccessToken}).Status == 401
	})
	rig.ended(t, "2")
}

// TestAnswerIsLost verifies that a client gets its new token again with the old one after a pod failed between commit
// and answer.
func TestAnswerIsLost(t *testing.T) {
	for name, wait := range map[string]time.Duration{
		"and asked for again at once": 0,
		"and asked for again late":    late,
	} {
		t.Run(name, func(t *testing.T) {
			rig, tk := signedIn(t)
			rig.pods[0].broken.set(true)
			answer := rig.do(t, request{
				path: "/api/auth/refresh",
				body: fields{"refreshToken": tk.RefreshToken},
				pod:  rig.pods[0],
			})
			answer.want(t, "the lost answer", 500, "internal")
			if got := rig.text(t, `SELECT counter FROM login_sessions`); got != "2" {
				t.Fatalf("generation %s, want that it was rotated", got)
			}
			rig.ago(t, wait)
			next := rig.do(t, request{
				path: "/api/auth/refresh",
				body: fields{"refreshToken": tk.RefreshToken},
				pod:  rig.pods[1],
			}).tokens(t)
			if got := rig.text(t, `SELECT counter FROM login_sessions`); got != "2" {
				t.Errorf("generation %s, want that it stayed", got)
			}
			rig.do(t, request{
				path: "/api/auth/refresh",
				body: fields{"refreshToken": next.RefreshToken},
				pod:  rig.pods[1],
			}).must(t, 200)
		})
	}
}

// TestRecoveryIsLimitedInTime checks that the token before the current one ends the session when it comes too late.
func TestRecoveryIsLimitedInTime(t *testing.T) {
	rig, first := signedIn(t)
	second := rig.refresh(t, first.RefreshToken).tokens(t)
	rig.ago(t, session.RecoveryInterval+time.Minute)
	rig.refresh(t, first.RefreshToken).want(t, "the token before, too late", 401, "invalid_token")
	rig.refresh(t, second.RefreshToken).want(t, "the current one, after that", 401, "invalid_token")
	rig.ended(t, "2")
}

// TestSecondRecoveryInARow verifies that a second recovery in a row ends the session. One lost answer is plausible; two
// mean that a second party has the token.
func TestSecondRecoveryInARow(t *testing.T) {
	rig, first := signedIn(t)
	second := rig.refresh(t, first.RefreshToken).tokens(t)
	rig.ago(t, late)
	if again := rig.refresh(t, first.RefreshToken).tokens(t); again.RefreshToken != second.RefreshToken {
		t.Error("the recovery gave another token than the current one")
	}
	third := rig.refresh(t, second.RefreshToken).tokens(t)
	rig.ago(t, late)
	rig.refresh(t, second.RefreshToken).want(t, "the second recovery", 401, "invalid_token")
	rig.refresh(t, third.RefreshToken).want(t, "the current one, after that", 401, "invalid_token")
	rig.ended(t, "2")
}

// TestRecoveryTwiceApart verifies that several lost answers with good refreshes between them do not end the session.
func TestRecoveryTwiceApart(t *testing.T) {
	rig, tk := signedIn(t)
	for range 3 {
		next := rig.refresh(t, tk.RefreshToken).tokens(t)
		rig.ago(t, late)
		if again := rig.refresh(t, tk.RefreshToken).tokens(t); again.RefreshToken != next.RefreshToken {
			t.Fatal("the recovery gave another token than the current one")
		}
		tk = rig.refresh(t, rig.refresh(t, next.RefreshToken).tokens(t).RefreshToken).tokens(t)
	}
}

func TestRefreshRefuses(t *testing.T) {
	r := newRig(t)
	for name, tc := range map[string]struct {
		before func(t *testing.T, r *rig, tk tokens)
		raw    func(tk tokens) string
	}{
		"nothing":       {raw: func(tokens) string { return "" }},
		"garbage":       {raw: func(tokens) string { return "crt1.x" }},
		"access token":  {raw: func(tk tokens) string { return tk.AccessToken[:min(256, len(tk.AccessToken))] }},
		"one bit":       {raw: func(tk tokens) string { return flip(tk.RefreshToken, len(tk.RefreshToken)-3) }},
		"other session": {raw: func(tk tokens) string { return flip(tk.RefreshToken, 8) }},
		"expired": {before: func(t *testing.T, r *rig, _ tokens) {
			r.db.Exec(t, `UPDATE login_sessions SET expires_at = now()`)
		}},
		"idle": {before: func(t *testing.T, r *rig, _ tokens) {
			r.db.Exec(t, `UPDATE login_sessions SET last_seen_at = now() - interval '15 days'`)
		}},
		"user is gone": {before: func(t *testing.T, r *rig, _ tokens) { r.db.Exec(t, `DELETE FROM users`) }},
		"disabled alone": {before: func(t *testing.T, r *rig, _ tokens) {
			r.db.Exec(t, `UPDATE users SET disabled_at = now()`)
		}},
		"taken back": {before: func(t *testing.T, r *rig, tk tokens) {
			r.db.Exec(t, `INSERT INTO refresh_token_blacklist (tenant, token_hash, session_id, reason, expires_at)
				SELECT tenant, sha256(convert_to($1, 'UTF8')), id, 'by hand', expires_at FROM login_sessions`, tk.RefreshToken)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r.db.Exec(t, `DELETE FROM users`)
			r.user(t, acme, jane, store.RoleAgent)
			tk := r.login(t, jane, good)
			if tc.before != nil {
				tc.before(t, r, tk)
			}
			raw := tk.RefreshToken
			if tc.raw != nil {
				raw = tc.raw(tk)
			}
			r.refresh(t, raw).want(t, name, 401, "invalid_token")
			if tc.raw != nil { // a foreign token does the session no harm
				r.refresh(t, tk.RefreshToken).must(t, 200)
			}
		})
	}
}

// flip changes one character.
func flip(s string, i int) string {
	c := byte('A')
	if s[i] == c {
		c = 'B'
	}
	return s[:i] + string(c) + s[i+1:]
}

// TestRoleChangeIsInTheNextToken verifies that a change of role ends access tokens with the old role. The session
// continues with the new one.
func TestRoleChangeIsInTheNextToken(t *testing.T) {
	rig, tk := signedIn(t)
	db := rig.pods[0].db
	if _, err := db.SetUserRole(t.Context(), acme, store.RoleChange{
		UserID:    tk.User.ID,
		Role:      store.RoleAdmin,
		KeepAdmin: true,
	}, store.Origin{}); err != nil {
		t.Fatal(err)
	}
	soon.Holds(t, "the old role's access ends", func() bool {
		return rig.do(t, request{method: http.MethodGet, path: "/api/auth/me", bearer: tk.AccessToken}).Status == 401
	})
	next := rig.refresh(t, tk.RefreshToken).tokens(t)
	if next.User.Role != store.RoleAdmin {
		t.Errorf("role %s", next.User.Role)
	}
	rig.do(t, request{method: http.MethodGet, path: "/api/auth/me", bearer: next.AccessToken}).must(t, 200)
}

// TestListShowsWhereItWasSeenLast verifies that the list of sessions shows the address of the last refresh.
func TestListShowsWhereItWasSeenLast(t *testing.T) {
	rig, tk := signedIn(t)
	next := rig.do(t, request{
		path: "/api/auth/refresh",
		from: "2001:db8::7",
		body: fields{"refreshToken": tk.RefreshToken},
	}).tokens(t)
	if list := rig.sessions(t, next.AccessToken); len(list) != 1 || list[0].Address != "2001:db8::7" ||
		!list[0].LastSeenAt.After(list[0].CreatedAt) {
		t.Errorf("sessions %+v", list)
	}
}
