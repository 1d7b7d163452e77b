package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// UnreadCall stands for the call's id in an event that could not be read.
const UnreadCall = "unknown"

// maxListed bounds one answer of Events.
const maxListed = 1000

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
