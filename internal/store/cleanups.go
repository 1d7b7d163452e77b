package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// CleanupCounts are what cleanups did.
type CleanupCounts struct {
	// Cleanups are full ones that came to their end.
	Cleanups int64
	// StreamSessions are those that were ended because nobody had the stream any more.
	StreamSessions int64
	// Connections are streams that were cut off because their sessions had ended.
	Connections int64
	// MemoryLeaks are times that more was in use than live streams explain.
	MemoryLeaks int64
	// LastAt is when a full cleanup came to its end last; zero: never.
	LastAt time.Time
}

// CleanupTotals are those of all pods since the database has them, version 40 of the schema.
type CleanupTotals struct {
	CleanupCounts
	// LoginSessions are those that had expired and were removed.
	LoginSessions int64
}

const cleanupColumns = `cleanups, stream_sessions, connections, memory_leaks, last_cleanup_at, login_sessions`

// AddCleanups adds what a pod's cleanups did to the totals, and returns the totals.
func (d *Dataplane) AddCleanups(ctx context.Context, c CleanupCounts) (CleanupTotals, error) {
	var last *time.Time
	if !c.LastAt.IsZero() {
		last = &c.LastAt
	}
	// What a total may have before it grows is bounded, so that no total can make the sum fail.
	rows, err := d.pool.Query(ctx, `UPDATE cleanup_totals SET cleanups = least(cleanups, 1::bigint << 61) + $1,
			stream_sessions = least(stream_sessions, 1::bigint << 61) + $2,
			connections = least(connections, 1::bigint << 61) + $3,
			memory_leaks = least(memory_leaks, 1::bigint << 61) + $4,
			last_cleanup_at = greatest(last_cleanup_at, CASE WHEN $5::timestamptz <= now() THEN $5 WHEN $5 > now() THEN now() END)
		RETURNING `+cleanupColumns, c.Cleanups, c.StreamSessions, c.Connections, c.MemoryLeaks, last)
	return collectCleanups(rows, err)
}

// CleanupTotals returns what the cleanups of all pods did.
func (d *Dataplane) CleanupTotals(ctx context.Context) (CleanupTotals, error) {
	rows, err := d.pool.Query(ctx, `SELECT `+cleanupColumns+` FROM cleanup_totals`)
	return collectCleanups(rows, err)
}

func collectCleanups(rows pgx.Rows, err error) (CleanupTotals, error) {
	if err != nil {
		return CleanupTotals{}, explain(err)
	}
	totals, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (c CleanupTotals, err error) {
		var last *time.Time
		err = row.Scan(&c.Cleanups, &c.StreamSessions, &c.Connections, &c.MemoryLeaks, &last, &c.LoginSessions)
		c.LastAt = orZero(last)
		return c, err
	})
	return totals, explain(err)
}
