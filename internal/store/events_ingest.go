package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// Ingest keeps an event and applies it, as IngestBatch does.
func (d *common) Ingest(ctx context.Context, e Event) (Outcome, error) {
	outcomes, err := d.IngestBatch(ctx, []Event{e})
	if err != nil {
		return 0, err
	}
	return outcomes[0], nil
}

// IngestBatch stores events and applies them, in one transaction and one round trip, and returns the outcome of each.
// A duplicate has no effect, and a trace that PostgreSQL rejects is left out in a second round trip. After an error
// nothing is known to be committed: the senders must be asked to retry, and a repeat is harmless. A *ServerError may be
// the fault of a single event; ErrUnavailable is not.
func (d *common) IngestBatch(ctx context.Context, events []Event) ([]Outcome, error) {
	b := newBatch(len(events))
	place := make([]int, len(events)) // of each event in the batch
	first := make(map[batchKey]int, len(events))
	for i := range events {
		k := batchKey{events[i].Tenant, events[i].DedupKey}
		at, seen := first[k]
		if !seen {
			at = len(b.tenant)
			first[k] = at
			b.add(&events[i])
		}
		place[i] = at
	}
	got, err := d.ingest(ctx, b)
	var rejected *ServerError
	if len(b.traces.tenant) > 0 && errors.As(explain(err), &rejected) {
		b.traces = traces{} // a trace must not cost an event or its recordings, whichever statement was rejected
		got, err = d.ingest(ctx, b)
	}
	if err != nil {
		return nil, explain(err)
	}
	return spread(got, place, events, b), nil
}

// ingest runs the statement of a batch, with its details and traces in the same transaction and round trip.
func (d *common) ingest(ctx context.Context, b *batch) (outcomes []int16, err error) {
	if len(b.details.tenant) == 0 && len(b.traces.tenant) == 0 {
		return outcomes, d.pool.QueryRow(ctx, ingestBatch, b.ingested().values()...).Scan(&outcomes)
	}
	var trip pgx.Batch
	trip.Queue(ingestBatch, b.ingested().values()...).QueryRow(func(row pgx.Row) error { return row.Scan(&outcomes) })
	if len(b.details.tenant) > 0 {
		trip.Queue(addDetails, b.details.arguments().values()...)
	}
	if len(b.traces.tenant) > 0 {
		trip.Queue(addTraces, b.traces.arguments().values()...)
	}
	return outcomes, d.pool.SendBatch(ctx, &trip).Close()
}

type batchKey struct {
	tenant string
	dedup  [32]byte
}

// spread gives each event its outcome. Of deliveries of one event in one batch the first is the event, the others duplicates.
func spread(got []int16, place []int, events []Event, b *batch) []Outcome {
	outcomes := make([]Outcome, len(place))
	taken := make([]bool, len(got))
	for i, at := range place {
		switch {
		case !taken[at]:
			outcomes[i] = Outcome(got[at])
		case events[i].Kind != b.kind[at]:
			outcomes[i] = Replayed
		default:
			outcomes[i] = Duplicate
		}
		taken[at] = true
	}
	return outcomes
}

// Enqueue queues a recording as an event that names it would. It reports whether the recording is new.
func (d *Operator) Enqueue(ctx context.Context, tenant, callSID string, r NewRecording) (created bool, err error) {
	err = d.pool.QueryRow(ctx, `SELECT caly_add_recording($1,$2,$3,$4,$5)`,
		tenant, callSID, r.ID, r.SourceURL, timeOrNil(r.AvailableAt)).Scan(&created)
	return created, explain(err)
}

// timeOrNil returns nil for the zero time, which PostgreSQL stores as NULL.
func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
