// Package store is Caly's PostgreSQL: call events, calls and recordings. All SQL of the product lives here and in migrations.
//
// Three ways in, one per component and database role: Ingest for the data plane (role caly_dataplane, bound to one tenant
// per transaction by row-level security), Operator (role caly_operator) and Queue for upload pods (one role per tenant).
package store

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caly-dev/caly/internal/dbconn"
	"github.com/caly-dev/caly/internal/outcome"
	"github.com/caly-dev/caly/internal/reason"
)

// RecordingState is the state of a recording's row.
type RecordingState string

// States of a recording. Pending and Leased live in the queue, Uploaded and Failed in the history.
const (
	StatePending  RecordingState = "pending"
	StateLeased   RecordingState = "leased"
	StateUploaded RecordingState = "uploaded"
	StateFailed   RecordingState = "failed"
)

// Event is one authenticated webhook, parsed, ready to be applied in one transaction.
type Event struct {
	// Tenant is namespace/name.
	Tenant string
	// Kind is "status" or "passthru".
	Kind string
	// CallSID of Exotel.
	CallSID string
	// EventType as sent: terminal, answered, ringing, or empty.
	EventType string
	// DedupKey is the same for every delivery of one event, and for no other: a SHA-256.
	DedupKey [32]byte
	// Source is "webhook" or "backfill".
	Source string
	// ContentType and Raw are the request as received.
	ContentType string
	Raw         []byte
	// Query is the request's raw query, secrets redacted.
	Query string
	// CoversQuery and CoversBody say what of the request its verifier covered: when it is applied again, nothing else is read.
	// Neither stands for the body or, without one, the query.
	CoversQuery, CoversBody bool
	// Call is what the event says of the call. Its State and ConversationSeconds are statements about the whole call.
	Call Call
	// SaidAt is when that was said, the same in every delivery of the event; zero if the event names no such time.
	SaidAt time.Time
	// Stage is the state that a step of the call's flow saw while the call went on. It counts as a leg's.
	Stage CallState
	// Assumed is true if the event ends the call and its status says no result.
	Assumed bool
	// Legs are what the event says of legs, dial attempts and agents.
	Legs []Leg
	// Recordings that the event names.
	Recordings []NewRecording
	// Stream is set when the event tells of an audio stream's end.
	Stream *Stream
	// Unread are the fields of the event that are not in Call, Recordings or Stream, since they could not be read or
	// are rejected.
	Unread []Unread
	// DeadReason is set when the event cannot be applied: it is kept and counted, and neither Call, Recordings nor Stream is applied.
	DeadReason string
	// Traceparent is the span that stores the event, for the recordings that the event names; empty if it is not traced.
	Traceparent string
}

// WithoutRecordings returns an event that names one recording more than a call may have, without its recordings.
func (e Event) WithoutRecordings() Event {
	e.Unread = append(slices.Clone(e.Unread), Unread{Field: "RecordingUrl", Reason: reason.FieldTooManyRecordings})
	e.Recordings = nil
	return e
}

// CallState is what a call or a leg has come to, as package outcome decides it.
type CallState = outcome.State

// States of a call. All from CallCompleted on are terminal.
const (
	CallUnknown    = outcome.Unknown
	CallQueued     = outcome.Queued
	CallRinging    = outcome.Ringing
	CallInProgress = outcome.InProgress
	CallCompleted  = outcome.Completed
	CallBusy       = outcome.Busy
	CallNoAnswer   = outcome.NoAnswer
	CallFailed     = outcome.Failed
	CallCanceled   = outcome.Canceled
)

// Call holds what is known of a call. Zero fields are unknown.
type Call struct {
	State               CallState
	Direction           string // inbound, outbound-dial, outbound-api
	From, To            string
	StartedAt, EndedAt  time.Time
	ConversationSeconds int
	CustomField         string
	// RecordingSeconds is the length of the recording, as Exotel tells it.
	RecordingSeconds int
}

// Unread is a field of an event that could not be read or is rejected.
type Unread struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
	// Value is an unknown word as it was sent.
	Value string `json:"value,omitempty"`
}

// LegKind says what a Leg stands for.
type LegKind string

// Kinds of legs.
const (
	// LegListed is a leg in Exotel's list of a whole call.
	LegListed LegKind = "leg"
	// LegDial is one number that an applet of a flow dialled.
	LegDial LegKind = "dial"
	// LegAgent is an agent's presence. It is not a fact about the call.
	LegAgent LegKind = "agent"
)

// Leg is what an event says of a leg or, once stored, all that is known of it. Zero fields are unknown.
type Leg struct {
	Kind LegKind
	// Key names the leg within its call. It begins with the kind and a colon.
	Key string
	// Number is the party's telephone number or SIP address, Agent the agent's address or ID.
	Number, Agent string
	State         CallState
	// Called is false for the party that the call began with. That it was on the line is not talk.
	Called bool
	// Seconds on the call.
	Seconds int
	// Presence of an agent.
	Presence Presence
	// At is when it was last reported.
	At time.Time
}

// Presence is an agent's during a call, in the order in which it passes.
type Presence int16

// Presences.
const (
	presenceUnknown Presence = iota
	PresenceBusy
	PresenceFree
)

// String returns busy or free, or nothing.
func (p Presence) String() string {
	switch p {
	case PresenceBusy:
		return "busy"
	case PresenceFree:
		return "free"
	}
	return ""
}

// Stream is what Passthru says of an audio stream after its end. Empty fields were not sent.
type Stream struct {
	SID                                                         string
	Status, DisconnectedBy, Error, DetailedStatus, RecordingURL string
	Seconds                                                     int
}

// MaxRecordings is the maximum number of recordings of one call.
const MaxRecordings = 16

// NewRecording asks for a recording's upload.
type NewRecording struct {
	// ID within the tenant, recording.ID.
	ID string
	// SourceURL to fetch it from.
	SourceURL string
	// AvailableAt is when it can be fetched; zero: now.
	AvailableAt time.Time
	// Rejected is why it may not be fetched. It is recorded as a failed one.
	Rejected string
}

// Outcome of an ingest.
type Outcome int

// Outcomes.
const (
	// Applied means that the event is new and was applied.
	Applied Outcome = iota + 1
	// Duplicate means that the event had been received before. Nothing was changed.
	Duplicate
	// Dead means that the event is new, could not be applied and was stored with its reason.
	Dead
	// Replayed means that the same signed bytes, or their id, had been received before as another kind. Nothing was
	// changed.
	Replayed
)

// Recording is a recording's row, queue or history.
type Recording struct {
	Tenant, ID, CallSID, SourceURL string
	State                          RecordingState
	Attempts                       int
	// AvailableAt is when the next attempt is due.
	AvailableAt time.Time
	// LastErrorCode and LastError say why the last attempt failed.
	LastErrorCode, LastError string
	// Bucket, Key, Size, MD5, SHA256 (hex) of the object, once uploaded.
	Bucket, Key string
	Size        int64
	SHA256      string
	CreatedAt   time.Time
	FinishedAt  time.Time
	// UploadStarted is set from the first PUT on: an ambiguous result must be looked at before another PUT.
	UploadStarted bool
	// HasCallRecording reports whether a CallRecording was made of it. Its column is has_view.
	HasCallRecording bool
	// Captured here from an audio stream: Exotel has no such recording.
	Captured bool
	// Traceparent is the span that queued the recording; empty if that is not traced.
	Traceparent string
}

// Result is a verified upload.
type Result struct {
	Bucket, Key, SHA256, MD5 string
	Size                     int64
}

// Backlog is one tenant's work.
type Backlog struct {
	Tenant string
	// Ready can be claimed now, counted up to the limit asked for. Leased are being worked on.
	Ready, Leased int
	// NextAt is when the next waiting one is due; zero without one.
	NextAt time.Time
	// OldestReady is when the oldest ready one was queued.
	OldestReady time.Time
}

// Errors that callers decide by.
var (
	// ErrUnavailable means that the database did not answer or is shutting down. Nothing was committed, as far as is
	// known.
	ErrUnavailable = dbconn.ErrUnavailable
	// ErrReadOnly is an ErrUnavailable: the server accepts no writes, as a standby or an old primary after a failover.
	ErrReadOnly = fmt.Errorf("%w: the server is read-only", ErrUnavailable)
	// ErrNotFound means that the row does not exist.
	ErrNotFound = errors.New("not found")
	// ErrLeaseLost means that the lease expired and another pod holds the recording, or that the recording was ended.
	ErrLeaseLost = errors.New("lease lost")
	// ErrSchema means that the schema is older or newer than this binary needs.
	ErrSchema = errors.New("schema version mismatch")
	// ErrTooManyRecordings means that one call has more recordings than Caly stores.
	ErrTooManyRecordings = errors.New("too many recordings of one call")
)
