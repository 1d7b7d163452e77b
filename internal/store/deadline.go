package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// reachWithin is the time that a statement has in addition to its statement_timeout: to get a connection, and to get
// the answer. The server enforces its timeouts, so it does not when it hangs. A pooler keeps the connection open then.
const reachWithin = 10 * time.Second

// querier is what a pool and a transaction have in common.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// timed is a querier whose statements end in time, whatever the caller's context allows.
type timed struct {
	querier
	bound func(context.Context) (context.Context, context.CancelFunc)
}

// pool is a pool of connections. Statements and transactions of it end in time.
type pool struct {
	timed
	raw *pgxpool.Pool
}

// newPool bounds each statement, and each transaction as a whole, to within.
func newPool(raw *pgxpool.Pool, within time.Duration) *pool {
	p := &pool{raw: raw}
	p.timed = timed{
		querier: raw,
		bound: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, within)
		},
	}
	return p
}

// Ping sends an empty statement.
func (p *pool) Ping(ctx context.Context) error {
	ctx, cancel := p.bound(ctx)
	defer cancel()
	return p.raw.Ping(ctx)
}

// Begin begins a transaction.
func (p *pool) Begin(ctx context.Context) (pgx.Tx, error) {
	bound, cancel := p.bound(ctx)
	begun, err := p.raw.Begin(bound)
	if err != nil {
		cancel()
		return nil, err
	}
	end, _ := bound.Deadline()
	return &timedTx{
		Tx:     begun,
		cancel: cancel,
		timed: timed{
			querier: begun,
			bound: func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithDeadline(ctx, end)
			},
		},
	}, nil
}

// timedTx is a transaction whose statements all end at its deadline.
type timedTx struct {
	pgx.Tx
	timed  timed
	cancel context.CancelFunc
}

// Exec runs a statement.
func (t *timedTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return t.timed.Exec(ctx, sql, args...)
}

// Query runs a statement that returns rows. The caller reads or closes them.
func (t *timedTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return t.timed.Query(ctx, sql, args...)
}

// QueryRow runs a statement that returns one row. The caller scans it.
func (t *timedTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return t.timed.QueryRow(ctx, sql, args...)
}

// SendBatch runs several statements. The caller closes the results.
func (t *timedTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return t.timed.SendBatch(ctx, b)
}

// Commit ends the transaction.
func (t *timedTx) Commit(ctx context.Context) error { return t.end(ctx, t.Tx.Commit) }

// Rollback ends the transaction.
func (t *timedTx) Rollback(ctx context.Context) error { return t.end(ctx, t.Tx.Rollback) }

// end commits or rolls back with a deadline of its own, so that an expired statement deadline does not prevent the
// rollback.
func (t *timedTx) end(ctx context.Context, how func(context.Context) error) error {
	defer t.cancel()
	ctx, cancel := t.timed.bound(ctx)
	defer cancel()
	return how(ctx)
}

// Exec runs a statement.
func (b timed) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	ctx, cancel := b.bound(ctx)
	defer cancel()
	return b.querier.Exec(ctx, sql, args...)
}

// Query runs a statement that returns rows. The caller reads or closes them.
func (b timed) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	ctx, cancel := b.bound(ctx)
	rows, err := b.querier.Query(ctx, sql, args...)
	if err != nil {
		cancel()
		return rows, err
	}
	return &timedRows{Rows: rows, cancel: cancel}, nil
}

// QueryRow runs a statement that returns one row. The caller scans it.
func (b timed) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	ctx, cancel := b.bound(ctx)
	return timedRow{row: b.querier.QueryRow(ctx, sql, args...), cancel: cancel}
}

// SendBatch runs several statements. The caller closes the results.
func (b timed) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	ctx, cancel := b.bound(ctx)
	return timedBatch{BatchResults: b.querier.SendBatch(ctx, batch), cancel: cancel}
}

// timedRows releases the timer once the rows are read or closed.
type timedRows struct {
	pgx.Rows
	cancel context.CancelFunc
}

// Next reads the next row, and closes the rows after the last one.
func (r *timedRows) Next() bool {
	more := r.Rows.Next()
	if !more {
		r.cancel()
	}
	return more
}

// Close ends the reading.
func (r *timedRows) Close() {
	r.Rows.Close()
	r.cancel()
}

type timedRow struct {
	row    pgx.Row
	cancel context.CancelFunc
}

// Scan reads the row.
func (r timedRow) Scan(dest ...any) error {
	defer r.cancel()
	return r.row.Scan(dest...)
}

type timedBatch struct {
	pgx.BatchResults
	cancel context.CancelFunc
}

// Close reads the results that were not read.
func (r timedBatch) Close() error {
	defer r.cancel()
	return r.BatchResults.Close()
}
