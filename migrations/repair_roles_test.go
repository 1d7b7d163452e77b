package migrations_test

import (
	"bytes"
	"context"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/migrations"
)

// rolesWork makes, rotates and drops the role of a tenant, and has it log in.
func rolesWork(t *testing.T, pg *pgtest.Server, tenant string) error {
	t.Helper()
	oper, err := store.OpenOperator(t.Context(), pg.OperatorDSN, store.Options{MaxConns: 1})
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
		upload, err := store.OpenUpload(t.Context(), dsn, store.Options{MaxConns: 1})
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
	pgtest.SameOnEachServer(t)
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

// step is a connection of a recipe and what is run on it.
type step struct {
	role, db string
	run      []string
}

// TestManagedServer follows the how-to of managed servers, on which no person is a superuser. Administrators of RDS and
// Cloud SQL may create roles and databases, no more. CloudNativePG creates the owner and the database itself (its
// pkg/management/postgres/initdb.go): the owner, postInitSQL, the database.
func TestManagedServer(t *testing.T) {
	pgtest.SameOnEachServer(t)
	const roles = `CREATE ROLE caly_operator LOGIN PASSWORD 'caly-test';
		CREATE ROLE caly_dataplane LOGIN PASSWORD 'caly-test'`
	recipes := map[string][]step{
		"RDS, Cloud SQL": {
			{"postgres", "postgres", []string{
				`CREATE ROLE cloud_admin LOGIN CREATEROLE CREATEDB PASSWORD 'caly-test'`}},
			{"cloud_admin", "postgres", []string{`CREATE ROLE caly_owner LOGIN CREATEROLE PASSWORD 'caly-test'`,
				`GRANT caly_owner TO CURRENT_USER`, `CREATE DATABASE caly OWNER caly_owner`,
				`REVOKE ALL ON DATABASE caly FROM PUBLIC`}},
			{"caly_owner", "caly", []string{roles}},
		},
		"CloudNativePG": {
			{"postgres", "postgres", []string{`CREATE ROLE caly_owner LOGIN`, `ALTER ROLE caly_owner CREATEROLE`,
				`CREATE DATABASE caly OWNER caly_owner`, `ALTER ROLE caly_owner PASSWORD 'caly-test'`}},
			{"caly_owner", "caly", []string{`REVOKE ALL ON DATABASE caly FROM PUBLIC`, roles}},
		},
	}
	for version, bin := range map[string]string{"15": pgtest.Bin15(t), "18": pgtest.Bin18(t)} {
		for name, recipe := range recipes {
			t.Run(name+" "+version, func(t *testing.T) { managed(t, bin, recipe) })
		}
	}
}

func managed(t *testing.T, bin string, recipe []step) {
	t.Helper()
	pg := prepare(t, bin, recipe)
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
}

// prepare follows a recipe on a new server.
func prepare(t *testing.T, bin string, recipe []step) *pgtest.Server {
	t.Helper()
	server := pgtest.NewServer(t, bin, true)
	for _, s := range recipe {
		conn := connect(t, server.URL(s.role, s.db))
		for _, sql := range s.run {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s as %s: %v", sql, s.role, err)
			}
		}
	}
	return server.Database("caly")
}

// TestOwnerLosesMemberships does what CloudNativePG does to a role in managed.roles: it revokes the memberships that
// inRoles does not list, those too that PostgreSQL 16 and newer give to a role's creator (cloudnative-pg issue 11448).
func TestOwnerLosesMemberships(t *testing.T) {
	pgtest.SameOnEachServer(t)
	pg := pgtest.NewServer(t, pgtest.Bin18(t), false)
	if err := migrations.Up(t.Context(), pg.OwnerDSN, quiet); err != nil {
		t.Fatal(err)
	}
	revoke := `REVOKE ` + texts(t, pg, `SELECT string_agg(r.rolname, ', ') FROM pg_auth_members m
		JOIN pg_roles r ON r.oid = m.roleid WHERE m.member = 'caly_owner'::regrole`)[0] + ` FROM caly_owner`
	pg.Exec(t, revoke)
	err := migrations.Up(t.Context(), pg.OwnerDSN, quiet)
	if err == nil {
		t.Fatalf("after %q the migration succeeds", revoke)
	}
	found := statement.FindStringSubmatch(err.Error())
	if found == nil {
		t.Fatalf("the migration says %q, want a statement", err)
	}
	pg.Exec(t, found[1])
	if err := migrations.Up(t.Context(), pg.OwnerDSN, quiet); err != nil {
		t.Fatalf("after the statement: %v", err)
	}
	if err := rolesWork(t, pg, "acme/support"); err != nil {
		t.Error(err)
	}
}
