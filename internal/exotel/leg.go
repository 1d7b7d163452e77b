package exotel

import (
	"fmt"
	"strings"
	"time"
)

const maxEventSID = 128

// parseLeg reads an event of the legs API: its data lies at the top or within event_data. A leg is a call of its own.
func parseLeg(p params, header string, loc *time.Location) (*Event, error) {
	data := func(name string) string {
		return p.first("data["+name+"]", "event_data[data]["+name+"]", "event_data["+name+"]")
	}
	name := strings.ToLower(p.first("event_name"))
	e := &Event{
		Kind: KindLeg, CallSID: data("leg_sid"), EventSID: p.first("event_sid"), EventType: name,
		Status: data("state"), State: legState(data("state"), name), Direction: DirectionOf(data("direction")), AccountSID: data("account_sid"),
		StartedAt: ParseTime(data("start_time"), loc), EndedAt: ParseTime(data("end_time"), loc), CustomField: p.first("action_custom_parameter"),
		fields: p,
	}
	e.At, e.begun = p.times(KindLeg, loc)
	switch e.Direction { // where it is not said, nobody knows which of the two called
	case "inbound":
		e.From, e.To = data("contact_uri"), data("exophone")
	case "outbound-api", "outbound-dial":
		e.From, e.To = data("exophone"), data("contact_uri")
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	switch {
	case e.EventSID == "" || len(e.EventSID) > maxEventSID:
		return nil, &ParseError{"missing_event_sid", fmt.Sprintf("the leg event has no event_sid of at most %d bytes", maxEventSID)}
	case header != "" && header != e.EventSID:
		return nil, &ParseError{"event_sid_mismatch", "the header " + EventSIDHeader + " names another event than the body's event_sid"}
	}
	return e, nil
}

// legStates are the words of legs that calls do not use.
var legStates = map[string]State{
	"initiated": StateQueued, "connecting": StateQueued, "answered": StateInProgress, "ended": StateCompleted, "terminated": StateCompleted,
	"disconnected": StateCompleted,
}

// legState is the state that an event names, or else the one that its name tells of: leg_answered.
func legState(state, event string) State {
	about, _ := strings.CutPrefix(event, "leg_")
	if about == event {
		about = "" // play_completed completes no leg
	}
	for _, word := range []string{strings.ToLower(state), about} {
		word = strings.ReplaceAll(word, "_", "-")
		if s := StateOf(word, ""); s != StateUnknown {
			return s
		}
		if s := legStates[word]; s != StateUnknown {
			return s
		}
	}
	return StateUnknown
}
