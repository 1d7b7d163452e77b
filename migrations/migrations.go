// Package migrations holds the schema of Caly's database and brings a database to it.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/caly-dev/caly/internal/dbconn"
)

// FS holds the migrations, one file each.
//
//go:embed *.sql
var FS embed.FS

// Row tells of one migration.
type Row struct {
	Version   int64
	Name      string
	AppliedAt time.Time // zero while it is pending
}

// Latest is the version of the newest migration.
func Latest() int64 {
	provider, err := goose.NewProvider(goose.DialectPostgres, &sql.DB{}, FS)
	if err != nil {
		return 0 // unreachable: a test parses the embedded files
	}
	sources := provider.ListSources()
	return sources[len(sources)-1].Version
}

// Up applies every pending migration, each in a transaction of its own. Several processes may call it at once: one works,
// the others wait for it. Then it repairs the roles and their privileges: a dump that was restored on another server
// may lack them. An error names the statement that an administrator has to run.
func Up(ctx context.Context, dsn string, log *slog.Logger) error {
	return withProvider(ctx, dsn, log, func(db *sql.DB, p *goose.Provider) error {
		return locked(ctx, db, func() error {
			if err := apply(ctx, p, log); err != nil {
				return err
			}
			return repairRoles(ctx, db)
		})
	})
}

func apply(ctx context.Context, p *goose.Provider, log *slog.Logger) error {
	results, err := p.Up(ctx)
	for _, r := range results {
		log.Info("applied migration", "version", r.Source.Version, "file", r.Source.Path,
			"took", r.Duration.Round(time.Millisecond))
	}
	if err != nil {
		return explain("migrate", err)
	}
	version, err := p.GetDBVersion(ctx)
	if err != nil {
		return explain("read the schema's version", err)
	}
	log.Info("the database is up to date", "version", version, "applied", len(results))
	return nil
}

// repairRoles repairs what it may, and returns what is left.
func repairRoles(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, `SELECT problem FROM caly_repair_roles() AS problem`)
	if err != nil {
		return explain("check the roles", err)
	}
	defer func() { _ = rows.Close() }()
	var problems []error
	for rows.Next() {
		var problem string
		if err := rows.Scan(&problem); err != nil {
			return explain("check the roles", err)
		}
		problems = append(problems, errors.New(problem))
	}
	if err := rows.Err(); err != nil {
		return explain("check the roles", err)
	}
	if len(problems) > 0 {
		return fmt.Errorf("the schema is up to date, but the database's owner lacks privileges: %w",
			errors.Join(problems...))
	}
	return nil
}

// Status tells which migrations are applied.
func Status(ctx context.Context, dsn string) ([]Row, error) {
	var rows []Row
	err := withProvider(ctx, dsn, slog.New(slog.DiscardHandler), func(_ *sql.DB, p *goose.Provider) error {
		status, err := p.Status(ctx)
		if err != nil {
			return explain("read the migrations' status", err)
		}
		for _, s := range status {
			rows = append(rows, Row{Version: s.Source.Version, Name: s.Source.Path, AppliedAt: s.AppliedAt})
		}
		return nil
	})
	return rows, err
}

// withProvider connects and calls fn. Warnings of the server are logged: a migration warns of what it leaves to a
// person.
func withProvider(ctx context.Context, dsn string, log *slog.Logger, fn func(*sql.DB, *goose.Provider) error) error {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return dbconn.ErrURL
	}
	dbconn.Prepare(cfg)
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" {
			log.Warn("PostgreSQL warns", "warning", n.Message)
		}
	}
	route, err := dbconn.FindRoute(ctx, cfg)
	if err != nil {
		return explainConnect("connect to "+dbconn.Server(cfg), err)
	}
	dbconn.QueryMode(cfg, dsn, route)
	db := stdlib.OpenDB(*cfg)
	defer func() { _ = db.Close() }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, FS)
	if err != nil {
		return err
	}
	return fn(db, provider)
}

// lockWait bounds how long Up waits for another process that migrates.
const lockWait = "5min"

// locked calls fn while no other process migrates. The lock is that of a transaction: a pooler in transaction mode
// would give back the connection of a session's lock. Its ID is goose's, which earlier versions lock for a session.
func locked(ctx context.Context, db *sql.DB, fn func() error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return explain("begin the transaction that locks the migrations", err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, `SELECT set_config('lock_timeout', $1, true),
		set_config('statement_timeout', '0', true),
		set_config('idle_in_transaction_session_timeout', '0', true)`, lockWait); err != nil {
		return explain("set the timeouts of the lock", err)
	}
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, lock.DefaultLockID); err != nil {
		return explain("wait for another process that migrates", err)
	}
	return fn()
}

// explainConnect returns a dbconn.ErrUnavailable if the error of the first connection is about the moment. Nothing was
// migrated then.
func explainConnect(doing string, err error) error {
	var pg *pgconn.PgError
	rejected := errors.As(err, &pg) && (!dbconn.IsTransient(pg) || dbconn.LacksConnect(pg))
	if err = explain(doing, err); rejected {
		return err
	}
	return fmt.Errorf("%w: %w", dbconn.ErrUnavailable, err)
}

// explain keeps the server's own words and drops connection strings.
func explain(doing string, err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return fmt.Errorf("%s: %s", doing, dbconn.Explain(pg))
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		return fmt.Errorf("%s: %s", doing, dbconn.Reason(connect))
	}
	return fmt.Errorf("%s: %w", doing, err)
}
