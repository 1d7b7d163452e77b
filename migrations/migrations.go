// Package migrations holds the schema of Caly's database and brings a database to it.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
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
	p, err := goose.NewProvider(goose.DialectPostgres, &sql.DB{}, FS)
	if err != nil {
		return 0 // unreachable: a test parses the embedded files
	}
	sources := p.ListSources()
	return sources[len(sources)-1].Version
}

// Up applies every pending migration, each in a transaction of its own. Several processes may call it at once: one works,
// the others wait for it.
func Up(ctx context.Context, dsn string, log *slog.Logger) error {
	return withProvider(ctx, dsn, log, func(p *goose.Provider) error {
		results, err := p.Up(ctx)
		for _, r := range results {
			log.Info("applied migration", "version", r.Source.Version, "file", r.Source.Path, "took", r.Duration.Round(time.Millisecond))
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
	})
}

// Status tells which migrations are applied.
func Status(ctx context.Context, dsn string) ([]Row, error) {
	var rows []Row
	err := withProvider(ctx, dsn, slog.New(slog.DiscardHandler), func(p *goose.Provider) error {
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
func withProvider(ctx context.Context, dsn string, log *slog.Logger, fn func(*goose.Provider) error) error {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return errors.New("the database URL cannot be read: it must look like postgres://user:password@host:5432/database")
	}
	cfg.ConnectTimeout = 10 * time.Second
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" {
			log.Warn("PostgreSQL warns", "warning", n.Message)
		}
	}
	db := stdlib.OpenDB(*cfg)
	defer func() { _ = db.Close() }()
	if err := db.PingContext(ctx); err != nil {
		return explain(fmt.Sprintf("connect to database %s on %s:%d as %s", cfg.Database, cfg.Host, cfg.Port, cfg.User), err)
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, FS, goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	return fn(p)
}

// explain keeps the server's own words and drops connection strings.
func explain(doing string, err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return fmt.Errorf("%s: PostgreSQL says: %s (%s)", doing, pg.Message, pg.Code)
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		first, _, _ := strings.Cut(connect.Unwrap().Error(), "\n") // one line for each address that was tried
		return fmt.Errorf("%s: %s", doing, first)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
