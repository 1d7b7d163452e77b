package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// onBothVersions runs a test on a server of each supported version.
func onBothVersions(t *testing.T, test func(*testing.T, *pgtest.Server)) {
	t.Helper()
	for name, bin := range map[string]func(testing.TB) string{"15": pgtest.Bin15, "18": pgtest.Bin18} {
		t.Run(name, func(t *testing.T) {
			pg := pgtest.NewServer(t, bin(t), false)
			migrate(t, pg)
			test(t, pg)
		})
	}
}

const perDatabase = `DO $$ BEGIN EXECUTE format('%s', current_database()); END $$`

// accessCase is a fault of a program's access, and what the program reports.
type accessCase struct {
	fault, repair  string // statements
	user, password string // instead of those of the program
	database       string
	want, pooled   accessWant // directly and through PgBouncer
}

// accessWant is an error of Open.
type accessWant struct {
	kind error
	says []string
}

// TestOpenNamesTheCause checks that a program that may not connect or not read reports what the server said and what to
// do, directly and through PgBouncer, which answers 08P01 to many logins.
func TestOpenNamesTheCause(t *testing.T) {
	pgtest.SameOnEachServer(t)
	allow := fmt.Sprintf(perDatabase, `GRANT CONNECT ON DATABASE %I TO caly_dataplane, caly_operator, caly_upload`)
	deny := fmt.Sprintf(perDatabase, `REVOKE CONNECT ON DATABASE %I FROM caly_dataplane, caly_operator, caly_upload`)
	const login = "check the user and the password in the database URL"
	fatal := func(says ...string) accessWant { return accessWant{nil, says} }
	schema := func(says ...string) accessWant { return accessWant{store.ErrSchema, says} }
	unavailable := func(says ...string) accessWant { return accessWant{store.ErrUnavailable, says} }
	cases := map[string]accessCase{
		"no CONNECT": {
			fault:  deny,
			repair: allow,
			want:   schema("permission denied for database", "(42501)", `run "caly migrate up"`),
			pooled: schema("permission denied for database", "(08P01)", `run "caly migrate up"`),
		},
		"no USAGE": {
			fault:  `REVOKE USAGE ON SCHEMA public FROM PUBLIC, caly_dataplane, caly_operator, caly_upload`,
			repair: `GRANT USAGE ON SCHEMA public TO PUBLIC, caly_dataplane, caly_operator, caly_upload`,
			want:   fatal("may not use the schema public", "GRANT USAGE ON SCHEMA public TO"),
			pooled: fatal("may not use the schema public", "GRANT USAGE ON SCHEMA public TO"),
		},
		"no SELECT": {
			fault:  `REVOKE SELECT ON goose_db_version FROM caly_dataplane, caly_operator, caly_upload`,
			repair: `GRANT SELECT ON goose_db_version TO caly_dataplane, caly_operator, caly_upload`,
			want:   fatal("permission denied for table", "GRANT SELECT ON public.goose_db_version TO"),
			pooled: fatal("permission denied for table", "GRANT SELECT ON public.goose_db_version TO"),
		},
		"another schema first": {
			fault:  fmt.Sprintf(perDatabase, `ALTER DATABASE %I SET search_path = other`),
			repair: fmt.Sprintf(perDatabase, `ALTER DATABASE %I RESET search_path`),
			user:   "caly_dataplane",
			want:   fatal("search_path of role", "lacks the schema public"),
			pooled: fatal("search_path of role", "lacks the schema public"),
		},
		"no migration": {
			fault:  `ALTER TABLE goose_db_version RENAME TO hidden`,
			repair: `ALTER TABLE hidden RENAME TO goose_db_version`,
			want:   schema("at version 0", `run "caly migrate up"`),
			pooled: schema("at version 0", `run "caly migrate up"`),
		},
		"wrong password": {
			password: "wrong",
			want:     fatal("password authentication failed", "(28P01)", login),
			pooled:   unavailable("authentication failed", login),
		},
		"unknown role": {
			user:   "nobody",
			want:   fatal("password authentication failed", "(28P01)", login),
			pooled: unavailable("no such user", login, "auth_query"),
		},
		"no LOGIN": {
			fault:  `ALTER ROLE caly_dataplane NOLOGIN`,
			repair: `ALTER ROLE caly_dataplane LOGIN`,
			user:   "caly_dataplane",
			want:   fatal("not permitted to log in", "(28000)", "it needs LOGIN"),
			pooled: unavailable("no such user", login),
		},
		"no connection left": {
			fault:  `ALTER ROLE caly_dataplane CONNECTION LIMIT 0`,
			repair: `ALTER ROLE caly_dataplane CONNECTION LIMIT -1`,
			user:   "caly_dataplane",
			want:   unavailable("too many connections for role", "(53300)", "CONNECTION LIMIT"),
			pooled: unavailable("too many connections for role", "(08P01)", "CONNECTION LIMIT"),
		},
		"no database": {
			database: "missing",
			want:     fatal(`database "missing" does not exist`, "(3D000)", "create the database"),
			pooled:   unavailable(),
		},
	}
	onBothVersions(t, func(t *testing.T, pg *pgtest.Server) {
		operator := storetest.Open(t, pg.OperatorDSN, store.OpenOperator)
		urls := map[string]string{
			"dataplane": pg.DataplaneDSN,
			"operator":  pg.OperatorDSN,
			"upload":    storetest.UploadDSN(t, operator, acme, "password"),
		}
		for name, tc := range cases {
			t.Run(name, func(t *testing.T) { tc.check(t, pg, urls) })
		}
	})
}

func (tc accessCase) check(t *testing.T, pg *pgtest.Server, urls map[string]string) {
	if tc.fault != "" {
		pg.Exec(t, tc.fault)
		defer pg.Exec(t, tc.repair)
	}
	for component, url := range urls {
		if tc.user != "" && component != "dataplane" {
			continue
		}
		url = changed(t, url, tc.user, tc.password, tc.database)
		tc.want.check(t, component, url)
		// A PgBouncer without connections of an earlier case.
		at := pg.PgBouncer(t, "transaction", "query_wait_timeout = 3\nserver_login_retry = 1")
		tc.pooled.check(t, component, pgtest.At(t, url, at))
	}
}

func (w accessWant) check(t *testing.T, component, url string) {
	t.Helper()
	err := openAs(t, component, url)
	if err == nil {
		t.Fatalf("%s connects, want an error", component)
	}
	for _, kind := range []error{store.ErrUnavailable, store.ErrSchema} {
		if errors.Is(err, kind) != errors.Is(w.kind, kind) {
			t.Errorf("%s: %v, want %v", component, err, w.kind)
		}
	}
	for _, text := range w.says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want that it says %q", component, err, text)
		}
	}
}

// changed returns a URL with another user, password or database; empty ones stay.
func changed(t *testing.T, dsn, user, password, database string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct{ old, next, format string }{
		{cfg.User, user, "//%s:"},
		{cfg.Password, password, ":%s@"},
		{cfg.Database, database, "/%s?"},
	} {
		if part.next != "" {
			dsn = strings.Replace(dsn, fmt.Sprintf(part.format, part.old), fmt.Sprintf(part.format, part.next), 1)
		}
	}
	return dsn
}

// TestRoleCreatedAgain checks that a program connects after its role was dropped and created again: PgBouncer still has
// connections of the dropped role, and would use them until server_idle_timeout (600 s).
func TestRoleCreatedAgain(t *testing.T) {
	pgtest.SameOnEachServer(t)
	for name, mode := range map[string]string{
		"transaction mode": "transaction",
		"session mode":     "session",
		"directly":         "",
	} {
		t.Run(name, func(t *testing.T) {
			onBothVersions(t, func(t *testing.T, pg *pgtest.Server) {
				address := pg.Address()
				if mode != "" {
					address = pg.PgBouncer(t, mode, "")
				}
				operator := storetest.Open(t, pg.OperatorDSN, store.OpenOperator)
				url := pgtest.At(t, storetest.UploadDSN(t, operator, acme, "password"), address)
				held := holdConnections(t, url, 3)
				if err := operator.DropUploadRole(t.Context(), acme); err != nil {
					t.Fatal(err)
				}
				held()
				url = pgtest.At(t, storetest.UploadDSN(t, operator, acme, "password"), address)
				db := storetest.Open(t, url, store.OpenUpload)
				for range 10 {
					if _, err := db.Claim(t.Context(), "pod", 1, time.Minute); err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}

// holdConnections makes a pooler open that number of connections of the server. They are free once the function that
// it returns was called.
func holdConnections(t *testing.T, url string, n int) (release func()) {
	t.Helper()
	conns := make([]*pgx.Conn, n)
	for i := range conns {
		cfg, err := pgx.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
		if conns[i], err = pgx.ConnectConfig(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		if _, err := conns[i].Exec(t.Context(), `BEGIN`); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		for _, conn := range conns {
			_, _ = conn.Exec(t.Context(), `ROLLBACK`)
			_ = conn.Close(t.Context())
		}
	}
}
