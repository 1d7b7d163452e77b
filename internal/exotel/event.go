package exotel

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// State is a call's state in Exotel's words, after their spellings are made one.
type State string

// States of a call.
const (
	StateUnknown    State = ""
	StateQueued     State = "queued"
	StateRinging    State = "ringing"
	StateInProgress State = "in-progress"
	StateCompleted  State = "completed"
	StateBusy       State = "busy"
	StateNoAnswer   State = "no-answer"
	StateFailed     State = "failed"
	StateCanceled   State = "canceled"
)

// Event is a parsed webhook. Empty fields were not sent.
type Event struct {
	Kind, CallSID, EventType string
	// EventSID is Exotel's own id of the event; leg events alone have one.
	EventSID string
	// At is the event's own time: when the status was last updated, the request made or the leg's event seen.
	At time.Time
	// Status as sent, and State after normalisation.
	Status              string
	State               State
	Direction           string // inbound, outbound-dial, outbound-api
	From, To            string
	StartedAt, EndedAt  time.Time
	AvailableAt         time.Time // when the recording can be fetched
	ConversationSeconds int
	CustomField         string
	Digits              string // that the caller pressed, without the quotes that Exotel puts around them
	RecordingURL        string // the stream's where the call itself has none
	AccountSID          string
	// Stream is what was said of an audio stream after its end.
	Stream *Stream

	fields params    // all that was sent, for the dedup key
	begun  time.Time // when the call was made or began
}

// Begun returns when the call was made or began. Where At is zero it is the only time that the event tells.
func (e *Event) Begun() time.Time { return e.begun }

// isID tells whether s is of letters, digits, '-' and '_' alone.
func isID(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// ParseEvent reads a StatusCallback, a Passthru or a leg event in every documented spelling. Times without a zone are in loc.
// Errors are *ParseError.
func ParseEvent(kind string, r Request, loc *time.Location) (*Event, error) {
	p, err := parseParams(r, nil)
	if err != nil {
		return nil, err
	}
	p.expandStream()
	if kind == KindLeg {
		return parseLeg(p, r.EventSID, loc)
	}
	e := &Event{
		Kind: kind, CallSID: p.first("CallSid", "CallSID", "Sid"), EventType: strings.ToLower(p.first("EventType")),
		Status: p.first("Status", "CallStatus", "DialCallStatus"), Direction: DirectionOf(p.first("Direction")),
		From: p.first("From", "CallFrom"), To: p.first("To", "CallTo"), StartedAt: ParseTime(p.first("StartTime"), loc),
		EndedAt: ParseTime(p.first("EndTime"), loc), AvailableAt: ParseTime(p.first("RecordingAvailableBy"), loc),
		CustomField: p.first("CustomField"), Digits: unquote(p.first("digits", "Digits")), Stream: p.stream(),
		RecordingURL: p.first("RecordingUrl", "RecordingURL"), AccountSID: p.first(accountNames...), fields: p,
	}
	if e.Stream != nil {
		e.RecordingURL = cmp.Or(e.RecordingURL, e.Stream.RecordingURL)
	}
	e.At, e.begun = p.times(kind, loc)
	e.State = StateOf(e.Status, e.EventType)
	e.ConversationSeconds = seconds(p.first("ConversationDuration", "Legs[0][OnCallDuration]"))
	return e, e.check()
}

// ownTimes are the fields in which each kind tells its own time.
var ownTimes = map[string][]string{KindStatus: {"DateUpdated"}, KindPassthru: {"CurrentTime", "Created"},
	KindLeg: {"event_timestamp"}}

// times returns an event's own time and the beginning of its call. A request that comes as another kind than it was
// sent as has no field of that kind, so the fields of every kind are read.
func (p params) times(kind string, loc *time.Location) (at, begun time.Time) {
	names := slices.Concat(ownTimes[kind], []string{"DateUpdated", "CurrentTime", "event_timestamp", "EndTime",
		"data[end_time]",
		"event_data[data][end_time]", "event_data[end_time]"})
	for _, name := range names {
		if at = ParseTime(p.first(name), loc); !at.IsZero() {
			break
		}
	}
	return at, ParseTime(p.first("StartTime", "DateCreated", "Created", "data[start_time]", "event_data[data][start_time]",
		"event_data[start_time]"), loc)
}

func (e *Event) check() error {
	if e.CallSID == "" {
		return &ParseError{"missing_call_sid", "the request names no call: CallSid is missing or empty"}
	}
	if len(e.CallSID) > maxCallID || !isID(e.CallSID) {
		return &ParseError{"invalid_call_sid", fmt.Sprintf("CallSid is not an id: at most %d letters, digits, '-' and '_'", maxCallID)}
	}
	return nil
}

// StateOf normalises a status; an answered event without one is in progress.
func StateOf(status, eventType string) State {
	switch s := strings.ToLower(status); s {
	case "queued", "ringing", "in-progress", "completed", "busy", "no-answer", "failed", "canceled":
		return State(s)
	case "cancelled":
		return StateCanceled
	case "":
		switch eventType {
		case "answered":
			return StateInProgress
		case "ringing":
			return StateRinging
		}
	}
	return StateUnknown
}

// DirectionOf normalises a direction; one that is not documented is empty.
func DirectionOf(s string) string {
	switch s = strings.ToLower(s); s {
	case "incoming":
		return "inbound"
	case "inbound", "outbound-dial", "outbound-api":
		return s
	}
	return ""
}

// seconds reads a duration that may be quoted, fractional or empty.
func seconds(s string) int {
	f, err := strconv.ParseFloat(unquote(s), 64)
	if err != nil || !(f >= 0 && f <= 7*24*3600) { // NaN is neither
		return 0
	}
	return int(f)
}

// unquote strips the double quotes in which Exotel wraps what the caller pressed.
func unquote(s string) string { return strings.Trim(s, `"`) }
