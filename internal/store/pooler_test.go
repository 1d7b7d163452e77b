package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/dbconn"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
	"github.com/caly-dev/caly/migrations"
)

// TestPooler runs the main paths of all programs through a real PgBouncer with its default settings, which rejects
// startup parameters that it does not know: "unsupported startup parameter: statement_timeout" (PgBouncer,
// src/client.c, set_startup_options). In transaction mode each transaction may use another connection of the server,
// and 1.18 knows no prepared statements. From 1.21 on they may be used if the URL says so.
func TestPooler(t *testing.T) {
	pg := pgtest.NewEmpty(t)
	pg.Exec(t, lookup)
	for name, tc := range map[string]struct{ mode, extra, parameter string }{
		"session":     {mode: "session"},
		"transaction": {mode: "transaction"},
		"prepared": {
			mode:      "transaction",
			extra:     "max_prepared_statements = 100\n",
			parameter: "&default_query_exec_mode=cache_statement",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if version := pgtest.PgBouncerVersion(t); tc.extra != "" && version < 121 {
				t.Skip("PgBouncer before 1.21 does not know prepared statements: put a newer one first on the PATH")
			}
			at := pg.PgBouncer(t, tc.mode, tc.extra+"auth_user = pgbouncer\n"+
				"auth_query = SELECT usename, passwd FROM pgbouncer.lookup($1)")
			through := func(dsn string) string { return pgtest.At(t, dsn, at) + tc.parameter }
			if err := migrations.Up(t.Context(), through(pg.OwnerDSN), slog.New(slog.DiscardHandler)); err != nil {
				t.Fatalf("migrate: %v", err)
			}
			f := &fixture{DB: &storetest.DB{
				Server:    pg,
				Dataplane: storetest.Open(t, through(pg.DataplaneDSN), store.OpenDataplane),
				Operator:  storetest.Open(t, through(pg.OperatorDSN), store.OpenOperator),
			}}
			tenant := "pooled/" + name
			f.upload = storetest.Open(t, storetest.UploadDSN(t, f.Operator, tenant, "pw"), store.OpenUpload)
			mainPaths(t, f, tenant)
		})
	}
}

// lookup is how docs/how-to/connect-through-pgbouncer.md lets PgBouncer read verifiers.
const lookup = `
	CREATE ROLE pgbouncer LOGIN PASSWORD 'caly-test';
	DO $do$ BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO pgbouncer', current_database()); END $do$;
	CREATE SCHEMA pgbouncer;
	GRANT USAGE ON SCHEMA pgbouncer TO pgbouncer;
	CREATE FUNCTION pgbouncer.lookup(INOUT usename name, OUT passwd text)
		LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
		SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END
		FROM pg_authid WHERE rolname = $1 AND rolname LIKE 'caly\_%' AND rolcanlogin $$;
	REVOKE ALL ON FUNCTION pgbouncer.lookup(name) FROM PUBLIC;
	GRANT EXECUTE ON FUNCTION pgbouncer.lookup(name) TO pgbouncer`

// mainPaths follows a recording through its life, and uses what depends on the state of a connection: settings of a
// transaction, advisory locks, batches, row-level security.
func mainPaths(t *testing.T, f *fixture, tenant string) {
	t.Helper()
	var events sync.WaitGroup
	for n := range 20 { // at once, so that several connections of the server take part
		events.Go(func() {
			call := fmt.Sprintf("c%d", n)
			event := newEvent(tenant, call, "terminal", store.CallCompleted, "https://x/"+call)
			if _, err := f.Dataplane.Ingest(t.Context(), event); err != nil {
				t.Errorf("ingest: %v", err)
			}
		})
	}
	events.Wait()
	for _, path := range []struct {
		name string
		run  func(*testing.T, *fixture, string)
	}{
		{"recording", recordingPath},
		{"lists", listPath},
		{"stream", streamPath},
		{"limit", limitPath},
		{"roles", rolePath},
		{"expired roles", expiredPath},
	} {
		t.Run(path.name, func(t *testing.T) { path.run(t, f, tenant) })
	}
}

func recordingPath(t *testing.T, f *fixture, _ string) {
	ctx := t.Context()
	list, err := f.upload.Claim(ctx, "pod", 1, time.Minute)
	if err != nil || len(list) != 1 {
		t.Fatalf("claimed %d recordings (%v)", len(list), err)
	}
	if held, err := f.upload.Heartbeat(ctx, "pod", []string{list[0].ID}, time.Minute); err != nil || len(held) != 1 {
		t.Fatalf("renewed %d leases (%v)", len(held), err)
	}
	result := store.Result{Bucket: "b", Key: "k", SHA256: strings.Repeat("0", 64)}
	if err := f.upload.Complete(ctx, "pod", list[0].ID, result); err != nil {
		t.Fatal(err)
	}
	if err := f.upload.Complete(ctx, "other", list[0].ID, store.Result{}); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("completing again: %v", err)
	}
}

func listPath(t *testing.T, f *fixture, tenant string) {
	filter := store.CallFilter{Page: store.Page{Limit: 50}}
	for range 3 {
		calls, _, err := f.Dataplane.Calls(t.Context(), tenant, filter)
		if err != nil || len(calls) != 20 {
			t.Fatalf("%d calls are listed (%v), want 20", len(calls), err)
		}
	}
	if calls, _, err := f.Dataplane.Calls(t.Context(), globex, filter); err != nil || len(calls) != 0 {
		t.Errorf("another tenant sees %d calls (%v)", len(calls), err)
	}
}

func streamPath(t *testing.T, f *fixture, tenant string) {
	for i, want := range []error{nil, store.ErrStreamLimit} {
		err := f.Dataplane.AdmitStream(t.Context(), tenant, store.NewStream{ID: store.NewID(), Pod: "pod"}, 1)
		if !errors.Is(err, want) {
			t.Errorf("stream %d: %v, want %v", i, err, want)
		}
	}
}

func limitPath(t *testing.T, f *fixture, tenant string) {
	for want := range 3 {
		got, err := f.Dataplane.TakeHits(t.Context(), store.HitTake{
			Tenant:  tenant,
			Key:     [32]byte{1},
			Wanted:  1,
			Max:     2,
			Window:  time.Minute,
			Timeout: time.Second,
		})
		if err != nil || got.Granted != min(1, max(0, 2-want)) {
			t.Errorf("attempt %d: %d granted (%v)", want, got.Granted, err)
		}
	}
}

// rolePath rotates a role: PgBouncer has to read the new verifier.
func rolePath(t *testing.T, f *fixture, tenant string) {
	db := storetest.Open(t, storetest.UploadDSN(t, f.Operator, tenant, "another password"), store.OpenUpload)
	if _, err := db.Claim(t.Context(), "pod", 1, time.Minute); err != nil {
		t.Error(err)
	}
	if err := f.Operator.DropUploadRole(t.Context(), tenant); err != nil {
		t.Error(err)
	}
}

// expiredPath checks that the statements of that page do not let an expired role in: PgBouncer has to ask
// PostgreSQL for that too (CVE-2025-2291).
func expiredPath(t *testing.T, f *fixture, tenant string) {
	dsn := storetest.UploadDSN(t, f.Operator, tenant+"/expired", "password")
	storetest.Open(t, dsn, store.OpenUpload)
	role, _, _ := dbconn.User(dsn)
	f.Exec(t, fmt.Sprintf(`ALTER ROLE %s VALID UNTIL 'yesterday'`, role))
	if _, err := store.OpenUpload(t.Context(), dsn, store.Options{}); err == nil {
		t.Error("an expired role connects through the pooler")
	}
}

// TestPoolerTimeouts checks that statements end in time through a pooler too, and that a pod does not start as a role
// that has no timeouts.
func TestPoolerTimeouts(t *testing.T) {
	pg := pgtest.New(t)
	through := func(dsn string) string { return pgtest.At(t, dsn, pg.PgBouncer(t, "transaction", "")) }
	options := store.Options{StatementTimeout: 300 * time.Millisecond}
	db, err := store.OpenDataplane(t.Context(), through(pg.DataplaneDSN), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	if got := settings(t, through(pg.DataplaneDSN)); got != "15s 15s" {
		t.Errorf("the role's timeouts are %q", got)
	}
	one := store.CallFilter{Page: store.Page{Limit: 1}}
	if _, _, err := db.Calls(t.Context(), acme, one); err != nil {
		t.Fatal(err) // it also describes the statement, once for each connection, before the tenant's timeout is set
	}
	admin := simpleConn(t, pg.AdminDSN)
	if _, err := admin.Exec(t.Context(), `BEGIN; LOCK TABLE calls IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, _, err := db.Calls(t.Context(), acme, one); err == nil || !strings.Contains(err.Error(), "57014") {
		t.Errorf("a list that hangs: %v, want statement_timeout", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it hung for %s", took)
	}
	if _, err := admin.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}

	pg.Exec(t, `ALTER ROLE caly_dataplane RESET ALL`)
	defer pg.Exec(t, `SELECT caly_default_timeouts('caly_dataplane')`)
	ignored := "ignore_startup_parameters = statement_timeout,idle_in_transaction_session_timeout"
	for _, extra := range []string{"", ignored} {
		dsn := pgtest.At(t, pg.DataplaneDSN, pg.PgBouncer(t, "session", extra))
		_, err := store.OpenDataplane(t.Context(), dsn, store.Options{})
		if err == nil || !strings.Contains(err.Error(), `ALTER ROLE "caly_dataplane" SET statement_timeout = '15s'`) {
			t.Errorf("without timeouts: %v, want the statement to run", err)
		}
	}
}

func simpleConn(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func settings(t *testing.T, dsn string) (got string) {
	t.Helper()
	if err := simpleConn(t, dsn).QueryRow(t.Context(), `SELECT current_setting('statement_timeout') || ' ' ||
		current_setting('idle_in_transaction_session_timeout')`).Scan(&got); err != nil {
		t.Fatal(err)
	}
	return got
}

func migrate(t *testing.T, pg *pgtest.Server) {
	t.Helper()
	if err := migrations.Up(t.Context(), pg.OwnerDSN, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
}
