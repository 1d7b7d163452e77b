package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

func TestStartSession(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(t *testing.T, p *people)
		want   error
	}{
		"good": {func(*testing.T, *people) {}, nil},
		"disabled": {
			func(t *testing.T, p *people) { p.Exec(t, `UPDATE users SET disabled_at = now()`) },
			store.ErrNotFound,
		},
		"not verified": {
			func(t *testing.T, p *people) { p.Exec(t, `UPDATE users SET email_verified_at = NULL`) },
			store.ErrNotFound,
		},
		"password changed": {
			func(t *testing.T, p *people) { p.Exec(t, `UPDATE users SET password_hash = 'other'`) },
			store.ErrNotFound,
		},
		"no password at all": {
			func(t *testing.T, p *people) { p.Exec(t, `UPDATE users SET password_hash = ''`) },
			store.ErrNotFound,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeople(t)
			id := p.add(t, "jane@acme.example", store.RoleAgent)
			tc.change(t, p)
			n := newSession(id)
			if name == "no password at all" {
				n.SeenHash = ""
			}
			st, err := p.Dataplane.StartSession(t.Context(), acme, n, p.by)
			if !errors.Is(err, tc.want) {
				t.Fatalf("%v, want %v", err, tc.want)
			}
			if rows := p.Number(t, `SELECT count(*) FROM login_sessions`); (rows == 1) != (tc.want == nil) {
				t.Errorf("%d sessions", rows)
			}
			if err != nil {
				return
			}
			if st.User.Role != store.RoleAgent || st.Session.Device != "test" || st.Session.Address != p.by.Address ||
				st.Session.ExpiresAt.Sub(st.Now) != time.Hour {
				t.Errorf("session %+v of %+v", st.Session, st.User)
			}
			if got := pgtest.Value[string](
				t,
				p.Server,
				`SELECT action || host(address) || actor_id || session_id FROM audit_log ORDER BY id DESC LIMIT 1`,
			); got != "login192.0.2.7"+id+n.ID {
				t.Errorf("the audit log says %q", got)
			}
		})
	}
}

func TestLoginUpgradesTheHash(t *testing.T) {
	people := newPeople(t)
	n := newSession(people.add(t, "jane@acme.example", store.RoleAgent))
	n.NewHash = "stronger"
	if _, err := people.Dataplane.StartSession(t.Context(), acme, n, people.by); err != nil {
		t.Fatal(err)
	}
	if got := pgtest.Value[string](t, people.Server, `SELECT password_hash FROM users`); got != "stronger" {
		t.Errorf("the hash is %q", got)
	}
}

// TestSessionsAreBounded verifies that a new session beyond the limit ends the least recently seen session.
func TestSessionsAreBounded(t *testing.T) {
	people := newPeople(t)
	id := people.add(t, "jane@acme.example", store.RoleAgent)
	first := people.signIn(t, id).Session.ID
	second := people.signIn(t, id).Session.ID
	people.Exec(t, `UPDATE login_sessions SET last_seen_at = now() - interval '1 hour' WHERE id = $1`, second)
	for range store.MaxSessions - 1 {
		people.signIn(t, id)
	}
	list, err := people.Dataplane.ListSessions(t.Context(), acme, id, 24*time.Hour)
	if err != nil || len(list) != store.MaxSessions {
		t.Fatalf("%d live sessions, %v; want %d", len(list), err, store.MaxSessions)
	}
	if got := pgtest.Value[string](
		t,
		people.Server,
		`SELECT string_agg(id::text || end_reason, ',') FROM login_sessions WHERE ended_at IS NOT NULL`,
	); got != second+store.EndTooMany {
		t.Errorf("ended %q, want %q", got, second+store.EndTooMany)
	}
	if last := list[len(list)-1].ID; last != first {
		t.Errorf("the last of the list is %s, want the one that was seen least recently, %s", last, first)
	}
}

func TestListSessionsLeavesOutTheDead(t *testing.T) {
	people := newPeople(t)
	id := people.add(t, "jane@acme.example", store.RoleAgent)
	live := people.signIn(t, id).Session
	ended := people.signIn(t, id).Session
	expired := people.signIn(t, id).Session
	idle := people.signIn(t, id).Session
	if err := people.Dataplane.EndSession(t.Context(), acme, store.SessionEnd{
		UserID:    id,
		SessionID: ended.ID,
		Reason:    store.EndLogout,
		Action:    store.ActionLogout,
	}, people.by); err != nil {
		t.Fatal(err)
	}
	people.Exec(t, `UPDATE login_sessions SET expires_at = now() WHERE id = $1`, expired.ID)
	people.Exec(t, `UPDATE login_sessions SET last_seen_at = now() - interval '2 hours' WHERE id = $1`, idle.ID)
	list, err := people.Dataplane.ListSessions(t.Context(), acme, id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(
		[]store.LoginSession{live}, list, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	); d != "" {
		t.Errorf("sessions (-want +got):\n%s", d)
	}
}

func TestEndSession(t *testing.T) {
	people := newPeople(t)
	jane := people.add(t, "jane@acme.example", store.RoleAgent)
	joe := people.add(t, "joe@acme.example", store.RoleAgent)
	st := people.signIn(t, jane)
	end := func(user, session string) error {
		return people.Dataplane.EndSession(t.Context(), acme, store.SessionEnd{
			UserID:    user,
			SessionID: session,
			Reason:    store.EndRevoked,
			Action:    store.ActionSessionRevoked,
		}, people.by)
	}
	for name, try := range map[string]func() error{
		"somebody else's": func() error { return end(joe, st.Session.ID) },
		"none":            func() error { return end(jane, store.NewID()) },
		"no id":           func() error { return end(jane, "me") },
	} {
		if err := try(); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", name, err)
		}
	}
	if err := end(jane, st.Session.ID); err != nil {
		t.Fatal(err)
	}
	if err := end(jane, st.Session.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("again: %v, want ErrNotFound", err)
	}
	got := pgtest.Value[string](
		t, people.Server,
		`SELECT s.end_reason || ' ' || b.reason || ' ' || (r.session_id = s.id)::text || ' ' ||
			(b.expires_at = s.expires_at)::text
		FROM login_sessions s JOIN refresh_token_blacklist b ON b.session_id = s.id JOIN revocations r
			ON r.session_id = s.id`,
	)
	if got != "revoked revoked true true" {
		t.Errorf("session, blacklist and revocation say %q", got)
	}
}

func TestChangePasswordSparesTheSession(t *testing.T) {
	people := newPeople(t)
	id := people.add(t, "jane@acme.example", store.RoleAgent)
	mine := people.signIn(t, id).Session.ID
	other := people.signIn(t, id).Session.ID
	by := people.by
	by.ActorID = id
	by.SessionID = mine
	ended, err := people.Dataplane.ChangePassword(t.Context(), acme, store.PasswordChange{
		UserID:   id,
		SeenHash: hash,
		NewHash:  "new",
	}, by)
	if d := cmp.Diff([]string{other}, ended); err != nil || d != "" {
		t.Errorf("%v; ended (-want +got):\n%s", err, d)
	}
	if _, err := people.Dataplane.ChangePassword(t.Context(), acme, store.PasswordChange{
		UserID:   id,
		SeenHash: hash,
		NewHash:  "newer",
	}, by); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("by a replaced password: %v", err)
	}
}

// TestEndsAndRefreshesMeet verifies that concurrent refreshes and the end of all sessions leave no session alive and do
// not deadlock.
func TestEndsAndRefreshesMeet(t *testing.T) {
	people := newPeople(t)
	id := people.add(t, "jane@acme.example", store.RoleAgent)
	var sessions []string
	for range 6 {
		sessions = append(sessions, people.signIn(t, id).Session.ID)
	}
	advance := func(st store.RefreshState) store.Rotation {
		if st.Ended || st.User.Disabled() {
			return store.RotateRefuse
		}
		return store.RotateAdvance
	}
	var wg sync.WaitGroup
	for _, session := range sessions {
		wg.Go(func() {
			for i := range 20 {
				if _, _, err := people.Dataplane.RotateSession(context.Background(), acme, store.Refresh{
					SessionID: session,
					TokenHash: digest(fmt.Sprint(session, i)),
					Decide:    advance,
				}, people.by); err != nil {
					t.Error("refresh:", err)
				}
			}
		})
	}
	wg.Go(func() {
		if _, err := people.Operator.SetUserDisabled(context.Background(), acme, store.AccessChange{
			UserID:   id,
			Disabled: true,
		}, people.by); err != nil {
			t.Error("disable:", err)
		}
	})
	wg.Wait()
	if n := people.Number(t, `SELECT count(*) FROM login_sessions WHERE ended_at IS NULL`); n != 0 {
		t.Errorf("%d sessions live on", n)
	}
}

// TestRevocationIsNotBeforeARefresh checks that a revocation that did not see a refresh has a later time than the
// refresh gives its access token, in either order.
func TestRevocationIsNotBeforeARefresh(t *testing.T) {
	people := newPeople(t)
	id := people.add(t, "jane@acme.example", store.RoleAdmin)
	session := people.signIn(t, id).Session.ID
	var wg sync.WaitGroup
	var mu sync.Mutex
	var old []time.Time // of refreshes that saw the old role
	for i := range 4 {
		wg.Go(func() {
			for j := range 15 {
				st, _, err := people.Dataplane.RotateSession(context.Background(), acme, store.Refresh{
					SessionID: session,
					TokenHash: digest(fmt.Sprint(i, j)),
					Decide:    func(store.RefreshState) store.Rotation { return store.RotateAdvance },
				}, people.by)
				if err != nil {
					t.Error(err)
				}
				if st.User.Role == store.RoleAdmin {
					mu.Lock()
					old = append(old, st.Now)
					mu.Unlock()
				}
			}
		})
	}
	wg.Go(func() {
		ctx := context.Background()
		if _, err := people.Dataplane.SetUserRole(ctx, acme, store.RoleChange{
			UserID: id,
			Role:   store.RoleViewer,
		}, people.by); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	list, err := people.Dataplane.RevocationsSince(t.Context(), []string{acme}, time.Hour, 0, 10)
	if err != nil || len(list) != 1 {
		t.Fatalf("revocations %v, %v", list, err)
	}
	for _, at := range old {
		if at.After(list[0].At) {
			t.Errorf("a token of the old role says %s, and the revocation %s", at, list[0].At)
		}
	}
}
