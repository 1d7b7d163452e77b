package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// outbox is a database with a view of the table past every policy.
type outbox struct {
	*testing.T
	*storetest.DB
	admin *pgx.Conn
}

func newOutbox(t *testing.T) *outbox {
	t.Helper()
	db := storetest.New(t)
	return &outbox{T: t, DB: db, admin: connect(t, db.AdminDSN)}
}

// emptied is the same for a subtest.
func (o outbox) emptied(t *testing.T) *outbox {
	o.T = t
	o.exec(`DELETE FROM mail_outbox`)
	return &o
}

func (o *outbox) exec(sql string, args ...any) {
	o.Helper()
	if _, err := o.admin.Exec(context.Background(), sql, args...); err != nil {
		o.Fatal(err)
	}
}

// write is mail that an hour is left for.
func (o *outbox) write(tenant, event string) {
	o.Helper()
	o.exec(`INSERT INTO mail_outbox (tenant, event_key, template, recipient, sealed, expires_at)
		VALUES ($1, $2, 'verify_email', 'ann@example.com', 'sealed', now() + interval '1 hour')`, tenant, event)
}

func (o *outbox) claim(tenants ...string) store.MailClaim {
	o.Helper()
	mailClaim, err := o.Dataplane.ClaimMail(o.Context(), tenants, "pod-1", time.Minute, 10)
	if err != nil {
		o.Fatal(err)
	}
	return mailClaim
}

// row is what is to be seen of one.
type mailRow struct {
	State, Sealed, Error string
	Attempts             int
	Leased, Finished     bool
}

func (o *outbox) row(event string) (r mailRow) {
	o.Helper()
	err := o.admin.QueryRow(
		context.Background(),
		`SELECT state, convert_from(sealed, 'UTF8'), last_error, attempts, lease_owner IS NOT NULL,
		finished_at IS NOT NULL FROM mail_outbox WHERE event_key = $1`,
		event,
	).Scan(&r.State, &r.Sealed, &r.Error, &r.Attempts, &r.Leased, &r.Finished)
	if err != nil {
		o.Fatal(err)
	}
	return r
}

func claimedKeys(c store.MailClaim) (keys []string) {
	for _, m := range c.Mail {
		keys = append(keys, m.EventKey)
	}
	return keys
}

func TestMailLife(t *testing.T) {
	shared := newOutbox(t)
	for name, c := range map[string]struct {
		then    func(o *outbox, m *store.QueuedMail) error
		want    mailRow
		wantErr error
	}{
		"claimed": {func(*outbox, *store.QueuedMail) error { return nil },
			mailRow{State: "pending", Sealed: "sealed", Attempts: 1, Leased: true}, nil},
		"being sent": {func(o *outbox, m *store.QueuedMail) error { return o.Dataplane.SendMail(o.Context(), m, time.Minute) },
			mailRow{State: "sending", Sealed: "sealed", Attempts: 1, Leased: true}, nil},
		"sent": {func(o *outbox, m *store.QueuedMail) error {
			return errors.Join(o.Dataplane.SendMail(o.Context(), m, time.Minute),
				o.Dataplane.FinishMail(o.Context(), m, store.MailSent, ""))
		}, mailRow{State: "sent", Attempts: 1, Finished: true}, nil},
		"failed": {func(o *outbox, m *store.QueuedMail) error {
			return o.Dataplane.FinishMail(o.Context(), m, store.MailFailed, "550")
		},
			mailRow{State: "failed", Error: "550", Attempts: 1, Finished: true}, nil},
		"uncertain": {func(o *outbox, m *store.QueuedMail) error {
			return o.Dataplane.FinishMail(o.Context(), m, store.MailUncertain, "no answer")
		},
			mailRow{State: "uncertain", Error: "no answer", Attempts: 1, Finished: true}, nil},
		"refused for now, after all": {func(o *outbox, m *store.QueuedMail) error {
			return errors.Join(o.Dataplane.SendMail(o.Context(), m, time.Minute),
				o.Dataplane.RetryMail(o.Context(), m, time.Minute, "451"))
		}, mailRow{State: "pending", Sealed: "sealed", Error: "451", Attempts: 1}, nil},
		"not sent twice": {func(o *outbox, m *store.QueuedMail) error {
			return errors.Join(o.Dataplane.SendMail(o.Context(), m, time.Minute), o.Dataplane.SendMail(o.Context(), m, time.Minute))
		}, mailRow{State: "sending", Sealed: "sealed", Attempts: 1, Leased: true}, store.ErrLeaseLost},
		"not sent once its lease is over": {func(o *outbox, m *store.QueuedMail) error {
			o.exec(`UPDATE mail_outbox SET lease_until = now() - interval '1 s'`)
			return o.Dataplane.SendMail(o.Context(), m, time.Minute)
		}, mailRow{State: "pending", Sealed: "sealed", Attempts: 1, Leased: true}, store.ErrLeaseLost},
		"not sent once its time is over": {func(o *outbox, m *store.QueuedMail) error {
			o.exec(`UPDATE mail_outbox SET expires_at = now() - interval '1 s'`)
			return o.Dataplane.SendMail(o.Context(), m, time.Minute)
		}, mailRow{State: "pending", Sealed: "sealed", Attempts: 1, Leased: true}, store.ErrLeaseLost},
		"not finished by another claim, of a pod of the same name": {func(o *outbox, m *store.QueuedMail) error {
			m.Attempts--
			return o.Dataplane.FinishMail(o.Context(), m, store.MailSent, "")
		}, mailRow{State: "pending", Sealed: "sealed", Attempts: 1, Leased: true}, store.ErrLeaseLost},
		"not changed by another pod": {func(o *outbox, m *store.QueuedMail) error {
			m.Owner = "pod-2"
			return o.Dataplane.RetryMail(o.Context(), m, 0, "")
		}, mailRow{State: "pending", Sealed: "sealed", Attempts: 1, Leased: true}, store.ErrLeaseLost},
		"not changed once it has ended": {func(o *outbox, m *store.QueuedMail) error {
			return errors.Join(o.Dataplane.FinishMail(o.Context(), m, store.MailSent, ""),
				o.Dataplane.RetryMail(o.Context(), m, 0, ""))
		}, mailRow{State: "sent", Attempts: 1, Finished: true}, store.ErrLeaseLost},
		"not changed by another tenant's": {func(o *outbox, m *store.QueuedMail) error {
			m.Tenant = globex
			return o.Dataplane.FinishMail(o.Context(), m, store.MailSent, "")
		}, mailRow{State: "pending", Sealed: "sealed", Attempts: 1, Leased: true}, store.ErrLeaseLost},
	} {
		t.Run(name, func(t *testing.T) {
			o := shared.emptied(t)
			o.write(acme, "e")
			got := o.claim(acme)
			if len(got.Mail) != 1 || got.Mail[0].Tenant != acme || got.Mail[0].Recipient != "ann@example.com" ||
				string(got.Mail[0].Sealed) != "sealed" {
				t.Fatalf("claimed %+v", got)
			}
			if err := c.then(o, &got.Mail[0]); !errors.Is(err, c.wantErr) {
				t.Errorf("err = %v, want %v", err, c.wantErr)
			}
			if diff := cmp.Diff(c.want, o.row("e")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if again := claimedKeys(o.claim(acme)); c.want.Leased && c.want.State == "pending" && c.wantErr == nil &&
				again != nil {
				t.Errorf("claimed a second time: %v", again)
			}
		})
	}
}

func TestClaimMail(t *testing.T) {
	shared := newOutbox(t)
	for name, c := range map[string]struct {
		set       string // of the row e
		wantMail  []string
		wantEnded store.MailClaim
		want      string // its state then
	}{
		"due": {"available_at = now()", []string{"e"}, store.MailClaim{}, "pending"},
		"not yet due": {
			"available_at = now() + interval '1 min'",
			nil,
			store.MailClaim{},
			"pending",
		},
		"held": {
			"lease_owner = 'x', lease_until = now() + interval '1 min'",
			nil,
			store.MailClaim{},
			"pending",
		},
		"let fall before anything was sent": {
			"lease_owner = 'x', lease_until = now() - interval '1 s'",
			[]string{"e"},
			store.MailClaim{},
			"pending",
		},
		"being sent": {
			"state = 'sending', lease_owner = 'x', lease_until = now() + interval '1 min'",
			nil,
			store.MailClaim{},
			"sending",
		},
		"let fall while it was sent": {"state = 'sending', lease_owner = 'x', lease_until = now() - interval '1 s'",
			nil,
			store.MailClaim{Uncertain: []store.EndedMail{{Tenant: acme, Template: "verify_email"}}}, "uncertain"},
		"too late": {"expires_at = now()", nil, store.MailClaim{Expired: []store.EndedMail{{
			Tenant:   acme,
			Template: "verify_email",
		}}}, "failed"},
		"too late, waiting for its next try": {"expires_at = now(), available_at = now() + interval '1 min'", nil,
			store.MailClaim{Expired: []store.EndedMail{{Tenant: acme, Template: "verify_email"}}}, "failed"},
		"too late, but somebody is at it": {
			"expires_at = now(), lease_owner = 'x', lease_until = now() + interval '1 min'",
			nil,
			store.MailClaim{},
			"pending",
		},
		"ended":     {"state = 'sent', sealed = ''", nil, store.MailClaim{}, "sent"},
		"another's": {"tenant = 'globex/sales'", nil, store.MailClaim{}, "pending"},
		"another's, let fall": {
			"tenant = 'globex/sales', state = 'sending', lease_until = now() - interval '1 s'",
			nil,
			store.MailClaim{},
			"sending",
		},
		"another's, too late": {"tenant = 'globex/sales', expires_at = now()", nil, store.MailClaim{}, "pending"},
	} {
		t.Run(name, func(t *testing.T) {
			outbox := shared.emptied(t)
			outbox.write(acme, "e")
			outbox.exec(`UPDATE mail_outbox SET ` + c.set)
			got := outbox.claim(acme, "initech/desk")
			if diff := cmp.Diff(c.wantMail, claimedKeys(got)); diff != "" {
				t.Errorf("claimed (-want +got):\n%s", diff)
			}
			got.Mail = nil
			if diff := cmp.Diff(c.wantEnded, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("ended (-want +got):\n%s", diff)
			}
			mailRow := outbox.row("e")
			if mailRow.State != c.want ||
				(c.wantEnded.Uncertain != nil || c.wantEnded.Expired != nil) &&
					(mailRow.Sealed != "" || mailRow.Error == "" || !mailRow.Finished) {
				t.Errorf("the row is %+v, want %s, emptied if it has ended", mailRow, c.want)
			}
		})
	}
}

// TestClaimMailInOrder verifies that a claim takes the mail that has been due for the longest time, up to the limit.
func TestClaimMailInOrder(t *testing.T) {
	outbox := newOutbox(t)
	for i, tenant := range []string{acme, globex, acme} {
		outbox.write(tenant, fmt.Sprint(i))
		outbox.exec(
			`UPDATE mail_outbox SET available_at = now() - $1::int * interval '1 s' WHERE event_key = $2`,
			10*i,
			fmt.Sprint(i),
		)
	}
	for _, want := range []string{"2 1", "0", ""} {
		got, err := outbox.Dataplane.ClaimMail(t.Context(), []string{acme, globex}, "pod", time.Minute, 2)
		if err != nil {
			t.Fatal(err)
		}
		keys := claimedKeys(got)
		if len(keys) == 2 && keys[0] < keys[1] { // UPDATE returns them in no order
			keys[0], keys[1] = keys[1], keys[0]
		}
		if strings.Join(keys, " ") != want {
			t.Errorf("claimed %v, want %q", keys, want)
		}
	}
}

// TestClaimMailOnce verifies that concurrent pods claim each mail exactly once.
func TestClaimMailOnce(t *testing.T) {
	outbox := newOutbox(t)
	for i := range 60 {
		outbox.write(acme, fmt.Sprint(i))
	}
	var mu sync.Mutex
	claimed := map[string]int{}
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for {
				mailClaim, err := outbox.Dataplane.ClaimMail(t.Context(), []string{acme}, "pod", time.Minute, 1)
				if err != nil || len(mailClaim.Mail) == 0 {
					if err != nil {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				claimed[mailClaim.Mail[0].EventKey]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for key, n := range claimed {
		if n != 1 {
			t.Errorf("%s was claimed %d times", key, n)
		}
	}
	if len(claimed) != 60 {
		t.Errorf("%d were claimed, want 60", len(claimed))
	}
}

func TestPendingMail(t *testing.T) {
	outbox := newOutbox(t)
	if n, oldest, err := outbox.Dataplane.PendingMail(t.Context(), []string{acme}); n != 0 || !oldest.IsZero() ||
		err != nil {
		t.Errorf("%d, %s, %v of an empty table", n, oldest, err)
	}
	for i, state := range []string{"pending", "sending", "sent", "uncertain", "failed"} {
		outbox.write(acme, state)
		outbox.exec(
			`UPDATE mail_outbox SET state = $1, created_at = now() - $2::int * interval '1 h' WHERE event_key = $1`,
			state,
			i,
		)
	}
	outbox.write(globex, "another's")
	n, oldest, err := outbox.Dataplane.PendingMail(t.Context(), []string{acme})
	if age := time.Since(oldest); n != 2 || age < time.Hour || age > 2*time.Hour || err != nil {
		t.Errorf("%d, %s, %v; want 2, one hour", n, oldest, err)
	}
}

func TestSweepMail(t *testing.T) {
	outbox := newOutbox(t)
	for _, key := range []string{"old1", "old2", "new", "waiting"} {
		outbox.write(acme, key)
	}
	outbox.exec(
		`UPDATE mail_outbox SET state = 'sent', finished_at = now() - interval '8 days', created_at = now() - ` +
			`interval '8 days' WHERE event_key LIKE 'old%'`,
	)
	outbox.exec(`UPDATE mail_outbox SET state = 'sent', finished_at = now() WHERE event_key = 'new'`)
	outbox.exec(`UPDATE mail_outbox SET created_at = now() - interval '8 days' WHERE event_key = 'waiting'`)
	for i, want := range []int64{1, 1, 0} {
		if n, err := outbox.Operator.SweepMail(t.Context(), 7*24*time.Hour, 1); n != want || err != nil {
			t.Errorf("sweep %d: %d, %v; want %d", i, n, err, want)
		}
	}
	if mailRow := outbox.row("new"); mailRow.State != "sent" {
		t.Errorf("%+v", mailRow)
	}
	if mailRow := outbox.row("waiting"); mailRow.State != "pending" {
		t.Errorf("%+v", mailRow)
	}
}

// TestMailOfATenantIsBounded checks that what anyone can ask for is refused while much of the tenant's mail waits, that
// other tenants do not notice, and that mail which waits for nobody does not count.
func TestMailOfATenantIsBounded(t *testing.T) {
	outbox := newOutbox(t)
	outbox.exec(`INSERT INTO mail_outbox (tenant, event_key, template, recipient, sealed, state, expires_at)
		SELECT $1, 'full' || n, 'verify_email', 'x', '', CASE WHEN n <= 5 THEN 'sent' ELSE 'pending' END,
			now() + interval '1 hour'
		FROM generate_series(1, $2) AS n`, acme, store.MaxWaitingMail+5)
	mail := func(event string) *store.OutboxMail {
		return &store.OutboxMail{
			EventKey:  event,
			Template:  "verify_email",
			Recipient: "x",
			Sealed:    []byte{},
			ExpiresAt: time.Now().Add(time.Hour),
		}
	}
	ask := map[string]func(tenant, event string) error{
		"register": func(tenant, event string) error {
			registration := store.Registration{
				User: store.NewUser{
					ID:           store.NewID(),
					Email:        event + "@example.com",
					PasswordHash: "hash",
					Role:         store.RoleViewer,
				},
				Code:   store.EmailCode{Hash: make([]byte, 32), Lifetime: time.Minute},
				Verify: mail(event),
				Exists: mail(event),
			}
			return outbox.Dataplane.Register(t.Context(), tenant, registration, store.Origin{})
		},
		"resend": func(tenant, event string) error {
			code := store.EmailCode{Hash: make([]byte, 32), Lifetime: time.Minute}
			return outbox.Dataplane.Resend(t.Context(), tenant, store.CodeRequest{
				Email: "nobody@example.com",
				Code:  code,
				Mail:  mail(event),
				Other: mail(event),
			})
		},
		"forgot": func(tenant, event string) error {
			token := store.ResetToken{Hash: make([]byte, 32), Lifetime: time.Minute}
			return outbox.Dataplane.RequestReset(t.Context(), tenant, store.ResetRequest{
				Email: "nobody@example.com",
				Token: token,
				Mail:  mail(event),
				Other: mail(event),
			}, store.Origin{})
		},
	}
	outbox.exec(`DELETE FROM mail_outbox WHERE event_key = 'full1005'`) // one is left
	for name, f := range ask {
		if err := f(globex, name); err != nil {
			t.Errorf("%s of another tenant: %v", name, err)
		}
		if err := f(acme, name); err != nil {
			t.Errorf("%s with room for one: %v", name, err)
		}
		if err := f(acme, name+"-more"); !errors.Is(err, store.ErrMailFull) {
			t.Errorf("%s without room: %v, want ErrMailFull", name, err)
		}
		outbox.exec(`DELETE FROM mail_outbox WHERE tenant = $1 AND event_key = $2`, acme, name)
	}
}
