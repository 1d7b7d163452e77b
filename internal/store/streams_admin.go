package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// StreamSession is a live stream session, as people see it.
type StreamSession struct {
	StreamRef
	CallSID, StreamSID, Pod, Agent string
	StartedAt, LastSeenAt          time.Time
	// Closing : somebody asked for its end.
	Closing bool
}

// LiveStreams lists the live stream sessions of a tenant, or of all with "", oldest first and at most limit. Only the operator may.
func (d *DB) LiveStreams(ctx context.Context, tenant string, limit int) ([]StreamSession, error) {
	rows, err := d.pool.Query(ctx, `SELECT tenant, id::text, call_sid, stream_sid, pod, agent, started_at, last_seen_at, close_requested_at IS NOT NULL
		FROM stream_sessions WHERE ended_at IS NULL AND ($1 = '' OR tenant = $1) ORDER BY started_at, id LIMIT $2`, tenant, limit)
	if err != nil {
		return nil, explain(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s StreamSession, err error) {
		err = row.Scan(&s.Tenant, &s.ID, &s.CallSID, &s.StreamSID, &s.Pod, &s.Agent, &s.StartedAt, &s.LastSeenAt, &s.Closing)
		return s, err
	})
	return list, explain(err)
}

// RequestStreamClose asks the pods to close a live stream session by its id, of a tenant or of whichever with "". ErrNotFound if there
// is none. Only the operator may.
func (d *DB) RequestStreamClose(ctx context.Context, tenant, id string) (StreamRef, error) {
	var ref StreamRef
	err := d.pool.QueryRow(ctx, `UPDATE stream_sessions SET close_requested_at = coalesce(close_requested_at, now())
		WHERE ended_at IS NULL AND id = $1::uuid AND ($2 = '' OR tenant = $2) RETURNING tenant, id::text`, id, tenant).Scan(&ref.Tenant, &ref.ID)
	return ref, explain(err)
}

// RequestStreamsClose asks the pods to close all live stream sessions of a tenant, and returns how many. Only the operator may.
func (d *DB) RequestStreamsClose(ctx context.Context, tenant string) (int64, error) {
	tag, err := d.pool.Exec(ctx, `UPDATE stream_sessions SET close_requested_at = coalesce(close_requested_at, now())
		WHERE ended_at IS NULL AND tenant = $1`, tenant)
	return tag.RowsAffected(), explain(err)
}

// SweepStreams deletes at most limit stream sessions that ended longer ago than keep, of all tenants, and ends those that no pod has
// said anything of for an hour: of a tenant, that is, whose config no pod has any more. Only the operator may.
func (d *DB) SweepStreams(ctx context.Context, keep time.Duration, limit int) (int64, error) {
	if _, err := d.pool.Exec(ctx, `UPDATE stream_sessions SET ended_at = now(), end_reason = $2 WHERE (tenant, id) IN
		(SELECT tenant, id FROM stream_sessions WHERE ended_at IS NULL AND last_seen_at < now() - interval '1 hour' LIMIT $1)`, limit, EndOrphaned); err != nil {
		return 0, explain(err)
	}
	tag, err := d.pool.Exec(ctx, `DELETE FROM stream_sessions WHERE (tenant, id) IN
		(SELECT tenant, id FROM stream_sessions WHERE ended_at < now() - $1::interval LIMIT $2)`, keep, limit)
	return tag.RowsAffected(), explain(err)
}
