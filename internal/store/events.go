package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/reason"
)

// UnreadCall stands for the call's id in an event that could not be read.
const UnreadCall = "unknown"

// maxListed bounds one answer of Events.
const maxListed = 1000

// maxCounted bounds the dead events that are counted.
const maxCounted = 100_000

// Which of the events to list.
type Which int

// Which events.
const (
	// DeadEvents selects the events that could not be applied.
	DeadEvents Which = iota
	// AllEvents selects every event.
	AllEvents
	// PartialEvents are those with fields that could not be read or are rejected. Reason is that of a field.
	PartialEvents
)

// EventFilter chooses events. Zero fields choose all.
type EventFilter struct {
	Which
	Tenant, CallSID, Reason string
	// Since and Until bound when they were received; Until is not in it.
	Since, Until time.Time
	// Before is the id that all of them are below: the last one of the page before.
	Before int64
	// Limit of the page, at most and by default 1000.
	Limit int
}

// KeptEvent is an event as it is kept.
type KeptEvent struct {
	ID                                               int64
	Tenant, CallSID, Kind, EventType, Source, Reason string // Reason is why it is dead, empty once it is applied
	ReceivedAt                                       time.Time
	ContentType, Query                               string
	CoversQuery, CoversBody                          bool
	// Unread are the fields that could not be read or are rejected.
	Unread []Unread
	// Size of the request's body.
	Size int
	// Raw is that body. Lists leave it out.
	Raw []byte
}

const eventColumns = `id, tenant, call_sid, kind, event_type, source, coalesce(dead_reason, ''), received_at,
	content_type, query, covered, length(raw), unread`

// Events lists events, the newest first, without their bodies.
func (d *Operator) Events(ctx context.Context, f EventFilter) ([]KeptEvent, error) {
	where, args := f.sql()
	limit := maxListed
	if f.Limit > 0 {
		limit = min(f.Limit, maxListed)
	}
	rows, err := d.pool.Query(
		ctx,
		fmt.Sprintf(`SELECT %s, ''::bytea FROM call_events%s ORDER BY id DESC LIMIT %d`, eventColumns, where, limit),
		args...)
	if err != nil {
		return nil, explain(err)
	}
	list, err := pgx.CollectRows(rows, scanEvent)
	return list, explain(err)
}

// sql is the filter as a WHERE clause: only what is asked for, so that the planner sees which index fits.
func (f EventFilter) sql() (where string, args []any) {
	var terms []string
	add := func(term string, arg any) {
		args = append(args, arg)
		terms = append(terms, fmt.Sprintf(term, len(args)))
	}
	byReason := "dead_reason = $%d"
	switch f.Which {
	case DeadEvents:
		terms = append(terms, "dead_reason IS NOT NULL")
	case PartialEvents:
		terms = append(terms, "unread IS NOT NULL")
		byReason = "unread @> jsonb_build_array(jsonb_build_object('reason', $%d::text))"
	case AllEvents:
	}
	for _, c := range []struct{ term, value string }{{"tenant = $%d", f.Tenant}, {"call_sid = $%d", f.CallSID},
		{byReason, f.Reason}} {
		if c.value != "" {
			add(c.term, c.value)
		}
	}
	if !f.Since.IsZero() {
		add("received_at >= $%d", f.Since)
	}
	if !f.Until.IsZero() {
		add("received_at < $%d", f.Until)
	}
	if f.Before > 0 {
		add("id < $%d", f.Before)
	}
	if len(terms) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(terms, " AND "), args
}

// Event reads one event with its body.
func (d *Operator) Event(ctx context.Context, id int64) (KeptEvent, error) {
	rows, err := d.pool.Query(ctx, `SELECT `+eventColumns+`, raw FROM call_events WHERE id = $1`, id)
	if err != nil {
		return KeptEvent{}, explain(err)
	}
	keptEvent, err := pgx.CollectExactlyOneRow(rows, scanEvent)
	return keptEvent, explain(err)
}

// scanEvent reads a stored event. A row without the covered column covers its body, or its query if it has no body.
func scanEvent(row pgx.CollectableRow) (e KeptEvent, err error) {
	var covered int
	err = row.Scan(&e.ID, &e.Tenant, &e.CallSID, &e.Kind, &e.EventType, &e.Source, &e.Reason, &e.ReceivedAt,
		&e.ContentType, &e.Query, &covered, &e.Size, &e.Unread, &e.Raw)
	if covered == 0 {
		covered = coversQuery
		if e.Size > 0 {
			covered = coversBody
		}
	}
	e.CoversQuery = covered&coversQuery != 0
	e.CoversBody = covered&coversBody != 0
	return e, err
}

// The bits of the column covered.
const (
	coversQuery = 1
	coversBody  = 2
)

// covered returns the bits of the covered column.
func (e *Event) covered() (bits int16) {
	if e.CoversQuery {
		bits |= coversQuery
	}
	if e.CoversBody {
		bits |= coversBody
	}
	return bits
}

// DeadEvents counts the dead events by reason, each of reason.Dead and reason.DeadOther, up to 100,000 in all. It also
// returns when the oldest came; zero without one. Dead events are found through their own index, so the others cost
// nothing.
func (d *Operator) DeadEvents(ctx context.Context) (counts map[string]int, oldest time.Time, err error) {
	rows, err := d.pool.Query(
		ctx,
		`SELECT CASE WHEN dead_reason = ANY ($1) THEN dead_reason ELSE $2 END, count(*)::int FROM (
		SELECT dead_reason FROM call_events WHERE dead_reason IS NOT NULL ORDER BY tenant, id LIMIT $3) dead GROUP BY 1`,
		reason.Dead(),
		reason.DeadOther,
		maxCounted,
	)
	if err != nil {
		return nil, oldest, explain(err)
	}
	counts = map[string]int{reason.DeadOther: 0}
	for _, r := range reason.Dead() {
		counts[r] = 0
	}
	var why string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&why, &n}, func() error {
		counts[why] = n
		return nil
	})
	if err != nil {
		return nil, oldest, explain(err)
	}
	oldest, err = d.oldestDead(ctx)
	return counts, oldest, err
}

// oldestDead skips through the index from tenant to tenant, one probe each.
func (d *Operator) oldestDead(ctx context.Context) (time.Time, error) {
	var at *time.Time
	err := d.pool.QueryRow(ctx, `
		WITH RECURSIVE t AS (
			(SELECT tenant, received_at FROM call_events WHERE dead_reason IS NOT NULL ORDER BY tenant, id LIMIT 1)
			UNION ALL
			SELECT n.tenant, n.received_at FROM t, LATERAL (SELECT e.tenant, e.received_at FROM call_events e
				WHERE e.dead_reason IS NOT NULL AND e.tenant > t.tenant ORDER BY e.tenant, e.id LIMIT 1) n)
		SELECT min(received_at) FROM t`).Scan(&at)
	if err != nil || at == nil {
		return time.Time{}, explain(err)
	}
	return *at, nil
}
