package exotel

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/reason"
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

// Ended reports whether the state is one of a call that has ended.
func (s State) Ended() bool {
	switch s {
	case StateCompleted, StateBusy, StateNoAnswer, StateFailed, StateCanceled:
		return true
	}
	return false
}

// Event is a parsed webhook. Empty fields were not sent.
type Event struct {
	Kind, CallSID, EventType string
	// EventSID is Exotel's own id of the event; leg events alone have one.
	EventSID string
	// At is the event's own time: when the status was last updated, the request made or the leg's event seen.
	At time.Time
	// Status as sent, and State after normalisation: of the call or else of the dial attempt.
	Status string
	State  State
	// Terminal is set if the event says that the call has ended. If its status says no result, State is StateCompleted
	// and Assumed is set.
	Terminal, Assumed bool
	// About is what Status and State speak of.
	About Subject
	// SaidAt is At as every delivery of the event tells it: zero where only the time of the request is known.
	SaidAt time.Time
	// Legs are the facts about legs, dial attempts and agents.
	Legs                []Leg
	Direction           string // inbound, outbound-dial, outbound-api
	From, To            string
	StartedAt, EndedAt  time.Time
	AvailableAt         time.Time // when the recording can be fetched
	ConversationSeconds int
	CustomField         string
	// CallType is what a flow made of the call: call-attempt, completed, client-hangup, incomplete or voicemail.
	CallType   string
	AccountSID string
	// RecordingURL is the first of RecordingURLs, which are those of the call, of its legs and of its stream.
	RecordingURL  string
	RecordingURLs []string
	// RecordingSeconds is the length of the recording.
	RecordingSeconds int
	// Dial is the result of an attempt to dial an agent; nil without one.
	Dial *Dial
	// Agent is whose presence the event tells of; nil if it tells of none.
	Agent      *Agent
	ListedLegs []ListedLeg
	// Stream is what was said of an audio stream after its end.
	Stream *Stream
	// Unread are the fields that could not be read. They are left out above.
	Unread []Unread

	fields   params    // all that was sent, for the dedup key
	names    []string  // of fields, in their order
	repeated []text    // further values of those that were sent more than once
	begun    time.Time // when the call was made or began
}

// Begun returns when the call was made or began. Where At is zero it is the only time that the event tells.
func (e *Event) Begun() time.Time { return e.begun }

// Dial is the result of an attempt to dial somebody: a Passthru after a Connect applet tells of it.
type Dial struct {
	// Status as sent, and State after normalisation.
	Status string
	State  State
}

// Agent is an agent and whether a call is with that agent. It says nothing about the call's result.
type Agent struct {
	Email string
	// Presence is busy or free.
	Presence string
}

// isID reports whether s consists of letters, digits, '-' and '_'.
func isID(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// ParseEvent reads a StatusCallback, a Passthru or a leg event in every spelling. Times without a zone are in loc. A
// field that cannot be read is left out and listed in Unread. It returns an error only if the request names no call, or
// is a list of several: a *ParseError.
func ParseEvent(kind string, r Request, loc *time.Location) (*Event, error) {
	in := readInput(decoded(r), nil)
	if in.severalEvents {
		return nil, in.err
	}
	in.expandJSON()
	in.distinct()
	values := in.values()
	event := &Event{
		Kind:             kind,
		CallSID:          values.get(fieldCallSID),
		AvailableAt:      values.time(fieldAvailable, loc),
		CustomField:      values.get(fieldCustom),
		CallType:         values.known(fieldCallType, callTypes),
		AccountSID:       values.get(fieldAccountSID),
		RecordingSeconds: values.seconds(fieldRecordingSeconds),
		Stream:           values.stream(),
		ListedLegs:       values.callLegs(),
		Dial:             values.dial(),
		fields:           in.params,
		names:            in.names,
		repeated:         in.repeated,
	}
	values.direction(event)
	values.times(event, loc)
	if kind == KindLeg {
		values.legEvent(event, r.EventSID)
	} else {
		values.call(event)
	}
	event.ConversationSeconds = values.seconds(fieldTalk)
	event.Legs = values.legFacts(event)
	if event.RecordingURLs = values.recordingURLs(event.ListedLegs, event.Stream); len(event.RecordingURLs) > 0 {
		event.RecordingURL = event.RecordingURLs[0]
	}
	event.Unread = in.unread
	if err := event.check(); err != nil {
		if in.err != nil {
			return nil, in.err
		}
		return nil, err
	}
	return event, nil
}

// call reads what a StatusCallback or a Passthru says about its call.
func (v *values) call(e *Event) {
	e.From = v.get(fieldFrom)
	e.To = v.get(fieldTo)
	if customer := v.get(fieldCustomer); e.Direction == "inbound" {
		e.From = cmp.Or(e.From, customer)
	} else if e.Direction != "" { // the agent is called first
		e.To = cmp.Or(e.To, customer)
	}
	e.EventType = v.known(fieldEventType, eventTypes)
	callState := strings.ToLower(v.get(fieldCallState))
	if e.EventType == "" {
		e.EventType = v.known(fieldCallDetail, eventTypes)
	}
	if n := strings.ToLower(v.get(fieldNotification)); e.EventType == "" && notifications[n] {
		e.EventType = n
	}
	e.Terminal = e.EventType == eventTerminal || callState == eventTerminal
	if e.Terminal {
		e.EventType = eventTerminal
	}
	e.Status = v.get(fieldStatus)
	e.About = v.about(e)
	if e.Agent = v.agent(e); e.Agent != nil { // an agent who is free again ends no call, even with EventType=Terminal
		e.Status = ""
		e.Terminal = false
		e.About = AboutAgent
		return
	}
	switch {
	case e.Status == "" && v.get(fieldDialStatus) != "":
		e.Status = v.get(fieldDialStatus)
	case e.Status == "" && callState != eventTerminal:
		e.Status = v.get(fieldCallState)
	}
	e.State = StateOf(e.Status, e.EventType)
	said := lookUp(statuses, e.Status)
	e.Assumed = e.Terminal && !said.Ended()
	if e.Status != "" && said == StateUnknown {
		v.unread.add(canonical[fieldStatus], reason.FieldUnknownValue, e.Status)
	}
}

// agent returns the agent of a notification that a flow sends while it dials agents. Its status is the agent's: free
// means that the call to this agent has ended, and another agent may be dialled next.
// https://support.exotel.com/support/solutions/articles/48284-agent-pass-through-knowing-when-an-agent-gets-a-call
func (v *values) agent(e *Event) *Agent {
	status := strings.ToLower(e.Status)
	email := v.get(fieldAgent)
	switch {
	case !presences[status]:
		return nil
	case status == "free" || goingOn[e.EventType]:
	case email == "" || e.Terminal:
		return nil
	}
	return &Agent{Email: email, Presence: status}
}

// dial returns what the event says of its dial attempt, or nil.
func (v *values) dial() *Dial {
	status := v.get(fieldDialStatus)
	if status == "" {
		return nil
	}
	return &Dial{Status: status, State: v.state(status, canonical[fieldDialStatus])}
}

// direction sets the call's direction. An unknown value is noted as unread, and the event is kept.
func (v *values) direction(e *Event) {
	sent := v.get(fieldDirection)
	if e.Direction = DirectionOf(sent); e.Direction == "" && sent != "" {
		v.unread.add(canonical[fieldDirection], reason.FieldUnknownValue, sent)
	}
}

// times reads the event's own time and those of its call. A request that comes as another kind than it was sent as has
// no field of that kind, so the fields of every kind are read.
func (v *values) times(e *Event, loc *time.Location) {
	e.StartedAt = v.time(fieldStarted, loc)
	e.EndedAt = v.time(fieldEnded, loc)
	updated := v.time(fieldUpdated, loc)
	requested := v.time(fieldRequested, loc)
	created := v.time(fieldCreated, loc)
	seen := v.time(fieldEventTime, loc)
	switch e.Kind {
	case KindStatus:
		e.At = firstTime(updated, requested, seen, e.EndedAt)
	case KindPassthru:
		e.At = firstTime(requested, updated, created, seen, e.EndedAt)
	default:
		e.At = firstTime(seen, updated, requested, e.EndedAt)
	}
	e.begun = firstTime(e.StartedAt, created)
	e.SaidAt = firstTime(updated, seen, e.EndedAt) // every delivery has another time of the request
}

// firstTime returns the first time that is not zero.
func firstTime(times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}

// check returns a ParseError if the call's id is missing or invalid: such an event cannot be stored under a call.
func (e *Event) check() error {
	if e.CallSID == "" {
		return &ParseError{reason.DeadMissingCallSID, "the request names no call: CallSid is missing or empty"}
	}
	if len(e.CallSID) > maxCallID || !isID(e.CallSID) {
		return &ParseError{
			reason.DeadInvalidCallSID,
			fmt.Sprintf("CallSid is not an id: at most %d letters, digits, '-' and '_'", maxCallID),
		}
	}
	return nil
}

// StateOf normalises a status. If the status says nothing the type of the event does. A terminal event ends a call
// whatever its status is.
func StateOf(status, eventType string) State {
	state := lookUp(statuses, status)
	switch {
	case eventType == eventTerminal && !state.Ended():
		return StateCompleted
	case state == StateUnknown && (eventType == eventAnswered || eventType == "call_"+eventAnswered):
		return StateInProgress
	case state == StateUnknown && (eventType == eventRinging || eventType == "call_"+eventRinging):
		return StateRinging
	}
	return state
}

// DirectionOf normalises a direction. It returns "" for an unknown one.
func DirectionOf(s string) string { return lookUp(directions, s) }
