package pgtest_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/migrations"
)

// TestNew compares databases of New with one that was migrated by itself: what PostgreSQL stores about the database
// and what it holds.
func TestNew(t *testing.T) {
	migrated := pgtest.NewEmpty(t)
	if err := migrations.Up(t.Context(), migrated.OwnerDSN, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	first, second := pgtest.New(t), pgtest.New(t)
	if first.OwnerDSN == second.OwnerDSN {
		t.Error("two tests share a database")
	}
	want := describe(t, migrated)
	for name, copied := range map[string]*pgtest.Server{"the first": first, "the second": second} {
		if diff := cmp.Diff(want, describe(t, copied)); diff != "" {
			t.Errorf("%s (-migrated +copied):\n%s", name, diff)
		}
	}
}

// described are facts about a database, one in each row.
var described = map[string]string{
	"database": `SELECT datdba::regrole || ' ' || datcollate || ' ' || encoding || ' ' || datallowconn || ' '
			|| datistemplate || ' ' || datconnlimit FROM pg_database WHERE datname = current_database()`,
	"privileges": `SELECT a.grantor::regrole || ' ' || a.grantee::regrole || ' ' || a.privilege_type
		FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = current_database()`,
	"settings": `SELECT s.setrole::regrole || ' ' || s.setconfig::text
		FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database()`,
	"schemas": `SELECT nspname || ' ' || nspowner::regrole || ' ' || coalesce(nspacl::text, '')
		FROM pg_namespace WHERE nspname NOT LIKE 'pg_t%'`,
	"relations": `SELECT oid::regclass || ' ' || relkind::text || ' ' || relowner::regrole || ' ' || relrowsecurity
			|| ' ' || coalesce(relacl::text, '') FROM pg_class WHERE relnamespace = 'public'::regnamespace`,
	"functions": `SELECT oid::regprocedure || ' ' || proowner::regrole || ' ' || coalesce(proacl::text, '') || ' '
			|| md5(prosrc) FROM pg_proc WHERE pronamespace = 'public'::regnamespace`,
	"migrations": `SELECT id || ' ' || version_id FROM goose_db_version`,
}

func describe(t *testing.T, pg *pgtest.Server) map[string][]string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	facts := map[string][]string{}
	for name, sql := range described {
		rows, err := conn.Query(t.Context(), sql)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if facts[name], err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		slices.Sort(facts[name])
	}
	return facts
}
