package exotel

import (
	"cmp"
	"strconv"
	"strings"
)

// Subject is what an event's State speaks of.
type Subject int

// Subjects of a state.
const (
	// AboutCall is the whole call: StatusCallback, Call Details, notifications of other products.
	AboutCall Subject = iota
	// AboutStage is the call at one stage of its flow: Passthru sends such a CallStatus while the call goes on.
	AboutStage
	// AboutLeg is one dial attempt. Legs has it too.
	AboutLeg
	// AboutAgent is a person who was dialled and is busy or free now. It says nothing of the call.
	AboutAgent
)

// LegKind says what a Leg stands for.
type LegKind string

// Kinds of legs.
const (
	// LegListed is a leg in Exotel's list of a whole call.
	LegListed LegKind = "leg"
	// LegDial is one number that an applet of a flow dialled.
	LegDial LegKind = "dial"
	// LegAgent is an agent's presence while the call rang.
	LegAgent LegKind = "agent"
)

// Leg is what an event says of one leg, dial attempt or agent. Empty fields were not sent.
type Leg struct {
	Kind LegKind
	// Key is the same in every event about this leg of the call.
	Key string
	// Number is the party's telephone number or SIP address, Agent the agent's address or ID.
	Number, Agent string
	State         State
	// Called is false for the party that the call began with: its time on the line does not count.
	Called bool
	// Seconds on the call.
	Seconds int
	// Presence is busy or free, of an agent.
	Presence string
}

// about tells what the event's status speaks of, unless it is an agent's. The route that the request came on has no
// say: the same event may come on another one.
func (v *values) about(e *Event) Subject {
	status := v.fields[fieldStatus]
	switch {
	case status.value == "" && v.get(fieldDialStatus) != "" && !e.Terminal:
		return AboutLeg
	case foldName(status.name) == "callstatus" && v.get(fieldEventType, fieldCallState, fieldCallDetail) == "":
		return AboutStage
	}
	return AboutCall
}

// legFacts returns what the event says of legs and agents. Its other fields have been read.
func (v *values) legFacts(e *Event) []Leg {
	number := v.get(fieldDialled)
	if e.Agent != nil {
		leg := Leg{Kind: LegAgent, Agent: e.Agent.Email, Number: number, Presence: e.Agent.Presence}
		leg.Key = legKey(leg.Kind, cmp.Or(leg.Agent, sameLine(number)))
		return []Leg{leg}
	}
	result := dialResult(e)
	if e.Dial == nil && result == StateUnknown && number == "" {
		e.ListedLegs = v.addStates(e.ListedLegs)
		return wholeLegs(e)
	}
	return dials(e.ListedLegs, v.get(fieldFlow), number, result)
}

// typeResults are the results that Passthru's CallType tells where DialCallStatus is absent. call-attempt is a call
// that dialled nobody. https://support.exotel.com/support/solutions/articles/3000088074
var typeResults = foldedTable(map[string]State{
	"completed":     StateCompleted,
	"client-hangup": StateCanceled,
	"incomplete":    StateNoAnswer,
	"voicemail":     StateNoAnswer,
})

// dialResult is the result of the dial that a Passthru follows. A request from before a dial, or while it goes on,
// carries a CallType too. So a CallType next to a call that goes on is not a result: DialCallStatus, the seconds of
// the leg or the end of the call will give one, and a result that is wrong would stay.
func dialResult(e *Event) State {
	switch {
	case e.Dial != nil:
		return e.Dial.State
	case e.State != StateUnknown && !e.State.Ended(), goingOn[e.EventType]:
		return StateUnknown
	}
	return lookUp(typeResults, e.CallType)
}

// causes are the codes that tell how a leg without a status ended. NORMAL_CLEARING follows talk and its absence alike.
var causes = foldedTable(map[string]State{
	"USER_BUSY":         StateBusy,
	"CALL_REJECTED":     StateBusy,
	"RING_TIMEOUT":      StateNoAnswer,
	"NO_ANSWER":         StateNoAnswer,
	"NO_USER_RESPONSE":  StateNoAnswer,
	"ORIGINATOR_CANCEL": StateCanceled,
})

// wholeLegs are the legs of a statement about the whole call. The first is the party that the call began with.
func wholeLegs(e *Event) []Leg {
	var legs []Leg
	for i := range e.ListedLegs {
		listedLeg := &e.ListedLegs[i]
		if listedLeg.Number == "" && listedLeg.Status == "" && listedLeg.OnCallSeconds == 0 {
			continue // it tells of a recording alone
		}
		legs = append(
			legs,
			WholeLeg(
				listedLeg.Index,
				cmp.Or(listedLeg.Number, party(e, listedLeg.Index)),
				listedLeg.State,
				listedLeg.OnCallSeconds,
			),
		)
	}
	return legs
}

// WholeLeg is a leg in the list of a whole call, counted from 0.
func WholeLeg(index int, number string, state State, seconds int) Leg {
	if state == StateUnknown && seconds > 0 {
		state = StateCompleted
	}
	key := legKey(LegListed, strconv.Itoa(index))
	return Leg{Kind: LegListed, Key: key, Number: number, State: state, Called: index > 0, Seconds: seconds}
}

// party is who a leg of the call is: an outgoing call dials From first and To afterwards, and an incoming one comes
// from From.
func party(e *Event, index int) string {
	switch {
	case index == 0:
		return e.From
	case index == 1 && strings.HasPrefix(e.Direction, "outbound"):
		return e.To
	}
	return ""
}

// dials are the legs of one applet's dial: every attempt that it lists, and the number that DialWhomNumber names.
func dials(listed []ListedLeg, flow, number string, result State) []Leg {
	var legs []Leg
	var named []int // the legs of number
	attempts := map[string]int{}
	dial := func(number string, state State, seconds int) {
		line := sameLine(number)
		attempts[line]++
		legs = append(legs, dialLeg(flow, number, attempts[line], state, seconds))
	}
	for i := range listed {
		listedLeg := &listed[i]
		of := cmp.Or(listedLeg.Number, number)
		if len(listed) == 1 || sameLine(of) == sameLine(number) {
			named = append(named, i)
		}
		dial(of, cmp.Or(listedLeg.State, lookUp(causes, listedLeg.CauseCode)), listedLeg.OnCallSeconds)
	}
	if len(named) == 0 && (result != StateUnknown || number != "") {
		dial(number, result, 0)
	}
	setResult(legs, named, result)
	return legs
}

// setResult gives the result of a dial to the last of its legs, unless it is the result of another of them.
func setResult(legs []Leg, named []int, result State) {
	if result == StateUnknown || len(named) == 0 {
		return
	}
	for _, i := range named {
		if legs[i].State == result {
			return
		}
	}
	legs[named[len(named)-1]].State = result
}

// dialLeg is one attempt to reach a number, counted from 1. An applet may dial a number, or parties without one, more
// than once.
func dialLeg(flow, number string, attempt int, state State, seconds int) Leg {
	if state == StateUnknown && seconds > 0 {
		state = StateCompleted
	}
	parts := []string{flow, sameLine(number)}
	if attempt > 1 {
		parts = append(parts, "#"+strconv.Itoa(attempt)) // no number has this sign
	}
	key := legKey(LegDial, parts...)
	return Leg{Kind: LegDial, Key: key, Number: number, State: state, Called: true, Seconds: seconds}
}

// sameLine returns one spelling of a number in all its spellings.
func sameLine(number string) string {
	if lines := E164(number); len(lines) > 0 {
		return lines[0]
	}
	return number
}

// legKey returns a key that is the same for every event about one leg.
func legKey(kind LegKind, parts ...string) string {
	return string(kind) + ":" + strings.Join(parts, "/")
}
