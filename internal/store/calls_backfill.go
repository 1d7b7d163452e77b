package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/outcome"
)

// Known is what is known of a call.
type Known struct {
	// Terminal is true if Exotel said how the whole call ended, or if its parties talked. What only legs said, or an
	// older version stored, may be wrong.
	Terminal bool
	// Ended reports whether the call's end is known.
	Ended bool
	// Dead reports whether a part of the answer of Call Details was stored as a dead event, which a person applies.
	Dead bool
	// RecordingIDs are all that were ever queued for it.
	RecordingIDs []string
}

// KnownCalls returns what is known of a tenant's calls. Unknown calls are absent.
func (d *Operator) KnownCalls(ctx context.Context, tenant string, callSIDs []string) (map[string]Known, error) {
	rows, err := d.pool.Query(ctx, `
		WITH asked AS (SELECT DISTINCT unnest($2::text[]) AS call_sid),
		dead AS (SELECT DISTINCT e.call_sid FROM asked a JOIN call_events e ON e.tenant = $1 AND e.call_sid = a.call_sid
			WHERE e.source = 'backfill' AND e.dead_reason IS NOT NULL)
		SELECT a.call_sid, coalesce(c.state = $4 OR c.whole_weight >= $3, false), c.ended_at IS NOT NULL,
			d.call_sid IS NOT NULL, coalesce(c.recording_ids, '{}')
		FROM asked a LEFT JOIN calls c ON c.tenant = $1 AND c.call_sid = a.call_sid LEFT JOIN dead d ON d.call_sid = a.call_sid
		WHERE c.call_sid IS NOT NULL OR d.call_sid IS NOT NULL`, tenant, callSIDs, outcome.EndKnown, CallCompleted)
	if err != nil {
		return nil, explain(err)
	}
	known := map[string]Known{}
	var sid string
	var k Known
	_, err = pgx.ForEachRow(rows, []any{&sid, &k.Terminal, &k.Ended, &k.Dead, &k.RecordingIDs}, func() error {
		known[sid] = k
		k.RecordingIDs = nil
		return nil
	})
	return known, explain(err)
}

// Suspect is a call that should have ended by now, without an event that reports the end.
type Suspect struct {
	CallSID string
	// StartedAt is when it started; where that is not known, when it was first heard of.
	StartedAt time.Time
}

// unended is the condition of the index calls_unended, as the planner has to find it: nobody told of the call's end,
// though a leg may have ended.
var unended = fmt.Sprintf("(state < 4 OR (state > 4 AND whole_weight < %d))", outcome.EndKnown)

// SuspectQuery selects suspects of a tenant.
type SuspectQuery struct {
	// From and To bound the start of the call. To is exclusive.
	From, To time.Time
	// After is the last one of the page before; zero for the first page.
	After Suspect
	Limit int
}

// Suspects lists the calls of a tenant without a terminal event, oldest first.
func (d *Operator) Suspects(ctx context.Context, tenant string, q SuspectQuery) ([]Suspect, error) {
	rows, err := d.pool.Query(ctx, `SELECT call_sid, coalesce(started_at, created_at) FROM calls
		WHERE tenant = $1 AND `+unended+`
			AND coalesce(started_at, created_at) >= $2 AND coalesce(started_at, created_at) < $3
			AND (coalesce(started_at, created_at), call_sid) > ($4, $5)
		ORDER BY coalesce(started_at, created_at), call_sid LIMIT $6`,
		tenant, q.From, q.To, q.After.StartedAt, q.After.CallSID, q.Limit)
	if err != nil {
		return nil, explain(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Suspect])
	return list, explain(err)
}
