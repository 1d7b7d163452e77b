package store_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
	"github.com/caly-dev/caly/migrations"
)

// newPlainFixture is newFixture on a database that every role may use, as PostgreSQL makes it.
func newPlainFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{DB: &storetest.DB{Server: pgtest.NewEmpty(t)}}
	f.Exec(t, `DO $$ BEGIN
		EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO PUBLIC', current_database());
	END $$`)
	if err := migrations.Up(t.Context(), f.OwnerDSN, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	f.Operator = storetest.Open(t, f.OperatorDSN, store.OpenOperator)
	f.uploadDSN = storetest.UploadDSN(t, f.Operator, acme, "pw-acme")
	return f
}

// code returns PostgreSQL's code of an error.
func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// TestUploadRoleMakesNothing checks that an upload pod whose credentials an attacker holds stores nothing of its own.
func TestUploadRoleMakesNothing(t *testing.T) {
	fixture := newPlainFixture(t)
	conn := connect(t, fixture.uploadDSN)
	for name, sql := range map[string]string{
		"temporary table":    `CREATE TEMPORARY TABLE upload_roles (role name, tenant text)`,
		"table in pg_temp":   `CREATE TABLE pg_temp.t (x text)`,
		"temporary function": `CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS 'SELECT ''globex/sales'''`,
		"temporary domain":   `CREATE DOMAIN pg_temp.text AS pg_catalog.text`,
		"table":              `CREATE TABLE public.t (x text)`,
		"schema":             `CREATE SCHEMA mine`,
	} {
		if _, err := conn.Exec(t.Context(), sql); code(err) != "42501" {
			t.Errorf("%s: %v, want that the privilege is missing", name, err)
		}
	}
}

// TestTemporaryObjectsShadowNothing checks that the functions mean their own tables and types even for a role that may
// make temporary ones.
func TestTemporaryObjectsShadowNothing(t *testing.T) {
	fixture := newPlainFixture(t)
	fixture.Exec(
		t, `DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO caly_upload', current_database()); END $$`,
	)
	conn := connect(t, fixture.uploadDSN)
	for _, sql := range []string{
		`CREATE TEMPORARY TABLE upload_roles AS SELECT session_user::text AS role, 'globex/sales'::text AS tenant`,
		`CREATE FUNCTION pg_temp.caly_upload_tenant() RETURNS pg_catalog.text
			LANGUAGE sql AS 'SELECT ''globex/sales''::pg_catalog.text'`,
		`CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (false)`,
		`GRANT ALL ON pg_temp.upload_roles TO PUBLIC`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	var tenant string
	if err := conn.QueryRow(t.Context(), `SELECT caly_upload_tenant()`).Scan(&tenant); err != nil || tenant != acme {
		t.Errorf("the role is bound to %q (%v), want %s", tenant, err, acme)
	}
}

// TestConnectionsOfAnUploadRole checks the number of connections that a tenant's upload pods can hold, all of them
// together.
func TestConnectionsOfAnUploadRole(t *testing.T) {
	fixture := newPlainFixture(t)
	for name, tc := range map[string]struct{ pods, want int }{
		"one pod":         {pods: 1, want: 12},
		"four pods":       {pods: 4, want: 24},
		"the most":        {pods: 64, want: 264},
		"beyond the most": {pods: 100_000, want: 512},
		"none":            {pods: -10, want: 4},
	} {
		t.Run(name, func(t *testing.T) {
			if err := fixture.Operator.LimitUploadRole(t.Context(), acme, tc.pods); err != nil {
				t.Fatal(err)
			}
			got := fixture.Number(t, `SELECT r.rolconnlimit FROM pg_roles r JOIN upload_roles u ON u.role = r.rolname`)
			if got != tc.want {
				t.Errorf("at most %d connections, want %d", got, tc.want)
			}
		})
	}
	if err := fixture.Operator.LimitUploadRole(t.Context(), acme, 1); err != nil {
		t.Fatal(err)
	}
	opened := 0
	for range 20 {
		conn, err := pgx.Connect(t.Context(), fixture.uploadDSN)
		if err != nil {
			if code(err) != "53300" {
				t.Errorf("after %d connections: %v, want that there are too many", opened, err)
			}
			break
		}
		opened++
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	if opened != 12 {
		t.Errorf("%d connections were opened, want 12", opened)
	}
	if err := fixture.Operator.LimitUploadRole(t.Context(), globex, 1); err != nil {
		t.Errorf("a tenant without a role: %v", err)
	}
}

// TestSettingsOfAnUploadRole checks what a connection of an upload role begins with when it asks for nothing else.
func TestSettingsOfAnUploadRole(t *testing.T) {
	fixture := newPlainFixture(t)
	conn := connect(t, fixture.uploadDSN)
	got := map[string]string{}
	want := map[string]string{
		"statement_timeout":                   "15s",
		"idle_in_transaction_session_timeout": "15s",
		"lock_timeout":                        "10s",
		"search_path":                         "pg_catalog, public, pg_temp",
	}
	for name := range want {
		var value string
		if err := conn.QueryRow(t.Context(), `SHOW `+name).Scan(&value); err != nil {
			t.Fatal(err)
		}
		got[name] = value
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

// TestOnlyTheOperatorLimits checks that no other role changes the bounds.
func TestOnlyTheOperatorLimits(t *testing.T) {
	fixture := newPlainFixture(t)
	for _, dsn := range []string{fixture.uploadDSN, fixture.DataplaneDSN} {
		conn := connect(t, dsn)
		for _, sql := range []string{
			`SELECT caly_limit_upload_role('acme/support', 500)`,
			`SELECT caly_bound_upload_role(session_user, 500)`,
			`ALTER ROLE CURRENT_USER CONNECTION LIMIT 500`,
		} {
			if _, err := conn.Exec(t.Context(), sql); code(err) != "42501" {
				t.Errorf("%s as %s: %v, want that the privilege is missing", sql, conn.Config().User, err)
			}
		}
	}
}

// TestRolesOfAnotherDatabase checks that a role without a grant does not connect.
func TestRolesOfAnotherDatabase(t *testing.T) {
	fixture := newPlainFixture(t)
	role := "stranger_" + connect(t, fixture.AdminDSN).Config().Database
	fixture.Exec(t, `CREATE ROLE `+role+` LOGIN PASSWORD 'pw'`)
	defer fixture.Exec(t, `DROP ROLE `+role)
	cfg := connect(t, fixture.AdminDSN).Config()
	cfg.User = role
	cfg.Password = "pw"
	if _, err := pgx.ConnectConfig(t.Context(), cfg); code(err) != "42501" {
		t.Errorf("%v, want that the role may not connect", err)
	}
	names := query[string](t, fixture.AdminDSN, `SELECT coalesce(r.rolname, 'PUBLIC') || ' ' || a.privilege_type
		FROM pg_database d, aclexplode(d.datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
		WHERE d.datname = current_database() AND a.privilege_type <> 'CREATE' ORDER BY 1`)
	want := []string{
		"caly_dataplane CONNECT",
		"caly_operator CONNECT",
		"caly_owner CONNECT",
		"caly_owner TEMPORARY",
		"caly_upload CONNECT",
	}
	if diff := cmp.Diff(want, slices.Compact(names)); diff != "" {
		t.Errorf("privileges on the database (-want +got):\n%s", diff)
	}
	if strings.Contains(strings.Join(names, " "), "PUBLIC") {
		t.Error("every role may use the database")
	}
}
