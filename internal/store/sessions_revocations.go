package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Revocation takes access tokens back: those of a session, or those of a user or (with neither) of a tenant that were issued until At.
type Revocation struct {
	ID     int64
	Tenant string
	// UserID and SessionID are empty, or one of them is not.
	UserID, SessionID string
	// At is the database's time.
	At time.Time
}

// insertRevocation takes back a session's access tokens or, without one, those of a user or, without either, those of the tenant. It
// belongs behind the statements that end sessions: a token of a session that they saw was issued before it.
func insertRevocation(ctx context.Context, tx pgx.Tx, tenant, userID, sessionID string) error {
	if sessionID != "" {
		userID = ""
	}
	// Not now(), which is when the transaction began: tokens may have been issued since.
	_, err := tx.Exec(ctx, `INSERT INTO revocations (tenant, user_id, session_id, at)
		VALUES ($1, nullif($2, '')::uuid, nullif($3, '')::uuid, clock_timestamp())`, tenant, userID, sessionID)
	return err
}

// Revoke is insertRevocation in a transaction of its own, for what does not also end a session.
func (d *Operator) Revoke(ctx context.Context, tenant, userID, sessionID string) error {
	return d.inTenant(
		ctx, tenant, func(tx pgx.Tx) error { return insertRevocation(ctx, tx, tenant, userID, sessionID) },
	)
}

// RevocationsSince lists what the tenants revoked within the time until now, in the order of their ids, from the one
// after afterID on and at most limit of them. A row may appear late, and after one with a greater id: to get all, read
// a window again.
func (d *Dataplane) RevocationsSince(
	ctx context.Context, tenants []string, within time.Duration, afterID int64, limit int,
) ([]Revocation, error) {
	if len(tenants) == 0 {
		return nil, nil
	}
	var list []Revocation
	err := d.inTenants(ctx, tenants, func(tx pgx.Tx) error {
		// Row-level security selects the tenants: the query would only be slower if it did too.
		rows, err := tx.Query(
			ctx,
			`SELECT id, tenant, coalesce(user_id::text, ''), coalesce(session_id::text, ''), at FROM revocations
			WHERE at >= now() - $1::interval AND id > $2 ORDER BY id LIMIT $3`,
			within, afterID, limit,
		)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Revocation])
		return err
	})
	return list, err
}

// SweepRevocations deletes those older than keep, of all tenants. Only the operator may.
func (d *Operator) SweepRevocations(ctx context.Context, keep time.Duration) (int64, error) {
	tag, err := d.pool.Exec(ctx, `DELETE FROM revocations WHERE at < now() - $1::interval`, keep)
	return tag.RowsAffected(), explain(err)
}
