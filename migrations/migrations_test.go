package migrations_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/migrations"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// TestFiles looks at each file: it is one transaction, can be taken back, and its number is greater than the one
// before.
func TestFiles(t *testing.T) {
	pgtest.SameOnEachServer(t)
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files (%v)", len(files), err)
	}
	last := int64(0)
	for _, name := range files {
		text, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		version, err := goose.NumericComponent(name)
		if err != nil || version <= last {
			t.Errorf("%s has version %d (%v), want one above %d", name, version, err, last)
		}
		last = version
		for want, times := range map[string]int{"-- +goose Up\n": 1, "-- +goose Down\n": 1, "NO TRANSACTION": 0} {
			if got := bytes.Count(text, []byte(want)); got != times {
				t.Errorf("%s holds %q %d times, want %d", name, want, got, times)
			}
		}
	}
	if last != migrations.Latest() {
		t.Errorf("the newest version is %d and the last file's %d", migrations.Latest(), last)
	}
}

// version of the schema, and whether everything up to it is applied.
func version(t *testing.T, dsn string) (latest int64, complete bool) {
	t.Helper()
	rows, err := migrations.Status(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	complete = true
	for _, r := range rows {
		if r.AppliedAt.IsZero() {
			complete = false
			continue
		}
		latest = r.Version
		if age := time.Since(r.AppliedAt); age < -time.Minute || age > time.Hour {
			t.Errorf("%s was applied at %s", r.Name, r.AppliedAt)
		}
	}
	return latest, complete
}

func TestUp(t *testing.T) {
	pg := pgtest.NewEmpty(t)
	if v, complete := version(t, pg.OwnerDSN); v != 0 || complete {
		t.Errorf("an empty database is at version %d, complete %v", v, complete)
	}
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, applied := range []string{fmt.Sprintf(`"applied":%d}`, len(files)), `"applied":0}`} {
		var logged bytes.Buffer
		if err := migrations.Up(t.Context(), pg.OwnerDSN, slog.New(slog.NewJSONHandler(&logged, nil))); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(logged.String(), applied) {
			t.Errorf("logged %s, want %s", logged.String(), applied)
		}
		if v, complete := version(t, pg.OwnerDSN); v != migrations.Latest() || !complete {
			t.Errorf("afterwards it is at version %d, complete %v", v, complete)
		}
	}
}

// TestUpAtOnce verifies that several pods may start with the same empty database at the same time.
func TestUpAtOnce(t *testing.T) {
	pg := pgtest.NewEmpty(t)
	var group errgroup.Group
	for range 4 {
		group.Go(func() error { return migrations.Up(t.Context(), pg.OwnerDSN, quiet) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if v, complete := version(t, pg.OwnerDSN); v != migrations.Latest() || !complete {
		t.Errorf("it is at version %d, complete %v", v, complete)
	}
}

// TestDownAndUp verifies that all migrations can go down and up again, that down leaves nothing behind, and that up
// restores the same objects.
func TestDownAndUp(t *testing.T) {
	pg := pgtest.New(t)
	before := objects(t, pg)
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
	if _, err := provider.DownTo(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"r goose_db_version"}, objects(t, pg)); d != "" {
		t.Errorf("left behind (-want +got):\n%s", d)
	}
	if err := migrations.Up(t.Context(), pg.OwnerDSN, quiet); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, objects(t, pg)); d != "" {
		t.Errorf("down and up again (-before +after):\n%s", d)
	}
}

// TestIndexMadeBeforehand does what the comment in the migration of partial events advises for a large table.
func TestIndexMadeBeforehand(t *testing.T) {
	pg := pgtest.New(t)
	if _, err := provider(t, pg.OwnerDSN).DownTo(t.Context(), 25); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), pg.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, sql := range []string{"ALTER TABLE call_events ADD COLUMN unread jsonb",
		"CREATE INDEX CONCURRENTLY call_events_partial ON call_events (tenant, received_at) WHERE unread IS NOT NULL"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := migrations.Up(t.Context(), pg.OwnerDSN, quiet); err != nil {
		t.Error(err)
	}
}

// TestRequireLabels applies the migration that stores whether an installation is new, with and without a Tenant in the
// database. The owner of the tables is not a superuser, so that row-level security binds it.
func TestRequireLabels(t *testing.T) {
	for name, tc := range map[string]struct {
		before string
		want   bool
	}{
		"a new installation":                    {want: true},
		"an installation with a Tenant already": {before: `INSERT INTO tenants (tenant) VALUES ('acme/support')`},
	} {
		t.Run(name, func(t *testing.T) {
			pg := pgtest.NewEmpty(t)
			p := provider(t, pg.OwnerDSN)
			if _, err := p.UpTo(t.Context(), 17); err != nil {
				t.Fatal(err)
			}
			admin := connect(t, pg.AdminDSN)
			if _, err := admin.Exec(t.Context(), tc.before); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Up(t.Context()); err != nil {
				t.Fatal(err)
			}
			var got, forced bool
			err := admin.QueryRow(t.Context(), `SELECT require_labels,
				(SELECT relforcerowsecurity FROM pg_class WHERE relname = 'tenants')
					FROM installation`).Scan(&got, &forced)
			if err != nil || got != tc.want || !forced {
				t.Errorf(
					"labels are required: %v, want %v; row-level security is forced: %v; %v", got, tc.want, forced, err,
				)
			}
		})
	}
}

func provider(t *testing.T, dsn string) *goose.Provider {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*cfg)
	t.Cleanup(func() { _ = db.Close() })
	p, err := goose.NewProvider(goose.DialectPostgres, db, migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// objects returns the kinds and names of the tables, views and functions.
func objects(t *testing.T, pg *pgtest.Server) []string {
	t.Helper()
	return pgtest.Value[[]string](t, pg, `SELECT array_agg(name ORDER BY name) FROM (
		SELECT relkind::text || ' ' || relname FROM pg_class
			WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
		UNION ALL SELECT 'f ' || oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
		) objects(name)`)
}

// TestErrors verifies that an error names the cause in one line and does not hold the password.
func TestErrors(t *testing.T) {
	pg := pgtest.NewEmpty(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	_ = listener.Close()
	for name, tc := range map[string]struct{ dsn, want string }{
		"no URL":       {"postgres://u:topsecret@%zz/db", "the database URL cannot be read"},
		"nobody there": {"postgres://u:topsecret@" + nobody + "/db", "connect to database db on 127.0.0.1:"},
		"unknown host": {"postgres://u:topsecret@db.invalid/db", "connect to database db on db.invalid:5432 as u"},
		"wrong password": {
			strings.Replace(pg.OwnerDSN, ":caly-test@", ":topsecret@", 1),
			"password authentication failed",
		},
		"unknown database": {
			"postgres://postgres:caly-test@" + host(t, pg) + "/topsecret-not?sslmode=disable",
			`database "topsecret-not" does not exist`,
		},
		"no privilege": {pg.DataplaneDSN, "42501"},
	} {
		t.Run(name, func(t *testing.T) {
			err := migrations.Up(t.Context(), tc.dsn, quiet)
			if err == nil {
				t.Fatal("no error")
			}
			if s := err.Error(); !strings.Contains(s, tc.want) || strings.Contains(s, "\n") ||
				strings.Contains(s, ":topsecret") ||
				strings.Contains(s, "caly-test") {
				t.Errorf("it says %q, want %q in one line without the password", s, tc.want)
			}
			if _, statusErr := migrations.Status(t.Context(), tc.dsn); statusErr == nil {
				t.Error("status says nothing is wrong")
			}
		})
	}
}

func host(t *testing.T, pg *pgtest.Server) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s:%d", cfg.Host, cfg.Port)
}
