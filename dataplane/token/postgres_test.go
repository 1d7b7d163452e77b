package token

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/background"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/logtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// fleet is several pods on one database, with the keyring that the operator gave them.
type fleet struct {
	t    *testing.T
	db   *storetest.DB
	ring *keyring.Ring
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	return &fleet{t: t, db: storetest.New(t), ring: keyring.New(time.Now())}
}

func (f *fleet) open() *store.Dataplane {
	f.t.Helper()
	return storetest.Open(f.t, f.db.DataplaneDSN, store.OpenDataplane)
}

// pod is one data-plane process, as far as tokens go.
type pod struct {
	*Service
	log  *logtest.Buffer
	stop func()
}

func (f *fleet) start() *pod {
	f.t.Helper()
	p := &pod{log: &logtest.Buffer{}}
	log := slog.New(slog.NewTextHandler(p.log, nil))
	revocations := NewRevocations(RevocationOptions{
		Store:   f.open(),
		Tenants: func() []string { return []string{acme, globex} },
		Log:     log,
	})
	p.Service = New(Options{
		Issuer:      issuer,
		Audience:    audience,
		Ring:        func() *keyring.Ring { return f.ring },
		Revocations: revocations,
		Log:         log,
	})
	p.stop = background.Run(f.t, revocations.Run)
	eventually.Within(10*time.Second).Holds(f.t, "the pod is ready", func() bool { return p.Ready() == nil })
	return p
}

func (f *fleet) mint(p *pod, user, session string) string {
	f.t.Helper()
	var now time.Time // as the session's row has it
	conn := f.connect()
	if err := conn.QueryRow(f.t.Context(), `SELECT now()`).Scan(&now); err != nil {
		f.t.Fatal(err)
	}
	raw, err := p.Mint(Claims{
		Tenant:    acme,
		TenantUID: "u",
		UserID:    user,
		SessionID: session,
		Role:      "agent",
		IssuedAt:  now,
		ExpiresAt: now.Add(15 * time.Minute),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return raw
}

func (f *fleet) connect() *pgx.Conn {
	f.t.Helper()
	conn, err := pgx.Connect(f.t.Context(), f.db.DataplaneDSN)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (f *fleet) revoke(user, session string) {
	f.t.Helper()
	if err := f.db.Operator.Revoke(f.t.Context(), acme, user, session); err != nil {
		f.t.Fatal(err)
	}
}

// refused tells whether a pod refuses a token as revoked. Any other error ends the test.
func (f *fleet) refused(p *pod, raw string) func() bool {
	return func() bool {
		f.t.Helper()
		_, err := p.Check(raw)
		if got := reason(err); got != "" && got != reasonRevoked {
			f.t.Fatal(err)
		}
		return err != nil
	}
}

// TestEveryPodSeesARevocation within two seconds, a pod that starts afterwards too, and who signs in again is let in.
func TestEveryPodSeesARevocation(t *testing.T) {
	fleet := newFleet(t)
	one := fleet.start()
	two := fleet.start()
	bySession := fleet.mint(one, user1, session1)
	byUser := fleet.mint(one, user2, session2)
	for _, raw := range []string{bySession, byUser} {
		if fleet.refused(one, raw)() || fleet.refused(two, raw)() {
			t.Fatal("a good token is refused")
		}
	}
	fleet.revoke("", session1)
	fleet.revoke(user2, "")
	one.o.Revocations.Revoke(acme, "", session1)
	if !fleet.refused(one, bySession)() {
		t.Error("the pod that revoked it lets it in")
	}
	eventually.Within(
		2*time.Second,
	).Holds(fleet.t, "another pod rejects the ended session", fleet.refused(two, bySession))
	eventually.Within(2*time.Second).Holds(fleet.t, "another pod rejects the user", fleet.refused(two, byUser))
	again := fleet.mint(one, user2, "5a0f6a7e-0a51-4a5c-8a9c-1f6f0a7b2c03")
	if fleet.refused(one, again)() || fleet.refused(two, again)() {
		t.Error("who signs in afterwards is refused")
	}
	two.stop()
	three := fleet.start()
	if !fleet.refused(three, bySession)() || !fleet.refused(three, byUser)() || fleet.refused(three, again)() {
		t.Error("a restarted pod judges otherwise")
	}
}

// TestTransactionThatIsLate verifies that a revocation is seen when its transaction commits seconds later, after others
// with greater ids.
func TestTransactionThatIsLate(t *testing.T) {
	fleet := newFleet(t)
	pod := fleet.start()
	late := fleet.mint(pod, user1, session1)
	marker := fleet.mint(pod, user2, session2)
	tx, err := fleet.connect().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `SELECT set_config('caly.tenant', $1, true)`, acme); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(
		t.Context(),
		`INSERT INTO revocations (tenant, session_id, at) VALUES ($1, $2, clock_timestamp())`,
		acme,
		session1,
	); err != nil {
		t.Fatal(err)
	}
	fleet.revoke("", session2)
	eventually.Within(2*time.Second).Holds(fleet.t, "the later one is seen", fleet.refused(pod, marker))
	if fleet.refused(pod, late)() {
		t.Fatal("what is not committed is seen")
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually.Within(2*time.Second).Holds(fleet.t, "the late one is seen", fleet.refused(pod, late))
}

// TestDatabaseAway verifies that known revocations stay in force while PostgreSQL is down. The log reports the outage
// once, without a secret, and reads continue afterwards.
func TestDatabaseAway(t *testing.T) {
	fleet := newFleet(t)
	pod := fleet.start()
	gone := fleet.mint(pod, user1, session1)
	good := fleet.mint(pod, user2, session2)
	fleet.revoke("", session1)
	eventually.Within(2*time.Second).Holds(fleet.t, "it is seen", fleet.refused(pod, gone))
	fleet.db.Stop(t)
	eventually.Within(30*time.Second).Holds(fleet.t, "the log says that the database is unreachable", func() bool {
		return strings.Contains(pod.log.String(), "cannot be read")
	})
	if !fleet.refused(pod, gone)() || fleet.refused(pod, good)() {
		t.Error("without the database it judges otherwise")
	}
	fleet.db.Start(t)
	eventually.Within(30*time.Second).Holds(fleet.t, "it reads again", func() bool {
		return strings.Contains(pod.log.String(), "read again")
	})
	fleet.db.Dataplane = fleet.open()
	fleet.revoke("", session2)
	eventually.Within(2*time.Second).Holds(fleet.t, "what is revoked afterwards is seen", fleet.refused(pod, good))
	if said := pod.log.String(); strings.Count(said, "level=ERROR") != 1 || strings.Contains(said, "caly-test") ||
		strings.Contains(said, gone[:20]) {
		t.Errorf("the log:\n%s", said)
	}
}
