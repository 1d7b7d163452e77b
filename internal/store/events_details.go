package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/reason"
)

// details are what few events of a batch have, by column, as caly_add_details takes them.
type details struct {
	tenant, unread              []string
	dedup                       [][]byte
	seconds                     []int32
	recEvent                    []int32 // counted from 1
	recID, recURL, recRejection []string
}

// newDetails returns details of no event. No column is nil, since that would be NULL.
func newDetails() details {
	return details{
		recEvent:     []int32{},
		recID:        []string{},
		recURL:       []string{},
		recRejection: []string{},
	}
}

// hasDetails reports whether an event has anything that caly_add_details stores.
func (e *Event) hasDetails() bool {
	if len(e.Unread) > 0 || e.Call.RecordingSeconds > 0 {
		return true
	}
	for i := range e.Recordings {
		if e.Recordings[i].Rejected != "" {
			return true
		}
	}
	return false
}

// add appends the details of one event. The position in the arrays links its recordings to it.
func (d *details) add(e *Event) {
	d.tenant = append(d.tenant, e.Tenant)
	d.dedup = append(d.dedup, e.DedupKey[:])
	d.unread = append(d.unread, unreadJSON(e.Unread))
	d.seconds = append(d.seconds, int32(min(e.Call.RecordingSeconds, 1<<30))) //nolint:gosec // bounded here
	n := int32(len(d.tenant))                                                 //nolint:gosec // a batch is short
	for i := range e.Recordings {
		if newRecording := &e.Recordings[i]; newRecording.Rejected != "" {
			d.recEvent = append(d.recEvent, n)
			d.recID = append(d.recID, newRecording.ID)
			d.recURL = append(d.recURL, newRecording.SourceURL)
			d.recRejection = append(d.recRejection, newRecording.Rejected)
		}
	}
}

// unreadJSON is empty if all fields were read.
func unreadJSON(unread []Unread) string {
	if len(unread) == 0 {
		return ""
	}
	text, err := json.Marshal(unread)
	if err != nil {
		return "" // cannot happen: they are strings
	}
	return string(text)
}

// arguments returns the arguments of caly_add_details.
func (d *details) arguments() arguments {
	return arguments{
		{"p_tenant", d.tenant},
		{"p_dedup", d.dedup},
		{"p_unread", d.unread},
		{"p_seconds", d.seconds},
		{"p_rec_event", d.recEvent},
		{"p_rec_id", d.recID},
		{"p_rec_url", d.recURL},
		{"p_rec_reason", d.recRejection},
	}
}

// PartialEvents counts, by tenant, the events since a time with fields that could not be read or are rejected, each
// up to a limit.
func (d *Operator) PartialEvents(
	ctx context.Context, tenants []string, since time.Time, limit int,
) (map[string]int, error) {
	rows, err := d.pool.Query(ctx, `SELECT t.id, (SELECT count(*) FROM (SELECT FROM call_events e
			WHERE e.tenant = t.id AND e.received_at >= $2 AND e.unread IS NOT NULL LIMIT $3) partial)::int
		FROM unnest($1::text[]) AS t(id)`, tenants, since, limit)
	if err != nil {
		return nil, explain(err)
	}
	counts := make(map[string]int, len(tenants))
	var tenant string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&tenant, &n}, func() error {
		counts[tenant] = n
		return nil
	})
	return counts, explain(err)
}

// requeueAllowed queues recordings that were rejected when they were named first and are allowed now. It comes before
// the event is applied: a recording in the queue gives its place to no other. One that lost its place stays rejected.
func requeueAllowed(ctx context.Context, tx pgx.Tx, e *Event, named []NewRecording) error {
	var ids []string
	for _, r := range named {
		if r.Rejected == "" {
			ids = append(ids, r.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
		WITH places AS (SELECT recording_ids FROM calls WHERE tenant = $1 AND call_sid = $4 FOR UPDATE),
		allowed AS (DELETE FROM recording_history
			WHERE tenant = $1 AND id = ANY ($2) AND id IN (SELECT unnest(recording_ids) FROM places)
				AND state = 'failed' AND last_error_code = $3 RETURNING *)
		INSERT INTO recordings (tenant, id, call_sid, source_url, has_view, created_at)
			SELECT tenant, id, call_sid, source_url, has_view, created_at FROM allowed ON CONFLICT DO NOTHING`,
		e.Tenant, ids, reason.SourceRejected, e.CallSID)
	return err
}
