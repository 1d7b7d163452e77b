package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// StreamSession is a stream session, as people see it.
type StreamSession struct {
	StreamRef
	// CallSID and StreamSID are empty until Exotel has told them. Agent is a host.
	CallSID, StreamSID, Pod, Agent string
	StartedAt, LastSeenAt          time.Time
	// Closing reports whether the stream is live and its end was requested.
	Closing bool
	// EndedAt is zero, and EndReason empty, while it is live.
	EndedAt   time.Time
	EndReason string
	// Reconnected reports whether the agent got a second connection. It is known at the end.
	Reconnected bool
	// ToAgent and ToExotel are as of LastSeenAt, while it is live.
	ToAgent, ToExotel StreamCounts
}

const streamColumns = `tenant, id::text, call_sid, stream_sid, pod, agent, started_at, last_seen_at,
	ended_at IS NULL AND close_requested_at IS NOT NULL, ended_at, end_reason, reconnected,
	frames_to_agent, bytes_to_agent, dropped_to_agent, frames_to_exotel, bytes_to_exotel, dropped_to_exotel`

func scanStreamSession(row pgx.CollectableRow) (s StreamSession, err error) {
	var ended *time.Time
	err = row.Scan(
		&s.Tenant,
		&s.ID,
		&s.CallSID,
		&s.StreamSID,
		&s.Pod,
		&s.Agent,
		&s.StartedAt,
		&s.LastSeenAt,
		&s.Closing,
		&ended,
		&s.EndReason,
		&s.Reconnected,
		&s.ToAgent.Frames,
		&s.ToAgent.Bytes,
		&s.ToAgent.Dropped,
		&s.ToExotel.Frames,
		&s.ToExotel.Bytes,
		&s.ToExotel.Dropped,
	)
	s.EndedAt = orZero(ended)
	return s, err
}

// StreamFilter chooses stream sessions. Zero fields choose all. Its times are those of when a stream started.
type StreamFilter struct {
	Page
	// Live selects only streams that have not ended.
	Live bool
	// CallSID, exactly as it is kept.
	CallSID string
}

// StreamSessions lists a tenant's stream sessions, the newest first, and tells whether there are more.
func (d *common) StreamSessions(
	ctx context.Context, tenant string, f StreamFilter,
) (list []StreamSession, more bool, err error) {
	w := &filter{}
	w.add("tenant = $%d", tenant)
	if f.Live {
		w.add("ended_at IS NULL")
	}
	w.match("call_sid", f.CallSID)
	w.page("started_at", "id", f.Page)
	sql := fmt.Sprintf(
		`SELECT %s FROM stream_sessions WHERE %s ORDER BY started_at DESC, id DESC LIMIT %d`,
		streamColumns,
		w,
		f.rows(),
	)
	err = d.oneTrip(
		ctx, tenant, func(b *pgx.Batch) { b.Queue(sql, w.args...).Query(collect(&list, scanStreamSession)) },
	)
	list, more = cutPage(list, f.Page)
	return list, more, err
}

// StreamByID reads a stream session of a tenant. ErrNotFound when there is none.
func (d *common) StreamByID(ctx context.Context, tenant, id string) (s StreamSession, err error) {
	if !ValidID(id) {
		return s, ErrNotFound
	}
	err = d.oneTrip(ctx, tenant, func(b *pgx.Batch) {
		b.Queue(
			`SELECT `+streamColumns+` FROM stream_sessions WHERE tenant = $1 AND id = $2`, tenant, id,
		).Query(func(rows pgx.Rows) (err error) {
			s, err = pgx.CollectExactlyOneRow(rows, scanStreamSession)
			return err
		})
	})
	return s, err
}

// LiveStreams lists the live stream sessions of a tenant, or of all with "", oldest first and at most limit. Only the operator may.
func (d *Operator) LiveStreams(ctx context.Context, tenant string, limit int) ([]StreamSession, error) {
	rows, err := d.pool.Query(
		ctx,
		`SELECT `+streamColumns+` FROM stream_sessions WHERE ended_at IS NULL AND ($1 = '' OR tenant = $1)
		ORDER BY started_at, id LIMIT $2`,
		tenant, limit,
	)
	if err != nil {
		return nil, explain(err)
	}
	list, err := pgx.CollectRows(rows, scanStreamSession)
	return list, explain(err)
}
