package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// CallFilter chooses calls. Zero fields choose all.
type CallFilter struct {
	Page
	// State, if it is not nil.
	State *CallState
	// Direction, exactly as it is stored.
	Direction string
	// From and To are the spellings of a number. A call with one of them is chosen.
	From, To []string
}

// KeptCall is a call as it is kept. Its State is the outcome.
type KeptCall struct {
	SID string
	Call
	// Exotel is the state that Exotel gives the whole call: CallUnknown while only its legs are known.
	Exotel               CallState
	CreatedAt, UpdatedAt time.Time
}

const callColumns = `call_sid, state, (coalesce(whole_weight, 0) & 15)::smallint, direction, from_number,
	to_number, started_at, ended_at, conversation_seconds,
	custom_field, recording_seconds, created_at, updated_at`

// scanCall reads a row of callColumns.
func scanCall(row pgx.CollectableRow) (c KeptCall, err error) {
	err = c.scan(row)
	return c, err
}

// scan reads the columns of callColumns, and those that follow them in the query.
func (c *KeptCall) scan(row pgx.CollectableRow, more ...any) error {
	var started, ended *time.Time
	err := row.Scan(append([]any{&c.SID, &c.State, &c.Exotel, &c.Direction, &c.From, &c.To, &started, &ended,
		&c.ConversationSeconds, &c.CustomField, &c.RecordingSeconds, &c.CreatedAt, &c.UpdatedAt}, more...)...)
	c.StartedAt = orZero(started)
	c.EndedAt = orZero(ended)
	return err
}

// scanCallWithLegs reads callColumns and the legs.
func scanCallWithLegs(row pgx.CollectableRow) (c callWithAll, err error) {
	var legs []byte
	if err = c.scan(row, &legs); err == nil {
		c.Legs, err = legsOf(legs)
	}
	return c, err
}

// Calls lists a tenant's calls, the newest first, and tells whether there are more.
func (d *Dataplane) Calls(ctx context.Context, tenant string, f CallFilter) (list []KeptCall, more bool, err error) {
	w := &filter{}
	w.add("tenant = $%d", tenant)
	if f.State != nil {
		w.add("state = $%d", *f.State)
	}
	w.match("direction", f.Direction)
	w.matchAny("from_number", f.From)
	w.matchAny("to_number", f.To)
	w.page("created_at", "call_sid", f.Page)
	sql := fmt.Sprintf(
		`SELECT %s FROM calls WHERE %s ORDER BY created_at DESC, call_sid DESC LIMIT %d`, callColumns, w, f.rows(),
	)
	err = d.oneTrip(ctx, tenant, func(b *pgx.Batch) {
		b.Queue(sql, w.args...).Query(collect(&list, scanCall))
	})
	list, more = cutPage(list, f.Page)
	return list, more, err
}

// callWithAll is a call with what belongs to it.
type callWithAll struct {
	KeptCall
	// Legs in the order in which they were reported.
	Legs []Leg
	// Streams by their ids; without the URLs of their recordings.
	Streams []Stream
	// Recordings, the newest first.
	Recordings []Recording
}

// maxStreams bounds the streams that are shown of a call.
const maxStreams = 200

// CallBySID reads a call of a tenant. ErrNotFound when there is none.
func (d *Dataplane) CallBySID(ctx context.Context, tenant, sid string) (c callWithAll, err error) {
	err = d.oneTrip(ctx, tenant, func(b *pgx.Batch) {
		call := `SELECT ` + callColumns + `, legs FROM calls WHERE tenant = $1 AND call_sid = $2`
		b.Queue(call, tenant, sid).Query(func(rows pgx.Rows) (err error) {
			c, err = pgx.CollectExactlyOneRow(rows, scanCallWithLegs)
			return err
		})
		b.Queue(
			fmt.Sprintf(
				`SELECT stream_sid, status, disconnected_by, error, detailed_status, duration_seconds FROM call_streams
			WHERE tenant = $1 AND call_sid = $2 ORDER BY stream_sid LIMIT %d`,
				maxStreams,
			),
			tenant, sid,
		).Query(collect(&c.Streams, scanStream))
		// A call knows the ids of its recordings, and those are indexed.
		b.Queue(`WITH k AS (SELECT unnest(recording_ids) AS id FROM calls WHERE tenant = $1 AND call_sid = $2
			UNION ALL (SELECT id FROM captures WHERE tenant = $1 AND call_sid = $2 ORDER BY created_at DESC
				LIMIT 16))`+recordingsOf, tenant, sid).
			Query(collect(&c.Recordings, scanRecording))
	})
	return c, err
}

// CallFacts is what became of a call and of its legs.
type CallFacts struct {
	Outcome CallState
	// Legs in the order in which they were reported.
	Legs []Leg
}

// CallFacts reads what became of a call. A call that is not known has no facts.
func (d *Operator) CallFacts(ctx context.Context, tenant, sid string) (f CallFacts, err error) {
	var legs []byte
	err = d.pool.QueryRow(ctx, `SELECT state, legs FROM calls WHERE tenant = $1 AND call_sid = $2`, tenant,
		sid).Scan(&f.Outcome, &legs)
	if errors.Is(err, pgx.ErrNoRows) {
		return f, nil
	}
	if err != nil {
		return f, explain(err)
	}
	f.Legs, err = legsOf(legs)
	return f, err
}

// scanStream reads what is known of a call's stream from events.
func scanStream(row pgx.CollectableRow) (s Stream, err error) {
	err = row.Scan(&s.SID, &s.Status, &s.DisconnectedBy, &s.Error, &s.DetailedStatus, &s.Seconds)
	return s, err
}
