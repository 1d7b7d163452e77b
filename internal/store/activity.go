package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Activity is what was done for a tenant last.
type Activity struct {
	Tenant string
	// LastEvent is when the last event of the newest call came, and LastUpload when a recording was uploaded last; zero
	// without one.
	LastEvent, LastUpload time.Time
	// Streams are live.
	Streams int
}

// Each column reads one end of an index. No index orders events by time: those of the newest call are the newest, except
// for late ones of older calls.
const readActivity = `SELECT t.tenant,
	(SELECT max(e.received_at) FROM call_events e WHERE e.tenant = t.tenant AND e.call_sid =
		(SELECT c.call_sid FROM calls c WHERE c.tenant = t.tenant ORDER BY c.created_at DESC, c.call_sid DESC LIMIT 1)),
	(SELECT h.finished_at FROM recording_history h WHERE h.tenant = t.tenant AND h.state = 'uploaded'
		ORDER BY h.finished_at DESC LIMIT 1),
	(SELECT count(*)::int FROM (SELECT FROM stream_sessions s WHERE s.tenant = t.tenant AND s.ended_at IS NULL LIMIT 10000) live)
	FROM unnest($1::text[]) AS t(tenant) ORDER BY 1`

// Activities returns what was done for each of the tenants last.
func (d *Operator) Activities(ctx context.Context, tenants []string) ([]Activity, error) {
	rows, err := d.pool.Query(ctx, readActivity, tenants)
	if err != nil {
		return nil, explain(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Activity, err error) {
		var event, upload *time.Time
		if err = row.Scan(&a.Tenant, &event, &upload, &a.Streams); err != nil {
			return a, err
		}
		if event != nil {
			a.LastEvent = *event
		}
		if upload != nil {
			a.LastUpload = *upload
		}
		return a, nil
	})
	return list, explain(err)
}
