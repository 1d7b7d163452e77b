package pgtest

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/caly-dev/caly/migrations"
)

// template is the database that the test binary migrates once. Each migrated database is a copy of it: PostgreSQL
// copies the files several times faster than it runs all migrations.
const template = "caly_template"

// migrated creates a database with Caly's schema on the server.
func (p *postgres) migrated(t testing.TB) *Server {
	t.Helper()
	p.migrateOnce.Do(func() { p.migrateFailure = p.migrateTemplate(context.Background()) })
	if p.migrateFailure != nil {
		t.Fatal(p.migrateFailure)
	}
	db := newName()
	if err := p.copyTemplate(t.Context(), db); err != nil {
		t.Fatalf("copy the migrated database: %v", err)
	}
	p.dropAfter(t, db)
	return p.server(db)
}

func (p *postgres) migrateTemplate(ctx context.Context) error {
	if err := p.createEmpty(ctx, template); err != nil {
		return err
	}
	if err := migrations.Up(ctx, p.server(template).OwnerDSN, slog.New(slog.DiscardHandler)); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// copyTemplate creates a copy of the template, file by file: the default strategy writes each page to the log too.
// PostgreSQL does not copy the privileges on the database itself.
func (p *postgres) copyTemplate(ctx context.Context, db string) error {
	return p.exec(ctx,
		"CREATE DATABASE "+db+" OWNER caly_owner TEMPLATE "+template+" STRATEGY file_copy",
		"REVOKE ALL ON DATABASE "+db+" FROM PUBLIC",
		"GRANT CONNECT ON DATABASE "+db+" TO caly_operator, caly_dataplane, caly_upload",
	)
}
