package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/reason"
)

// StreamCounts are of one direction of a stream.
type StreamCounts struct{ Frames, Bytes, Dropped int64 }

// StreamEnd is how a stream ended.
type StreamEnd struct {
	StreamRef
	CallSID, StreamSID string
	// At is when, by the pod's clock; zero means now.
	At                time.Time
	Reason            string
	Reconnected       bool
	ToAgent, ToExotel StreamCounts
}

// EndStreams ends stream sessions in one statement, whose rows it locks in the order in which HeartbeatStreams does,
// and returns how many had not ended before. Of one that was ended as an orphan while it was alive, what is known now
// takes the place of that. An end without counts leaves those of the last heartbeat.
func (d *Dataplane) EndStreams(ctx context.Context, ends []StreamEnd) (n int64, err error) {
	if len(ends) == 0 {
		return 0, nil
	}
	endColumns := columnsOf(ends)
	err = d.inTenants(ctx, distinct(endColumns.tenants), func(tx pgx.Tx) error {
		return tx.QueryRow(
			ctx,
			`WITH ended AS (UPDATE stream_sessions s
				SET ended_at = greatest(s.started_at, least(coalesce(e.at, now()), now())), end_reason = e.reason,
				call_sid = coalesce(nullif(e.call_sid, ''), s.call_sid),
				stream_sid = coalesce(nullif(e.stream_sid, ''), s.stream_sid), reconnected = e.reconnected,
				frames_to_agent = greatest(s.frames_to_agent, e.n[1]),
				bytes_to_agent = greatest(s.bytes_to_agent, e.n[2]),
				dropped_to_agent = greatest(s.dropped_to_agent, e.n[3]),
				frames_to_exotel = greatest(s.frames_to_exotel, e.n[4]),
				bytes_to_exotel = greatest(s.bytes_to_exotel, e.n[5]),
				dropped_to_exotel = greatest(s.dropped_to_exotel, e.n[6])
			FROM (SELECT u.tenant, u.id, u.call_sid, u.stream_sid, u.at, u.reason, u.reconnected,
					ARRAY[n1, n2, n3, n4, n5, n6] AS n
				FROM stream_sessions l JOIN unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[],
					$6::text[], $7::boolean[],
					$8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])
					u (tenant, id, call_sid, stream_sid, at, reason, reconnected, n1, n2, n3, n4, n5, n6)
						ON l.tenant = u.tenant AND l.id = u.id
				WHERE l.ended_at IS NULL OR l.end_reason = '`+reason.StreamOrphaned+`'
				ORDER BY l.tenant, l.id FOR NO KEY UPDATE OF l) e
			WHERE s.tenant = e.tenant AND s.id = e.id
				AND (s.ended_at IS NULL OR s.end_reason = '`+reason.StreamOrphaned+`') RETURNING s.*),
			`+lostCapturesSQL+`
			SELECT count(*) FROM ended`,
			endColumns.tenants,
			endColumns.ids,
			endColumns.calls,
			endColumns.sids,
			endColumns.at,
			endColumns.reasons,
			endColumns.reconnected,
			endColumns.n[0],
			endColumns.n[1],
			endColumns.n[2],
			endColumns.n[3],
			endColumns.n[4],
			endColumns.n[5],
		).Scan(&n)
	})
	return n, err
}

// endColumns are ends as unnest takes them.
type endColumns struct {
	tenants, ids, calls, sids, reasons []string
	at                                 []*time.Time
	reconnected                        []bool
	n                                  countColumns
}

// countColumns are counts as unnest takes them: those of the direction to the agent first.
type countColumns [6][]int64

func (c *countColumns) add(toAgent, toExotel StreamCounts) {
	for i, v := range []int64{
		toAgent.Frames, toAgent.Bytes, toAgent.Dropped, toExotel.Frames, toExotel.Bytes,
		toExotel.Dropped,
	} {
		c[i] = append(c[i], v)
	}
}

func columnsOf(ends []StreamEnd) (c endColumns) {
	for _, e := range ends {
		var at *time.Time
		if !e.At.IsZero() {
			at = &e.At
		}
		c.tenants = append(c.tenants, e.Tenant)
		c.ids = append(c.ids, e.ID)
		c.calls = append(c.calls, e.CallSID)
		c.sids = append(c.sids, e.StreamSID)
		c.reasons = append(c.reasons, e.Reason)
		c.at = append(c.at, at)
		c.reconnected = append(c.reconnected, e.Reconnected)
		c.n.add(e.ToAgent, e.ToExotel)
	}
	return c
}

// streamLost is how long a stream session stays open that no pod updates. Its tenant's config is on no pod any more.
const streamLost = time.Hour

// SweepStreams deletes at most limit stream sessions that ended longer ago than keep, of all tenants. It ends those
// that no pod has updated for streamLost.
func (d *Operator) SweepStreams(ctx context.Context, keep time.Duration, limit int) (int64, error) {
	if _, err := d.pool.Exec(ctx, `
		WITH ended AS (UPDATE stream_sessions SET ended_at = now(), end_reason = '`+reason.StreamOrphaned+`'
			WHERE (tenant, id) IN (SELECT tenant, id FROM stream_sessions
				WHERE ended_at IS NULL AND last_seen_at < now() - $2::interval LIMIT $1) RETURNING *),
		`+lostCapturesSQL+` SELECT count(*) FROM ended`, limit, streamLost); err != nil {
		return 0, explain(err)
	}
	tag, err := d.pool.Exec(ctx, `DELETE FROM stream_sessions WHERE (tenant, id) IN
		(SELECT tenant, id FROM stream_sessions WHERE ended_at < now() - $1::interval LIMIT $2)`, keep, limit)
	return tag.RowsAffected(), explain(err)
}
