package store

import (
	"context"
	"time"
)

// SweepStreams deletes at most limit stream sessions that ended longer ago than keep, of all tenants, and ends those that no pod has
// said anything of for an hour: of a tenant, that is, whose config no pod has any more. Only the operator may.
func (d *Operator) SweepStreams(ctx context.Context, keep time.Duration, limit int) (int64, error) {
	if _, err := d.pool.Exec(ctx, `WITH ended AS (UPDATE stream_sessions SET ended_at = now(), end_reason = '`+EndOrphaned+`' WHERE (tenant, id) IN
			(SELECT tenant, id FROM stream_sessions WHERE ended_at IS NULL AND last_seen_at < now() - interval '1 hour' LIMIT $1) RETURNING *),
		`+lostCapturesSQL+` SELECT count(*) FROM ended`, limit); err != nil {
		return 0, explain(err)
	}
	tag, err := d.pool.Exec(ctx, `DELETE FROM stream_sessions WHERE (tenant, id) IN
		(SELECT tenant, id FROM stream_sessions WHERE ended_at < now() - $1::interval LIMIT $2)`, keep, limit)
	return tag.RowsAffected(), explain(err)
}
