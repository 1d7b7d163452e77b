package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/store"
)

const (
	someUser    = "0b8a3c1e-6f0e-4a52-9d0b-6a6f3f1f9a01"
	someSession = "5a0f6a7e-0a51-4a5c-8a9c-1f6f0a7b2c01"
)

func (f *fixture) revoke(t *testing.T, tenant, user, session string) {
	t.Helper()
	if err := f.Operator.Revoke(t.Context(), tenant, user, session); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) revocations(
	t *testing.T, tenants []string, within time.Duration, after int64, limit int,
) []store.Revocation {
	t.Helper()
	list, err := f.Dataplane.RevocationsSince(t.Context(), tenants, within, after, limit)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestRevocations(t *testing.T) {
	fixture := newFixture(t)
	fixture.revoke(t, acme, "", someSession)
	fixture.revoke(t, acme, someUser, "")
	fixture.revoke(t, acme, "", "")
	fixture.revoke(t, globex, someUser, someSession) // the session says it
	fixture.revoke(t, "initech/help", "", "")
	want := []store.Revocation{{
		Tenant:    acme,
		SessionID: someSession,
	}, {
		Tenant: acme,
		UserID: someUser,
	}, {Tenant: acme}, {
		Tenant:    globex,
		SessionID: someSession,
	}}
	if d := cmp.Diff(
		want,
		fixture.revocations(t, []string{acme, globex}, time.Minute, 0, 100),
		cmpopts.IgnoreFields(store.Revocation{}, "ID", "At"),
	); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if d := cmp.Diff(
		want[3:],
		fixture.revocations(t, []string{globex}, time.Minute, 0, 100),
		cmpopts.IgnoreFields(store.Revocation{}, "ID", "At"),
	); d != "" {
		t.Errorf("globex's (-want +got):\n%s", d)
	}
	if got := fixture.revocations(t, nil, time.Minute, 0, 100); len(got) != 0 {
		t.Errorf("no tenants have %v", got)
	}
	var pages []store.Revocation
	for after := int64(0); ; after = pages[len(pages)-1].ID {
		page := fixture.revocations(t, []string{acme, globex}, time.Minute, after, 2)
		pages = append(pages, page...)
		if len(page) < 2 {
			break
		}
	}
	if d := cmp.Diff(fixture.revocations(t, []string{acme, globex}, time.Minute, 0, 100), pages); d != "" {
		t.Errorf("in pages (-whole +pages):\n%s", d)
	}
}

// TestRevocationsWithin verifies that the age of a revocation is counted by the database's clock, in queries and
// sweeps.
func TestRevocationsWithin(t *testing.T) {
	fixture := newFixture(t)
	fixture.revoke(t, acme, "", someSession)
	fixture.revoke(t, acme, someUser, "")
	fixture.Exec(t, `UPDATE revocations SET at = now() - interval '2 minutes' WHERE session_id IS NOT NULL`)
	for within, want := range map[time.Duration]int{0: 0, time.Minute: 1, time.Hour: 2} {
		if got := fixture.revocations(t, []string{acme}, within, 0, 100); len(got) != want {
			t.Errorf("within %s there are %d, want %d", within, len(got), want)
		}
	}
	if _, err := store.AsOperator(fixture.Dataplane).SweepRevocations(t.Context(), 0); err == nil {
		t.Error("a pod of the data plane may forget what was revoked")
	}
	n, err := fixture.Operator.SweepRevocations(t.Context(), time.Minute)
	if err != nil || n != 1 {
		t.Errorf("pruned %d, %v", n, err)
	}
	if got := fixture.revocations(t, []string{acme}, time.Hour, 0, 100); len(got) != 1 || got[0].UserID != someUser {
		t.Errorf("left: %v", got)
	}
}

func TestRevokeRefuses(t *testing.T) {
	fixture := newFixture(t)
	for name, args := range map[string][3]string{
		"several tenants at once": {acme + "," + globex, "", ""},
		"no tenant":               {"", "", ""},
		"an unknown user":         {acme, "' OR true --", ""},
		"an unknown session":      {acme, "", "1"},
	} {
		if err := fixture.Operator.Revoke(t.Context(), args[0], args[1], args[2]); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	if n := fixture.Number(t, `SELECT count(*)::int FROM revocations`); n != 0 {
		t.Errorf("%d rows", n)
	}
}

// TestRevocationsAreIsolated verifies that the policy alone isolates the revocations of tenants, for any statement.
func TestRevocationsAreIsolated(t *testing.T) {
	fixture := newFixture(t)
	fixture.revoke(t, acme, "", "")
	fixture.revoke(t, globex, "", "")
	conn, err := pgx.Connect(t.Context(), fixture.DataplaneDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for setting, want := range map[string]int{"": 0, acme: 1, acme + "," + globex: 2, "acme/%": 0, "acme/support2": 0} {
		t.Run(fmt.Sprintf("%q", setting), func(t *testing.T) {
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(context.Background()) }()
			if _, err := tx.Exec(t.Context(), `SELECT set_config('caly.tenant', $1, true)`, setting); err != nil {
				t.Fatal(err)
			}
			var n int
			if err := tx.QueryRow(t.Context(), `SELECT count(*) FROM revocations`).Scan(&n); err != nil || n != want {
				t.Errorf("%d rows, %v; want %d", n, err, want)
			}
			if _, err := tx.Exec(t.Context(), `INSERT INTO revocations (tenant) VALUES ('initech/help')`); err == nil {
				t.Error("a row of a tenant that is not the transaction's was written")
			}
		})
	}
	if _, err := conn.Exec(t.Context(), `DELETE FROM revocations`); err == nil {
		t.Error("the data plane may delete revocations")
	}
}
