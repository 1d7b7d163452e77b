package store

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/reason"
)

// DeadReason returns the reason to keep an event dead for, for ingest errors that a repeat does not correct. For other
// errors, which are about the moment, it is empty.
func DeadReason(err error) string {
	var refused *ServerError
	switch {
	case errors.Is(err, ErrTooManyRecordings):
		return reason.DeadTooManyRecordings
	case errors.As(err, &refused) && !passing(refused.Code):
		return reason.DeadRefused
	}
	return ""
}

// passing tells whether a refusal is about the moment, not the event: a transaction rolled back (40) or an object in use (55).
func passing(sqlState string) bool {
	return strings.HasPrefix(sqlState, "40") || strings.HasPrefix(sqlState, "55")
}

// Replay is what became of an event that was applied again.
type Replay struct {
	// Outcome is Applied, Duplicate or Dead.
	Outcome Outcome
	// Reason that it is dead for now or, of a duplicate, that it cannot be applied again.
	Reason string
}

// errDryRun takes back what was tried.
var errDryRun = errors.New("dry run")

// Replay applies a dead or partial event as e now says it, in one transaction, or notes why it is still dead. A partial
// event that e cannot apply stays as it is. Any other event has been applied already, and nothing is done. With dryRun
// all of it is tried and taken back. ErrNotFound when there is no such event.
func (d *Operator) Replay(ctx context.Context, id int64, e Event, dryRun bool) (Replay, error) {
	named := e.Recordings
	replay, err := d.replay(ctx, id, e, named, dryRun)
	if errors.Is(err, ErrTooManyRecordings) {
		e = e.WithoutRecordings()
		replay, err = d.replay(ctx, id, e, named, dryRun)
	}
	if reason := DeadReason(err); reason != "" && e.DeadReason == "" {
		e.DeadReason = reason
		return d.replay(ctx, id, e, nil, dryRun)
	}
	return replay, err
}

// isCode reports whether the server refused a statement with this SQLSTATE.
func isCode(err error, code string) bool {
	var refused *ServerError
	return errors.As(err, &refused) && refused.Code == code
}

// replay tries it once. Named are the recordings of the event. e may lack them, if there are too many.
func (d *Operator) replay(
	ctx context.Context, id int64, e Event, named []NewRecording, dryRun bool,
) (r Replay, err error) {
	err = pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if r, err = replayIn(ctx, tx, id, &e, named); err == nil && dryRun {
			return errDryRun
		}
		return err
	})
	if errors.Is(err, errDryRun) {
		err = nil
	}
	return r, explain(err)
}

// replayIn applies a dead or partial event again, in the caller's transaction. An applied event is left unchanged.
func replayIn(ctx context.Context, tx pgx.Tx, id int64, e *Event, named []NewRecording) (Replay, error) {
	var dead, partial bool
	var callSID string
	var key []byte
	err := tx.QueryRow(ctx, `SELECT dead_reason IS NOT NULL, unread IS NOT NULL, call_sid, dedup_key
		FROM call_events WHERE id = $1 AND tenant = $2 FOR UPDATE`, id, e.Tenant).Scan(&dead, &partial, &callSID, &key)
	switch {
	case err != nil:
		return Replay{}, err
	case !dead && !partial:
		return Replay{Outcome: Duplicate}, nil
	case e.DeadReason != "" && !dead: // what was applied of a partial event stays applied
		return Replay{Outcome: Duplicate, Reason: e.DeadReason}, nil
	case e.DeadReason != "":
		_, err := tx.Exec(ctx, `UPDATE call_events SET dead_reason = $2 WHERE id = $1 AND dead_reason IS NOT NULL`,
			id, e.DeadReason)
		return Replay{Outcome: Dead, Reason: e.DeadReason}, err
	}
	if callSID == UnreadCall { // it can be read at last; its key stays, so that a late delivery is still a duplicate
		_, err := tx.Exec(ctx, `UPDATE call_events SET call_sid = $2, event_type = $3 WHERE id = $1`,
			id, e.CallSID, e.EventType)
		if err != nil {
			return Replay{}, err
		}
	}
	e.DedupKey = [32]byte(key)
	if err := requeueAllowed(ctx, tx, e, named); err != nil {
		return Replay{}, err
	}
	return Replay{Outcome: Applied}, applyAgain(ctx, tx, id, e)
}

// applyAgain marks the event as applied, and applies its facts as the ingest does.
func applyAgain(ctx context.Context, tx pgx.Tx, id int64, e *Event) error {
	b := newBatch(1)
	b.add(e)
	_, err := tx.Exec(ctx,
		`UPDATE call_events SET applied_at = now(), dead_reason = NULL, unread = NULL WHERE id = $1`, id)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, applyBatch, b.applied([]int16{int16(Applied)}).values()...)
	if err == nil && len(b.details.tenant) > 0 {
		_, err = tx.Exec(ctx, addDetails, b.details.arguments().values()...)
	}
	return err
}
