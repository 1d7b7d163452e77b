package store

import (
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/caly-dev/caly/internal/outcome"
)

// batch holds events by column. Each column is an argument of caly_ingest_batch. A FlatArray is what pgx encodes
// without reflection.
//
// One array of a composite type was measured in place of the columns. PostgreSQL took 1.5 times the CPU time for 16
// events and the same for 1 and 64, and each connection had to read the types first. With jsonb, 64 events took a
// quarter more.
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
	traces  traces
}

// newBatch returns a batch with room for this many events. No column is nil, since that would be NULL.
func newBatch(events int) *batch {
	b := &batch{
		dedup:         make([][]byte, 0, events),
		raw:           make([][]byte, 0, events),
		legFacts:      make([][]byte, 0, events),
		whole:         make([]int64, 0, events),
		legs:          make([]int64, 0, events),
		seconds:       make([]int32, 0, events),
		covered:       make([]int16, 0, events),
		rank:          make([]int16, 0, events),
		started:       make([]*time.Time, 0, events),
		ended:         make([]*time.Time, 0, events),
		recEvent:      []int32{},
		recAvailable:  []*time.Time{},
		streamEvent:   []int32{},
		streamSeconds: []int32{},
		streamWeight:  []int64{},
		details:       newDetails(),
	}
	for _, column := range []*[]string{&b.tenant, &b.callSID, &b.kind, &b.eventType, &b.source, &b.contentType,
		&b.query, &b.dead, &b.direction, &b.from, &b.to, &b.custom} {
		*column = make([]string, 0, events)
	}
	for _, column := range []*[]string{&b.recID, &b.recURL, &b.streamSID, &b.streamStatus, &b.streamBy,
		&b.streamError, &b.streamDetail, &b.streamRecording} {
		*column = []string{}
	}
	return b
}

func (b *batch) add(e *Event) {
	b.tenant = append(b.tenant, e.Tenant)
	b.callSID = append(b.callSID, e.CallSID)
	b.kind = append(b.kind, e.Kind)
	b.eventType = append(b.eventType, e.EventType)
	b.dedup = append(b.dedup, e.DedupKey[:])
	b.source = append(b.source, e.Source)
	b.contentType = append(b.contentType, e.ContentType)
	b.query = append(b.query, e.Query)
	b.raw = append(b.raw, nonNil(e.Raw))
	b.dead = append(b.dead, e.DeadReason)
	b.covered = append(b.covered, e.covered())
	b.addFacts(e)
	n := int32(len(b.tenant)) //nolint:gosec // a batch is short
	for i := range e.Recordings {
		b.addRecording(n, &e.Recordings[i])
	}
	if stream := e.Stream; stream != nil {
		b.addStream(n, stream, e.SaidAt)
	}
	if e.Traceparent != "" {
		b.traces.add(e)
	}
	if e.hasDetails() {
		b.details.add(e)
	}
}

// addFacts adds what the event says of its call.
func (b *batch) addFacts(e *Event) {
	whole, legs := e.statements()
	b.rank = append(b.rank, outcome.Rank(whole, legs))
	b.whole = append(b.whole, int64(whole.Weight()))
	b.legs = append(b.legs, int64(legs))
	b.direction = append(b.direction, e.Call.Direction)
	b.from = append(b.from, e.Call.From)
	b.to = append(b.to, e.Call.To)
	b.started = append(b.started, timeOrNil(e.Call.StartedAt))
	b.ended = append(b.ended, timeOrNil(e.Call.EndedAt))
	b.seconds = append(b.seconds, int32(min(e.talk(), maxSeconds))) //nolint:gosec // bounded here
	b.custom = append(b.custom, e.Call.CustomField)
	b.legFacts = append(b.legFacts, legFacts(e))
}

// maxSeconds is the greatest duration that the schema has room for, about twelve days.
const maxSeconds = 1<<20 - 1

func (b *batch) addRecording(event int32, r *NewRecording) {
	if r.Rejected != "" {
		return
	}
	b.recEvent = append(b.recEvent, event)
	b.recID = append(b.recID, r.ID)
	b.recURL = append(b.recURL, r.SourceURL)
	b.recAvailable = append(b.recAvailable, timeOrNil(r.AvailableAt))
}

func (b *batch) addStream(event int32, s *Stream, saidAt time.Time) {
	b.streamEvent = append(b.streamEvent, event)
	b.streamSID = append(b.streamSID, s.SID)
	b.streamStatus = append(b.streamStatus, s.Status)
	b.streamSeconds = append(b.streamSeconds, int32(min(s.Seconds, 1<<30))) //nolint:gosec // bounded here
	b.streamBy = append(b.streamBy, s.DisconnectedBy)
	b.streamError = append(b.streamError, s.Error)
	b.streamDetail = append(b.streamDetail, s.DetailedStatus)
	b.streamRecording = append(b.streamRecording, s.RecordingURL)
	b.streamWeight = append(b.streamWeight, int64(s.statement(saidAt).Weight()))
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// The statements of a batch.
var (
	ingestBatch = call("caly_ingest_batch", newBatch(0).ingested())
	applyBatch  = call("caly_apply_batch", newBatch(0).applied(nil))
	addDetails  = call("caly_add_details", new(details).arguments())
	addTraces   = call("caly_add_traces", new(traces).arguments())
)

// ingested returns the arguments of caly_ingest_batch, which stores events and applies them.
func (b *batch) ingested() arguments {
	return slices.Concat(b.calls(), b.stored(), b.said())
}

// applied returns the arguments of caly_apply_batch, which applies those events whose outcome is Applied.
func (b *batch) applied(outcomes []int16) arguments {
	return slices.Concat(arguments{{"p_outcome", outcomes}}, b.calls(), b.said())
}

// calls names the events' calls.
func (b *batch) calls() arguments {
	return arguments{
		{"p_tenant", b.tenant},
		{"p_call_sid", b.callSID},
	}
}

// stored is what is only stored.
func (b *batch) stored() arguments {
	return arguments{
		{"p_kind", b.kind},
		{"p_event_type", b.eventType},
		{"p_dedup", b.dedup},
		{"p_source", b.source},
		{"p_content_type", b.contentType},
		{"p_query", b.query},
		{"p_raw", b.raw},
		{"p_dead", b.dead},
		{"p_covered", b.covered},
	}
}

// said is what the events say of calls, recordings and streams.
func (b *batch) said() arguments {
	return arguments{
		{"p_rank", b.rank},
		{"p_whole", b.whole},
		{"p_legs", b.legs},
		{"p_direction", b.direction},
		{"p_from", b.from},
		{"p_to", b.to},
		{"p_started", b.started},
		{"p_ended", b.ended},
		{"p_seconds", b.seconds},
		{"p_custom", b.custom},
		{"p_rec_event", b.recEvent},
		{"p_rec_id", b.recID},
		{"p_rec_url", b.recURL},
		{"p_rec_available", b.recAvailable},
		{"p_stream_event", b.streamEvent},
		{"p_stream_sid", b.streamSID},
		{"p_stream_status", b.streamStatus},
		{"p_stream_seconds", b.streamSeconds},
		{"p_stream_by", b.streamBy},
		{"p_stream_error", b.streamError},
		{"p_stream_detail", b.streamDetail},
		{"p_stream_url", b.streamRecording},
		{"p_stream_weight", b.streamWeight},
		{"p_leg_facts", b.legFacts},
	}
}
