package migrations_test

import (
	"bytes"
	"context"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/store/pgtest"
	"github.com/caly-dev/caly/migrations"
)

// rolesWork makes, rotates and drops the role of a tenant, and has it log in.
func rolesWork(t *testing.T, pg *pgtest.Server, tenant string) error {
	t.Helper()
	oper, err := store.Open(t.Context(), pg.OperatorDSN, store.Options{Component: "operator", MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer oper.Close()
	for _, password := range []string{"first", "second"} {
		role, err := oper.EnsureUploadRole(t.Context(), tenant, password)
		if err != nil {
			return err
		}
		dsn, err := oper.UploadDSN(role, password)
		if err != nil {
			return err
		}
		upload, err := store.Open(t.Context(), dsn, store.Options{Component: "upload", MaxConns: 1})
		if err != nil {
			return err
		}
		upload.Close()
	}
	if err := oper.LimitUploadRole(t.Context(), tenant, 4); err != nil {
		return err
	}
	return oper.DropUploadRole(t.Context(), tenant)
}

// statement is what an administrator is to run.
var statement = regexp.MustCompile(`let a superuser run: (.*)`)

// TestUpgradeTo18 moves a database from PostgreSQL 15 to 18 by pg_dumpall and pg_dump. From 16 on, CREATEROLE is not
// enough to alter, drop or grant a role (PostgreSQL 16 release notes, "Restrict the privileges of CREATEROLE"), and a
// GRANT whose grantor has no ADMIN OPTION is rejected, so that memberships are lost.
func TestUpgradeTo18(t *testing.T) {
	old := pgtest.NewServer(t, pgtest.Bin15(t), false)
	if err := migrations.Up(t.Context(), old.OwnerDSN, quiet); err != nil {
		t.Fatal(err)
	}
	statements(t, old, `SELECT caly_ensure_upload_role('acme/support', 'SCRAM-SHA-256$4096:AAAA$AAAA:AAAA')`)
	moved := old.MoveTo(t, pgtest.NewServer(t, pgtest.Bin18(t), true))

	err := rolesWork(t, moved, "acme/support")
	if err == nil || !strings.Contains(err.Error(), `run "caly migrate up"`) {
		t.Errorf("rotating before the repair: %v, want a hint at the repair", err)
	}
	err = migrations.Up(t.Context(), moved.OwnerDSN, quiet)
	if err == nil {
		t.Fatal("the migration succeeds")
	}
	found := statement.FindAllStringSubmatch(err.Error(), -1)
	if len(found) != 1 {
		t.Fatalf("the migration says %q, want one statement", err)
	}
	t.Logf("the migration says: %v", err)
	moved.Exec(t, found[0][1])
	if err := migrations.Up(t.Context(), moved.OwnerDSN, quiet); err != nil {
		t.Fatalf("after the statement: %v", err)
	}
	for _, tenant := range []string{"acme/support", "new/tenant"} {
		if err := rolesWork(t, moved, tenant); err != nil {
			t.Errorf("%s: %v", tenant, err)
		}
	}
}

// TestRepairRoles takes privileges away from roles, and wants them back, or a statement.
func TestRepairRoles(t *testing.T) {
	for name, tc := range map[string]struct {
		lose    string // statements of the superuser; $ROLE is that of a tenant, $DB the database
		problem string // what "caly migrate up" says; empty: it repairs it
	}{
		"nothing":               {lose: `SELECT`},
		"a tenant's membership": {lose: `SET ROLE caly_owner; REVOKE caly_upload FROM $ROLE`},
		"a tenant's inheritance": {
			lose: `ALTER ROLE $ROLE NOINHERIT; SET ROLE caly_owner;
				REVOKE caly_upload FROM $ROLE; GRANT caly_upload TO $ROLE`,
		},
		"a tenant's timeouts": {lose: `ALTER ROLE $ROLE RESET ALL`},
		"a tenant's limit":    {lose: `ALTER ROLE $ROLE CONNECTION LIMIT -1`},
		"the privilege to connect": {
			lose: `REVOKE CONNECT ON DATABASE $DB FROM caly_operator, caly_dataplane, caly_upload`,
		},
		"the owner makes no roles": {
			lose:    `ALTER ROLE caly_owner NOCREATEROLE`,
			problem: `ALTER ROLE caly_owner CREATEROLE`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			pg := pgtest.New(t)
			statements(t, pg, `SET ROLE caly_owner`,
				`SELECT caly_ensure_upload_role('acme/support', 'SCRAM-SHA-256$4096:AAAA$AAAA:AAAA')`)
			before := texts(t, pg, roleState)
			statements(t, pg, names(t, pg).Replace(tc.lose))
			err := migrations.Up(t.Context(), pg.OwnerDSN, quiet)
			if tc.problem != "" {
				if err == nil || !strings.Contains(err.Error(), "let a superuser run: "+tc.problem) {
					t.Fatalf("the migration says %v, want %q", err, tc.problem)
				}
				statements(t, pg, tc.problem)
				err = migrations.Up(t.Context(), pg.OwnerDSN, quiet)
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, texts(t, pg, roleState)); diff != "" {
				t.Errorf("(-before +after):\n%s", diff)
			}
			if err := rolesWork(t, pg, "acme/support"); err != nil {
				t.Error(err)
			}
		})
	}
}

func names(t *testing.T, pg *pgtest.Server) *strings.Replacer {
	t.Helper()
	return strings.NewReplacer("$ROLE", texts(t, pg, `SELECT role::text FROM upload_roles`)[0],
		"$DB", texts(t, pg, `SELECT current_database()::text`)[0])
}

// roleState is what the repair restores.
const roleState = `SELECT concat_ws(' ', u.tenant, pg_has_role(r.oid, 'caly_upload', 'USAGE'), r.rolconnlimit,
	array_to_string(r.rolconfig, '; '), has_database_privilege(r.oid, current_database(), 'CONNECT'))
	FROM pg_roles r JOIN upload_roles u ON u.role = r.rolname ORDER BY 1`

// TestManagedServer follows docs/how-to.md for servers on which nobody is a superuser: RDS, Cloud SQL. Their
// administrators may create roles and databases, no more.
func TestManagedServer(t *testing.T) {
	for name, bin := range map[string]string{"15": pgtest.Bin15(t), "18": pgtest.Bin18(t)} {
		t.Run(name, func(t *testing.T) {
			server := pgtest.NewServer(t, bin, true)
			server.Exec(t, `CREATE ROLE cloud_admin LOGIN CREATEROLE CREATEDB PASSWORD 'caly-test'`)
			as := func(role, db string, sql ...string) *pgx.Conn {
				t.Helper()
				conn := connect(t, server.URL(role, db))
				for _, s := range sql {
					if _, err := conn.Exec(t.Context(), s); err != nil {
						t.Fatalf("%s as %s: %v", s, role, err)
					}
				}
				return conn
			}
			as("cloud_admin", "postgres",
				`CREATE ROLE caly_owner LOGIN CREATEROLE PASSWORD 'caly-test'`,
				`GRANT caly_owner TO CURRENT_USER`,
				`CREATE DATABASE caly OWNER caly_owner`,
				`REVOKE ALL ON DATABASE caly FROM PUBLIC`)
			as("caly_owner", "caly",
				`CREATE ROLE caly_operator LOGIN PASSWORD 'caly-test'`,
				`CREATE ROLE caly_dataplane LOGIN PASSWORD 'caly-test'`)
			pg := server.Database("caly")
			var logged bytes.Buffer
			if err := migrations.Up(t.Context(), pg.OwnerDSN, slog.New(slog.NewTextHandler(&logged, nil))); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(logged.String(), "level=WARN") {
				t.Errorf("logged %s", logged.String())
			}
			if err := rolesWork(t, pg, "acme/support"); err != nil {
				t.Error(err)
			}
			var timeouts int
			if err := connect(t, pg.OwnerDSN).QueryRow(context.Background(), `SELECT count(*) FROM pg_roles
				WHERE rolname IN ('caly_operator', 'caly_dataplane')
				AND array_to_string(rolconfig, ' ') ~ 'statement_timeout=15s'`).
				Scan(&timeouts); err != nil || timeouts != 2 {
				t.Errorf("%d roles have timeouts of their own, want 2 (%v)", timeouts, err)
			}
		})
	}
}
