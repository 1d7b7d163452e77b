package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Times of URL redactions.
const (
	// redactionPasses is how often the events of a call are looked at, and redactAgain is the time between two
	// passes. An event may come after the upload: repeated by Exotel within 20 minutes, or found by backfill, by
	// default within a day.
	redactionPasses = 3
	redactAgain     = 13 * time.Hour
	// redactedEvents is the number of events that are read at once.
	redactedEvents = 20
)

// RawEvent is an event as it was received.
type RawEvent struct {
	ContentType, Query string
	Raw                []byte
}

// Redactor removes the query of a URL from an event, and reports whether the event had it. source is the URL without
// it.
type Redactor func(e RawEvent, source string) (redacted RawEvent, changed bool)

// redaction is a row of url_redactions.
type redaction struct {
	Tenant, CallSID, Source string
	Passes                  int
}

// RedactURLs removes the queries of the source URLs of at most limit uploaded recordings from the events and streams of
// their calls, and returns the number of events that it changed. Only the operator may.
func (d *Operator) RedactURLs(ctx context.Context, limit int, redact Redactor) (events int64, err error) {
	for range limit {
		n, found, err := d.redactNext(ctx, redact)
		events += n
		if err != nil || !found {
			return events, explain(err)
		}
	}
	return events, nil
}

// redactNext does the redaction that has been due for longest, in one transaction.
func (d *Operator) redactNext(ctx context.Context, redact Redactor) (events int64, found bool, err error) {
	err = pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT tenant, call_sid, source, passes FROM url_redactions WHERE due_at <= now()
			ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED`)
		if err != nil {
			return err
		}
		due, err := pgx.CollectRows(rows, pgx.RowToStructByPos[redaction])
		if err != nil || len(due) == 0 {
			return err
		}
		found = true
		if events, err = redactEvents(ctx, tx, due[0], redact); err != nil {
			return err
		}
		return due[0].settle(ctx, tx)
	})
	return events, found, err
}

// redactEvents redacts the stored requests of one call, page by page, and returns how many changed.
func redactEvents(ctx context.Context, tx pgx.Tx, r redaction, redact Redactor) (changed int64, err error) {
	type stored struct {
		ID int64
		RawEvent
	}
	for after := int64(0); ; {
		rows, err := tx.Query(ctx, `SELECT id, content_type, query, raw FROM call_events
			WHERE tenant = $1 AND call_sid = $2 AND id > $3 ORDER BY id LIMIT $4`,
			r.Tenant, r.CallSID, after, redactedEvents)
		if err != nil {
			return changed, err
		}
		page, err := pgx.CollectRows(rows, pgx.RowToStructByPos[stored])
		if err != nil {
			return changed, err
		}
		for _, e := range page {
			after = e.ID
			redacted, differs := redact(e.RawEvent, r.Source)
			if !differs {
				continue
			}
			changed++
			if _, err := tx.Exec(ctx, `UPDATE call_events SET query = $2, raw = $3 WHERE id = $1`,
				e.ID, redacted.Query, redacted.Raw); err != nil {
				return changed, err
			}
		}
		if len(page) < redactedEvents {
			return changed, nil
		}
	}
}

// settle redacts the streams of the call, and removes the row after the last pass.
func (r redaction) settle(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `UPDATE call_streams SET recording_url = split_part(recording_url, '?', 1)
		WHERE tenant = $1 AND call_sid = $2 AND recording_url LIKE '%?%'`, r.Tenant, r.CallSID)
	if err != nil {
		return err
	}
	if r.Passes+1 >= redactionPasses {
		_, err = tx.Exec(ctx, `DELETE FROM url_redactions WHERE tenant = $1 AND call_sid = $2 AND source = $3`,
			r.Tenant, r.CallSID, r.Source)
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE url_redactions SET passes = passes + 1, due_at = now() + $4::interval
		WHERE tenant = $1 AND call_sid = $2 AND source = $3`, r.Tenant, r.CallSID, r.Source, redactAgain)
	return err
}
