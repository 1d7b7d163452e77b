package exotel

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"regexp"
	"sort"
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
	// Status as sent, and State after normalisation.
	Status              string
	State               State
	Direction           string // inbound, outbound-dial, outbound-api
	From, To            string
	StartedAt, EndedAt  time.Time
	AvailableAt         time.Time // when the recording can be fetched
	ConversationSeconds int
	CustomField         string
	RecordingURL        string
	AccountSID          string
	legs                []string // leg fields, sorted, for the dedup key
}

var callSID = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// ParseEvent reads a StatusCallback or a Passthru in every documented spelling. Times without a zone are in loc.
// Errors are *ParseError.
func ParseEvent(kind string, r Request, loc *time.Location) (*Event, error) {
	p, err := parseParams(r)
	if err != nil {
		return nil, err
	}
	p.expandStream()
	e := &Event{
		Kind: kind, CallSID: p.first("CallSid", "CallSID", "Sid"), EventType: strings.ToLower(p.first("EventType")),
		Status: p.first("Status", "CallStatus", "DialCallStatus"), Direction: DirectionOf(p.first("Direction")),
		From: p.first("From", "CallFrom"), To: p.first("To", "CallTo"), StartedAt: ParseTime(p.first("StartTime"), loc),
		EndedAt: ParseTime(p.first("EndTime"), loc), AvailableAt: ParseTime(p.first("RecordingAvailableBy"), loc),
		CustomField: p.first("CustomField"), RecordingURL: p.first("RecordingUrl", "RecordingURL", "Stream[RecordingUrl]"),
		AccountSID: p.first("AccountSid"), legs: legFields(p),
	}
	e.State = StateOf(e.Status, e.EventType)
	e.ConversationSeconds = seconds(p.first("ConversationDuration", "Legs[0][OnCallDuration]"))
	return e, e.check()
}

func (e *Event) check() error {
	if e.CallSID == "" {
		return &ParseError{"missing_call_sid", "the request names no call: CallSid is missing or empty"}
	}
	if len(e.CallSID) > maxCallID || !callSID.MatchString(e.CallSID) {
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
	f, err := strconv.ParseFloat(strings.Trim(s, `"`), 64)
	if err != nil || !(f >= 0 && f <= 7*24*3600) { // NaN is neither
		return 0
	}
	return int(f)
}

func legFields(p params) []string {
	var legs []string
	for k, v := range p {
		if strings.HasPrefix(k, "Legs[") {
			legs = append(legs, k+"="+v)
		}
	}
	sort.Strings(legs)
	return legs
}

// DedupKey is the same for every delivery of one event, and for no other: a digest of the parsed fields, since a multipart
// body carries another boundary at each attempt. Exotel sends no id of an event.
func (e *Event) DedupKey(tenant string) [32]byte {
	recording, _, _ := strings.Cut(e.RecordingURL, "?") // a presigned URL changes its query at each answer
	h := sha256.New()
	for _, s := range []string{tenant, e.Kind, e.CallSID, e.EventType, strings.ToLower(e.Status), recording} {
		writeField(h, s)
	}
	for _, l := range e.legs {
		writeField(h, l)
	}
	return [32]byte(h.Sum(nil))
}

// writeField puts a length in front, so that no two lists of fields meet in one stream of bytes.
func writeField(h hash.Hash, s string) {
	_, _ = io.WriteString(h, strconv.Itoa(len(s))+":"+s) // a hash never fails
}
