package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caly-dev/caly/internal/dbconn"
	"github.com/caly-dev/caly/internal/reason"
)

// Errors of AdmitStream.
const (
	// ErrStreamLimit means that the tenant has as many streams as it may, over all pods.
	ErrStreamLimit refusal = "the tenant has as many streams as it may"
	// ErrStreamTokenUsed means that an earlier stream used the token.
	ErrStreamTokenUsed refusal = "the token was used before"
)

// NewStream is a stream session to be.
type NewStream struct {
	ID, CallSID string
	// Pod that has it.
	Pod string
	// Agent is a host.
	Agent   string
	Address netip.Addr
	// TokenID of the one-time token that let it in; empty without one.
	TokenID string
	// CaptureID of the capture that its pod makes of it; empty if it is not captured.
	CaptureID string
}

// admitStreamSQL counts no further than to the limit. The lock of the statement before makes the count exact: this
// statement sees what the lock's previous owner has committed.
const admitStreamSQL = `INSERT INTO stream_sessions (tenant, id, call_sid, pod, agent, address, token_id, capture_id)
	SELECT $1, $2::uuid, $3, $4, $5, $6, nullif($7, ''), $8
	WHERE (SELECT count(*)
		FROM (SELECT FROM stream_sessions WHERE tenant = $1 AND ended_at IS NULL LIMIT $9) live) < $9`

// lockStreamsSQL serializes the admissions of one tenant, until the transaction ends. Ends need no lock: they only make room.
const lockStreamsSQL = `SELECT pg_advisory_xact_lock(hashtextextended('caly.streams ' || $1, 0))`

// AdmitStream begins a stream session if the tenant has fewer than limit live ones, exactly, whichever pods have them. It returns
// ErrStreamLimit if not, and ErrStreamTokenUsed if the token let one in before.
func (d *Dataplane) AdmitStream(ctx context.Context, tenant string, n NewStream, limit int) error {
	var address *netip.Addr
	if n.Address.IsValid() {
		bare := n.Address.WithZone("")
		address = &bare
	}
	err := d.oneTrip(ctx, tenant, func(b *pgx.Batch) {
		b.Queue(lockStreamsSQL, tenant)
		b.Queue(
			admitStreamSQL, tenant, n.ID, n.CallSID, n.Pod, n.Agent, address, n.TokenID, n.CaptureID, max(limit, 0),
		).Exec(func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() == 0 {
				return ErrStreamLimit
			}
			return nil
		})
	})
	if isCode(err, dbconn.UniqueViolation) && n.TokenID != "" { // the ids are ours, and random
		return ErrStreamTokenUsed
	}
	return err
}

// StreamRef names a stream session.
type StreamRef struct{ Tenant, ID string }

// StreamBeat is a sign of life of a stream, with what Exotel has told of it and what it has counted by now.
type StreamBeat struct {
	StreamRef
	CallSID, StreamSID string
	ToAgent, ToExotel  StreamCounts
}

// beatStreamsSQL locks the rows in their order before it changes them, as CloseStreams does: neither waits for what the other waits for.
const beatStreamsSQL = `UPDATE stream_sessions s
	SET last_seen_at = clock_timestamp(), stream_sid = coalesce(nullif(b.stream_sid, ''), s.stream_sid),
		call_sid = coalesce(nullif(b.call_sid, ''), s.call_sid),
		frames_to_agent = b.n1, bytes_to_agent = b.n2, dropped_to_agent = b.n3,
		frames_to_exotel = b.n4, bytes_to_exotel = b.n5, dropped_to_exotel = b.n6
	FROM (SELECT u.* FROM stream_sessions l
		JOIN unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
			$8::bigint[], $9::bigint[], $10::bigint[]) u (tenant, id, call_sid, stream_sid, n1, n2, n3, n4, n5, n6)
			ON l.tenant = u.tenant AND l.id = u.id
		WHERE l.ended_at IS NULL ORDER BY l.tenant, l.id FOR NO KEY UPDATE OF l) b
	WHERE s.tenant = b.tenant AND s.id = b.id AND s.ended_at IS NULL
	RETURNING s.tenant, s.id::text, s.close_requested_at IS NOT NULL`

// HeartbeatStreams notes that streams live, in one statement, and returns those that it found alive: whether somebody wants them
// closed. The others have ended, or have no row.
func (d *Dataplane) HeartbeatStreams(ctx context.Context, beats []StreamBeat) (map[StreamRef]bool, error) {
	var tenants, ids, calls, sids []string
	var n countColumns
	for _, b := range beats {
		tenants = append(tenants, b.Tenant)
		ids = append(ids, b.ID)
		calls = append(calls, b.CallSID)
		sids = append(sids, b.StreamSID)
		n.add(b.ToAgent, b.ToExotel)
	}
	alive := make(map[StreamRef]bool, len(beats))
	err := d.inTenants(ctx, distinct(tenants), func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, beatStreamsSQL, tenants, ids, calls, sids, n[0], n[1], n[2], n[3], n[4], n[5])
		if err != nil {
			return err
		}
		var ref StreamRef
		var closing bool
		_, err = pgx.ForEachRow(
			rows, []any{&ref.Tenant, &ref.ID, &closing}, func() error { alive[ref] = closing; return nil },
		)
		return err
	})
	return alive, err
}

// StreamsToClose lists the pod's streams of the tenants that somebody wants closed.
func (d *Dataplane) StreamsToClose(ctx context.Context, tenants []string, pod string) ([]StreamRef, error) {
	return d.streamRefs(ctx, tenants, `SELECT tenant, id::text FROM stream_sessions
		WHERE pod = $1 AND ended_at IS NULL AND close_requested_at IS NOT NULL LIMIT 1000`, pod)
}

// PodStreams lists the pod's live rows of the tenants, at most limit.
func (d *Dataplane) PodStreams(ctx context.Context, tenants []string, pod string, limit int) ([]StreamRef, error) {
	return d.streamRefs(
		ctx,
		tenants,
		`SELECT tenant, id::text FROM stream_sessions WHERE pod = $1 AND ended_at IS NULL LIMIT $2`,
		pod,
		limit,
	)
}

// streamRefs leaves it to row-level security which tenants' rows it reads.
func (d *Dataplane) streamRefs(
	ctx context.Context, tenants []string, sql string, args ...any,
) (list []StreamRef, err error) {
	if len(tenants) == 0 {
		return nil, nil
	}
	err = d.inTenants(ctx, tenants, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[StreamRef])
		return err
	})
	return list, err
}

// ReapStreams ends sessions of the tenants that were not seen for so long, at most limit, and returns how many. ran is false when
// another pod is at it.
func (d *Dataplane) ReapStreams(
	ctx context.Context, tenants []string, unseen time.Duration, limit int,
) (ended int, ran bool, err error) {
	if len(tenants) == 0 {
		return 0, true, nil
	}
	err = d.inTenants(ctx, tenants, func(tx pgx.Tx) error {
		if err := tx.QueryRow(
			ctx, `SELECT pg_try_advisory_xact_lock(hashtextextended('caly.streams.reap', 0))`,
		).Scan(&ran); err != nil ||
			!ran {
			return err
		}
		return tx.QueryRow(
			ctx,
			`WITH ended AS (UPDATE stream_sessions s SET ended_at = now(), end_reason = '`+reason.StreamOrphaned+`'
				FROM (SELECT tenant, id FROM stream_sessions WHERE ended_at IS NULL
					AND last_seen_at < now() - $1::interval
					LIMIT $2 FOR UPDATE SKIP LOCKED) dead
				WHERE s.tenant = dead.tenant AND s.id = dead.id RETURNING s.*),
				`+lostCapturesSQL+` SELECT count(*) FROM ended`,
			unseen, limit,
		).Scan(&ended)
	})
	return ended, ran, err
}

func distinct(list []string) []string {
	seen := make(map[string]bool, len(list))
	var out []string
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// maxSID bounds what Exotel calls a call or a stream: the column's bound, in characters; theirs have 32.
const maxSID = 128

// BoundedSID makes text that a column takes of what somebody sent.
func BoundedSID(s string) string {
	out := make([]rune, 0, min(len(s), maxSID))
	for _, r := range s {
		if len(out) == maxSID {
			break
		}
		if r == 0 {
			continue // PostgreSQL knows no such character
		}
		out = append(out, r) // invalid UTF-8 comes as U+FFFD
	}
	return string(out)
}
