package store

import (
	"context"
	"time"
)

// Ingest keeps an event and applies it, in one transaction and one round trip. A duplicate has no effect.
// After an error nothing is known to be committed: the sender must be told to come again, and a repeat is harmless.
func (d *DB) Ingest(ctx context.Context, e Event) (Outcome, error) {
	rec := NewRecording{}
	if e.Recording != nil {
		rec = *e.Recording
	}
	var outcome int
	err := d.pool.QueryRow(ctx, `SELECT caly_ingest($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21)`,
		e.Tenant, e.CallSID, e.Kind, e.EventType, e.DedupKey[:], e.Source, e.ContentType, e.Query, nonNil(e.Raw), e.DeadReason,
		int16(e.Call.State), e.Call.Direction, e.Call.From, e.Call.To, timeOrNil(e.Call.StartedAt), timeOrNil(e.Call.EndedAt),
		e.Call.ConversationSeconds, e.Call.CustomField, rec.ID, rec.SourceURL, timeOrNil(rec.AvailableAt)).Scan(&outcome)
	if err != nil {
		return 0, explain(err)
	}
	return Outcome(outcome), nil
}

// Enqueue queues a recording as an event that names it would. It reports whether the recording is new.
func (d *DB) Enqueue(ctx context.Context, tenant, callSID string, r NewRecording) (created bool, err error) {
	err = d.pool.QueryRow(ctx, `SELECT caly_add_recording($1,$2,$3,$4,$5)`,
		tenant, callSID, r.ID, r.SourceURL, timeOrNil(r.AvailableAt)).Scan(&created)
	return created, explain(err)
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
