package store

import (
	"context"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caly-dev/caly/internal/dbconn"
)

// readOnlyGuard drops connections to a server that became read-only: a failover left them at the old primary. New
// connections go where the host name or the list of hosts leads now.
type readOnlyGuard struct {
	pool    atomic.Pointer[pgxpool.Pool]
	answers atomic.Int64
}

// guardReadOnly has every connection of the configuration watched.
func guardReadOnly(cfg *pgx.ConnConfig) *readOnlyGuard {
	g := &readOnlyGuard{}
	keep := cfg.OnPgError
	cfg.OnPgError = func(conn *pgconn.PgConn, e *pgconn.PgError) bool {
		if e.Code != dbconn.ReadOnlyTransaction {
			return keep(conn, e)
		}
		g.drop()
		return false
	}
	return g
}

// drop closes all connections, those in use once they are returned.
func (g *readOnlyGuard) drop() {
	g.answers.Add(1)
	if pool := g.pool.Load(); pool != nil {
		pool.Reset()
	}
}

// ReadOnlyAnswers counts how often the server turned out to accept no writes.
func (d *base) ReadOnlyAnswers() int64 { return d.readOnly.answers.Load() }

// Writable returns nil if a connection of the pool accepts writes. ErrReadOnly if it does not, or if no host of the
// URL does; a new connection is made for the next statement then. ErrUnavailable if no server answers.
func (d *base) Writable(ctx context.Context) error {
	var readOnly bool
	err := d.pool.QueryRow(ctx, `SELECT current_setting('transaction_read_only')::boolean`).Scan(&readOnly)
	if err == nil && readOnly {
		d.readOnly.drop()
		return ErrReadOnly
	}
	return explain(err)
}
