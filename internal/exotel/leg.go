package exotel

import (
	"slices"
	"strconv"
	"strings"

	"github.com/caly-dev/caly/internal/reason"
)

const maxEventSID = 128

// ListedLeg is one party's part of a call, or one attempt to reach it. Empty fields were not sent.
type ListedLeg struct {
	// Index is the leg's number in the event, from 0.
	Index int
	// Number is the party: a telephone number or a SIP address.
	Number string
	// Status as sent, and State after normalisation.
	Status        string
	State         State
	OnCallSeconds int
	CauseCode     string
	RecordingURL  string
}

// callLegs reads Legs[n][...] in the order of n.
func (v *values) callLegs() []ListedLeg {
	numbered := v.numberLegs()
	var legs []ListedLeg
	if len(v.legs) > 0 {
		legs = make([]ListedLeg, 0, len(v.legs))
	}
	for i := range v.legs {
		leg := v.callLeg(&v.legs[i])
		if numbered {
			leg.Index = v.legs[i].id() - 1
		}
		legs = append(legs, leg)
	}
	if numbered {
		slices.SortFunc(legs, func(a, b ListedLeg) int { return a.Index - b.Index })
	}
	return legs
}

// addStates adds the states of the first two legs of a whole call that Call Details has next to its legs.
func (v *values) addStates(legs []ListedLeg) []ListedLeg {
	for index, f := range []field{fieldLeg1, fieldLeg2} {
		if status := v.get(f); status != "" {
			legs = addState(legs, index, status, v.state(status, canonical[f]))
		}
	}
	return legs
}

// numberLegs reports whether each leg has a number of its own. Call Details counts legs from 1, and may leave some out.
func (v *values) numberLegs() bool {
	for i := range v.legs {
		id := v.legs[i].id()
		if id == 0 || slices.ContainsFunc(v.legs[:i], func(l legValues) bool { return l.id() == id }) {
			return false
		}
	}
	return len(v.legs) > 0
}

// id is a leg's number from 1; 0 if it has none.
func (l *legValues) id() int {
	text := l.fields[legID].value
	if text == "" { // in most events; the error of Atoi takes memory
		return 0
	}
	id, err := strconv.Atoi(text)
	if err != nil || id < 0 || id > maxListedLegs {
		return 0
	}
	return id
}

// addState gives a leg its state, unless it has one. It adds the leg if it is not listed.
func addState(legs []ListedLeg, index int, status string, s State) []ListedLeg {
	at := slices.IndexFunc(legs, func(l ListedLeg) bool { return l.Index >= index })
	if at < 0 {
		at = len(legs)
	}
	if at == len(legs) || legs[at].Index != index {
		legs = slices.Insert(legs, at, ListedLeg{Index: index})
	}
	if legs[at].Status == "" {
		legs[at].Status = status
		legs[at].State = s
	}
	return legs
}

// state reads a status, and notes one that is not in the table.
func (v *values) state(status, name string) State {
	s := lookUp(statuses, status)
	if s == StateUnknown && status != "" {
		v.unread.add(name, reason.FieldUnknownValue, status)
	}
	return s
}

func (v *values) callLeg(of *legValues) ListedLeg {
	get := func(f legField) string { return of.fields[f].value }
	number := func(f legField) int {
		n, ok := readSeconds(get(f))
		if !ok {
			v.unread.add(legLabel(f), reason.FieldMalformed, "")
		}
		return n
	}
	leg := ListedLeg{
		Index:         of.index,
		Number:        get(legNumber),
		Status:        get(legStatus),
		OnCallSeconds: number(legTalk),
		CauseCode:     get(legCauseCode),
	}
	leg.State = v.state(leg.Status, legLabel(legStatus))
	leg.RecordingURL = recordingURL(get(legRecording))
	return leg
}

// legEvent reads an event of the legs API. A leg is a call of its own.
func (v *values) legEvent(e *Event, header string) {
	if sid := v.get(fieldLegSID); sid != "" {
		e.CallSID = sid
	}
	e.EventType = strings.ToLower(v.get(fieldEventName))
	e.Status = v.get(fieldCallState, fieldStatus)
	e.State = legState(e.Status, e.EventType)
	e.Terminal = e.State.Ended()
	if e.Status != "" && lookUp(statuses, e.Status) == StateUnknown {
		v.unread.add(canonical[fieldCallState], reason.FieldUnknownValue, e.Status)
	}
	switch e.Direction { // if it is not said, nobody knows which of the two called
	case "inbound":
		e.From = v.get(fieldContact)
		e.To = v.get(fieldExoPhone)
	case "outbound-api", "outbound-dial":
		e.From = v.get(fieldExoPhone)
		e.To = v.get(fieldContact)
	}
	v.eventSID(e, header)
}

// eventSID reads the event's id. One that is not believed leaves the event to be known by its fields.
func (v *values) eventSID(e *Event, header string) {
	e.EventSID = v.get(fieldEventSID)
	switch {
	case e.EventSID == "" || header != "" && header != e.EventSID:
		v.unread.add(canonical[fieldEventSID], reason.FieldMalformed, "")
	case len(e.EventSID) > maxEventSID:
		v.unread.add(canonical[fieldEventSID], reason.FieldTooLarge, "")
	default:
		return
	}
	e.EventSID = ""
}

// legState is the state that an event names, or else the one that its name tells of: leg_answered.
func legState(state, event string) State {
	about, _ := strings.CutPrefix(event, "leg_")
	if about == event {
		about = "" // play_completed completes no leg
	}
	for _, said := range []string{state, about} {
		if s := lookUp(statuses, said); s != StateUnknown {
			return s
		}
	}
	return StateUnknown
}
