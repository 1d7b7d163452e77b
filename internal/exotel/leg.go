package exotel

import "strings"

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
	if len(v.legs) == 0 {
		return nil
	}
	legs := make([]ListedLeg, 0, len(v.legs))
	for i := range v.legs {
		legs = append(legs, v.callLeg(&v.legs[i]))
	}
	return legs
}

func (v *values) callLeg(of *legValues) ListedLeg {
	get := func(f legField) string { return of.fields[f].value }
	number := func(f legField) int {
		n, ok := readSeconds(get(f))
		if !ok {
			v.unread.add(legsPrefix+legSpellings[f][0]+"]", Malformed, "")
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
	if leg.State = lookUp(statuses, leg.Status); leg.Status != "" && leg.State == StateUnknown {
		v.unread.add(legsPrefix+"Status]", UnknownValue, leg.Status)
	}
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
		v.unread.add(canonical[fieldCallState], UnknownValue, e.Status)
	}
	switch e.Direction { // if it is not said, nobody knows which of the two called
	case "inbound":
		e.From, e.To = v.get(fieldContact), v.get(fieldExoPhone)
	case "outbound-api", "outbound-dial":
		e.From, e.To = v.get(fieldExoPhone), v.get(fieldContact)
	}
	v.eventSID(e, header)
}

// eventSID reads the event's id. One that is not believed leaves the event to be known by its fields.
func (v *values) eventSID(e *Event, header string) {
	e.EventSID = v.get(fieldEventSID)
	switch {
	case e.EventSID == "" || header != "" && header != e.EventSID:
		v.unread.add(canonical[fieldEventSID], Malformed, "")
	case len(e.EventSID) > maxEventSID:
		v.unread.add(canonical[fieldEventSID], TooLarge, "")
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
