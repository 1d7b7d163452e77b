package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ErrStreamEnded means that the stream has ended, so there is nothing to close.
const ErrStreamEnded refusal = "the stream has ended"

// CloseStream asks the pod of a tenant's live stream to close it, and returns the session as it is then. A repeat
// changes nothing, and adds no row to the audit log. ErrNotFound when the tenant has no such stream, ErrStreamEnded
// when it is not live.
func (d *common) CloseStream(ctx context.Context, tenant, id string, by Origin) (s StreamSession, err error) {
	if !ValidID(id) {
		return s, ErrNotFound
	}
	err = d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		if s, err = lockStream(ctx, tx, tenant, id); err != nil || s.Closing {
			return err
		}
		if !s.EndedAt.IsZero() {
			return ErrStreamEnded
		}
		if _, err := tx.Exec(
			ctx, `UPDATE stream_sessions SET close_requested_at = now() WHERE tenant = $1 AND id = $2`, tenant, id,
		); err != nil {
			return err
		}
		s.Closing = true
		audit := by.success(ActionStreamClosed, "")
		audit.Reason = "stream " + id
		return insertAudit(ctx, tx, tenant, audit)
	})
	return s, err
}

// lockStream reads a stream session that the transaction is about to change.
func lockStream(ctx context.Context, tx pgx.Tx, tenant, id string) (s StreamSession, err error) {
	rows, err := tx.Query(
		ctx,
		`SELECT `+streamColumns+` FROM stream_sessions WHERE tenant = $1 AND id = $2 FOR NO KEY UPDATE`,
		tenant,
		id,
	)
	if err != nil {
		return s, err
	}
	return pgx.CollectExactlyOneRow(rows, scanStreamSession)
}

// CloseStreams asks the pods to close all live streams of a tenant, and returns their number, including those that
// were asked before. It adds a row to the audit log if there are new ones. A stream that is admitted at the same
// moment may stay.
func (d *common) CloseStreams(ctx context.Context, tenant string, by Origin) (closing int, err error) {
	err = d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		var asked int
		// In the order in which heartbeats lock them. What was asked for before is counted as the statement found it.
		err := tx.QueryRow(
			ctx,
			`WITH live AS (SELECT id FROM stream_sessions WHERE tenant = $1 AND ended_at IS NULL AND close_requested_at IS NULL
				ORDER BY id FOR NO KEY UPDATE),
			asked AS (UPDATE stream_sessions s SET close_requested_at = now() FROM live WHERE s.tenant = $1
				AND s.id = live.id RETURNING 1)
			SELECT asked.n, asked.n + (SELECT count(*) FROM stream_sessions WHERE tenant = $1 AND ended_at IS NULL
				AND close_requested_at IS NOT NULL)
			FROM (SELECT count(*) AS n FROM asked) asked`,
			tenant,
		).Scan(&asked, &closing)
		if err != nil || asked == 0 {
			return err
		}
		audit := by.success(ActionStreamsClosed, "")
		audit.Reason = fmt.Sprintf("live streams: %d", asked)
		return insertAudit(ctx, tx, tenant, audit)
	})
	return closing, err
}

// TenantOfStream names the tenant of a live stream by its id alone. ErrNotFound when none is live. Only the operator may.
func (d *Operator) TenantOfStream(ctx context.Context, id string) (tenant string, err error) {
	err = d.pool.QueryRow(
		ctx, `SELECT tenant FROM stream_sessions WHERE ended_at IS NULL AND id = $1::uuid`, id,
	).Scan(&tenant)
	return tenant, explain(err)
}
