package migrations_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/migrations"
)

// boundsOfRoles is the version of the migration that bounds roles.
const boundsOfRoles = 23

// statements runs statements as the superuser. $DB is the database.
func statements(t *testing.T, pg *pgtest.Server, sql ...string) {
	t.Helper()
	conn := connect(t, pg.AdminDSN)
	for _, s := range sql {
		if _, err := conn.Exec(t.Context(), strings.ReplaceAll(s, "$DB", conn.Config().Database)); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// texts returns the one column of a query, as the superuser.
func texts(t *testing.T, pg *pgtest.Server, sql string) []string {
	t.Helper()
	rows, err := connect(t, pg.AdminDSN).Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// upTo applies the migrations up to a version.
func upTo(t *testing.T, pg *pgtest.Server, version int64) {
	t.Helper()
	cfg, err := pgx.ParseConfig(pg.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*cfg)
	defer func() { _ = db.Close() }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}

// publicPrivileges is what every role of the server may do with the database.
const publicPrivileges = `SELECT a.privilege_type::text FROM pg_database d,
	aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
	WHERE d.datname = current_database() AND a.grantee = 0 ORDER BY 1`

// TestPublicLosesTheDatabase checks what becomes of the privileges that PostgreSQL gives every role on a new database.
func TestPublicLosesTheDatabase(t *testing.T) {
	for name, tc := range map[string]struct {
		before []string
		want   []string
		says   string
	}{
		"as PostgreSQL makes it": {
			before: []string{`GRANT CONNECT, TEMPORARY ON DATABASE $DB TO PUBLIC`},
			says:   "others, such as monitoring, need: GRANT CONNECT ON DATABASE",
		},
		"run with care": {},
		"of another owner, as on managed servers": {
			before: []string{`GRANT CONNECT, TEMPORARY ON DATABASE $DB TO PUBLIC`, `ALTER DATABASE $DB OWNER TO postgres`},
			want:   []string{"CONNECT", "TEMPORARY"},
			says:   "let its owner run: REVOKE CONNECT, TEMPORARY ON DATABASE",
		},
		"of another owner, with all privileges": {
			before: []string{
				`GRANT CONNECT, TEMPORARY ON DATABASE $DB TO PUBLIC`,
				`ALTER DATABASE $DB OWNER TO postgres`,
				`GRANT ALL ON DATABASE $DB TO caly_owner`,
			},
			want: []string{"CONNECT", "TEMPORARY"},
			says: "let its owner run: REVOKE CONNECT, TEMPORARY ON DATABASE",
		},
	} {
		t.Run(name, func(t *testing.T) {
			pg := pgtest.NewEmpty(t)
			statements(t, pg, tc.before...)
			var logged bytes.Buffer
			if err := migrations.Up(t.Context(), pg.OwnerDSN, slog.New(slog.NewTextHandler(&logged, nil))); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, texts(t, pg, publicPrivileges), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("every role may (-want +got):\n%s", diff)
			}
			text := logged.String()
			if said := strings.Contains(text, "level=WARN"); said != (tc.says != "") ||
				!strings.Contains(text, tc.says) {
				t.Errorf("logged %s, want %q", text, tc.says)
			}
			for _, dsn := range []string{pg.OwnerDSN, pg.OperatorDSN, pg.DataplaneDSN} {
				connect(t, dsn)
			}
		})
	}
}

// TestRolesThatExistAreBounded checks that the migration bounds the upload roles of tenants that are there already, and
// that one that it may not alter does not stop it.
func TestRolesThatExistAreBounded(t *testing.T) {
	pg := pgtest.NewEmpty(t)
	upTo(t, pg, boundsOfRoles-1)
	name := fmt.Sprintf("other_%s", connect(t, pg.AdminDSN).Config().Database)
	statements(t, pg,
		`SELECT caly_ensure_upload_role('acme/support', 'SCRAM-SHA-256$4096:AAAA$AAAA:AAAA')`,
		`CREATE ROLE `+name+` SUPERUSER`, // which only a superuser may alter
		`INSERT INTO upload_roles (role, tenant) VALUES ('`+name+`', 'globex/sales'), ('deleted_role', 'initech/it')`)
	t.Cleanup(func() {
		if conn, err := pgx.Connect(context.Background(), pg.AdminDSN); err == nil {
			_, _ = conn.Exec(context.Background(), `DROP ROLE `+name)
			_ = conn.Close(context.Background())
		}
	})
	var logged bytes.Buffer
	err := migrations.Up(t.Context(), pg.OwnerDSN, slog.New(slog.NewTextHandler(&logged, nil)))
	if err == nil || !strings.Contains(err.Error(), "the schema is up to date") ||
		!strings.Contains(err.Error(), name) {
		t.Errorf("the migration says %v, want that the owner may not alter %s", err, name)
	}
	if !strings.Contains(logged.String(), "role "+name+" keeps its connection limit") {
		t.Errorf("logged %s, want a warning about %s", logged.String(), name)
	}
	got := texts(t, pg, `SELECT r.rolconnlimit || ' ' || coalesce(array_to_string(r.rolconfig, '; '), 'nothing')
		FROM pg_roles r JOIN upload_roles u ON u.role = r.rolname ORDER BY u.tenant`)
	want := []string{
		"264 statement_timeout=15s; idle_in_transaction_session_timeout=15s; lock_timeout=10s; " +
			"search_path=pg_catalog, public, pg_temp",
		"-1 nothing",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("limits and settings (-want +got):\n%s", diff)
	}
}

// TestFunctionsSearchTemporaryObjectsLast checks every function of the schema, those of later migrations too. Immutable
// functions of one expression, which PostgreSQL puts into the statement that calls them, have no setting. Aggregates
// cannot have one; the functions that they call do.
func TestFunctionsSearchTemporaryObjectsLast(t *testing.T) {
	pg := pgtest.New(t)
	all := texts(t, pg, `SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace`)
	if len(all) < 10 {
		t.Fatalf("the schema has the functions %v", all)
	}
	wrong := texts(t, pg, `SELECT p.oid::regprocedure || ' ' || coalesce(array_to_string(p.proconfig, '; '), 'nothing')
		FROM pg_proc p
		WHERE p.pronamespace = 'public'::regnamespace AND p.prokind <> 'a'
			AND NOT coalesce(p.proconfig, '{}') @> ARRAY['search_path=pg_catalog, public, pg_temp']
			AND NOT (p.proconfig IS NULL AND p.provolatile = 'i' AND NOT p.prosecdef
				AND p.prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql'))`)
	if len(wrong) > 0 {
		t.Errorf("functions that do not search pg_catalog, public, pg_temp in this order: %q", wrong)
	}
	open := texts(t, pg, `SELECT p.oid::regprocedure::text FROM pg_proc p
		WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef
		AND has_function_privilege('public', p.oid, 'EXECUTE')`)
	if len(open) > 0 {
		t.Errorf("functions with the owner's privileges that every role may call: %q", open)
	}
}
