package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/caly-dev/caly/internal/outcome"
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
// A duplicate has no effect. After an error nothing is known to be committed: the senders must be asked to retry, and
// a repeat is harmless. A *ServerError may be the fault of a single event; ErrUnavailable is not.
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
	if err != nil {
		return nil, explain(err)
	}
	return spread(got, place, events, b), nil
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

const ingestBatch = `SELECT caly_ingest_batch($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,
	$24,$25,$26,$27,$28,$29,$30,$31,$32,$33,$34,$35)`

// batch holds events by column, as caly_ingest_batch takes them. A FlatArray is what pgx encodes without reflection.
type batch struct {
	tenant, callSID, kind, eventType, source, contentType, query, dead []string
	dedup, raw                                                         pgtype.FlatArray[[]byte]
	covered, rank                                                      []int16
	whole, legs                                                        []int64 // outcome.Weight
	legFacts                                                           pgtype.FlatArray[[]byte]
	direction, from, to, custom                                        []string
	started, ended                                                     pgtype.FlatArray[*time.Time]
	seconds                                                            []int32

	recEvent      []int32 // counted from 1, as PostgreSQL does
	recID, recURL []string
	recAvailable  pgtype.FlatArray[*time.Time]

	streamEvent                                                                   []int32
	streamSID, streamStatus, streamBy, streamError, streamDetail, streamRecording []string
	streamSeconds                                                                 []int32
	streamWeight                                                                  []int64 // outcome.Weight

	details details
}

// newBatch returns a batch with room for this many events.
func newBatch(events int) *batch {
	b := &batch{
		dedup:    make([][]byte, 0, events),
		raw:      make([][]byte, 0, events),
		legFacts: make([][]byte, 0, events),
		whole:    make([]int64, 0, events),
		legs:     make([]int64, 0, events),
		seconds:  make([]int32, 0, events),
		covered:  make([]int16, 0, events),
		rank:     make([]int16, 0, events),
		started:  make([]*time.Time, 0, events),
		ended:    make([]*time.Time, 0, events),
	}
	for _, column := range []*[]string{&b.tenant, &b.callSID, &b.kind, &b.eventType, &b.source, &b.contentType,
		&b.query, &b.dead, &b.direction, &b.from, &b.to, &b.custom} {
		*column = make([]string, 0, events)
	}
	return b
}

// add appends one event to the arrays of the statement.
func (b *batch) add(e *Event) {
	b.tenant = append(b.tenant, e.Tenant)
	b.callSID = append(b.callSID, e.CallSID)
	b.kind = append(b.kind, e.Kind)
	b.eventType = append(b.eventType, e.EventType)
	b.source = append(b.source, e.Source)
	b.contentType = append(b.contentType, e.ContentType)
	b.query = append(b.query, e.Query)
	b.dead = append(b.dead, e.DeadReason)
	b.dedup = append(b.dedup, e.DedupKey[:])
	b.raw = append(b.raw, nonNil(e.Raw))
	b.covered = append(b.covered, e.covered())
	b.addFacts(e)
	b.direction = append(b.direction, e.Call.Direction)
	b.from = append(b.from, e.Call.From)
	b.to = append(b.to, e.Call.To)
	b.custom = append(b.custom, e.Call.CustomField)
	b.started = append(b.started, timeOrNil(e.Call.StartedAt))
	b.ended = append(b.ended, timeOrNil(e.Call.EndedAt))
	n := int32(len(b.tenant)) //nolint:gosec // a batch is short
	for _, r := range e.Recordings {
		if r.Rejected != "" {
			continue
		}
		b.recEvent = append(b.recEvent, n)
		b.recID = append(b.recID, r.ID)
		b.recURL = append(b.recURL, r.SourceURL)
		b.recAvailable = append(b.recAvailable, timeOrNil(r.AvailableAt))
	}
	if stream := e.Stream; stream != nil {
		b.addStream(n, stream, e.SaidAt)
	}
	if e.hasDetails() {
		b.details.add(e)
	}
}

// addFacts adds what decides the outcome.
func (b *batch) addFacts(e *Event) {
	whole, legs := e.statements()
	b.whole = append(b.whole, int64(whole.Weight()))
	b.legs = append(b.legs, int64(legs))
	b.rank = append(b.rank, outcome.Rank(whole, legs))
	b.seconds = append(b.seconds, int32(min(e.talk(), maxSeconds))) //nolint:gosec // bounded here
	b.legFacts = append(b.legFacts, legFacts(e))
}

// maxSeconds is the greatest duration that the schema has room for, about twelve days.
const maxSeconds = 1<<20 - 1

// addStream appends what the event at this position says of the call's stream.
func (b *batch) addStream(event int32, s *Stream, saidAt time.Time) {
	b.streamWeight = append(b.streamWeight, int64(s.statement(saidAt).Weight()))
	b.streamEvent = append(b.streamEvent, event)
	b.streamSID = append(b.streamSID, s.SID)
	b.streamStatus = append(b.streamStatus, s.Status)
	b.streamBy = append(b.streamBy, s.DisconnectedBy)
	b.streamError = append(b.streamError, s.Error)
	b.streamDetail = append(b.streamDetail, s.DetailedStatus)
	b.streamRecording = append(b.streamRecording, s.RecordingURL)
	b.streamSeconds = append(b.streamSeconds, int32(min(s.Seconds, 1<<30))) //nolint:gosec // bounded here
}

// args returns the arguments in the order of the statement.
func (b *batch) args() []any {
	received := []any{
		b.tenant,
		b.callSID,
		b.kind,
		b.eventType,
		b.dedup,
		b.source,
		b.contentType,
		b.query,
		b.raw,
		b.dead,
		b.covered,
	}
	return append(received, b.said()...)
}

// said is what the events say of calls, recordings and streams.
func (b *batch) said() []any {
	return []any{
		b.rank,
		b.whole,
		b.legs,
		b.direction,
		b.from,
		b.to,
		b.started,
		b.ended,
		b.seconds,
		b.custom,
		orEmpty(b.recEvent),
		orEmpty(b.recID),
		orEmpty(b.recURL),
		orEmpty(b.recAvailable),
		orEmpty(
			b.streamEvent,
		),
		orEmpty(b.streamSID),
		orEmpty(b.streamStatus),
		orEmpty(b.streamSeconds),
		orEmpty(b.streamBy),
		orEmpty(b.streamError),
		orEmpty(b.streamDetail),
		orEmpty(b.streamRecording),
		orEmpty(b.streamWeight),
		b.legFacts,
	}
}

// orEmpty makes an empty array of what would be NULL.
func orEmpty[S ~[]T, T any](s S) S {
	if s == nil {
		return S{}
	}
	return s
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

// nonNil returns an empty slice for nil, because the column is NOT NULL.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
