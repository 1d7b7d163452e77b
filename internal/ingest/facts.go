package ingest

import (
	"time"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/store"
)

var states = map[exotel.State]store.CallState{
	exotel.StateQueued:     store.CallQueued,
	exotel.StateRinging:    store.CallRinging,
	exotel.StateInProgress: store.CallInProgress,
	exotel.StateCompleted:  store.CallCompleted,
	exotel.StateBusy:       store.CallBusy,
	exotel.StateNoAnswer:   store.CallNoAnswer,
	exotel.StateFailed:     store.CallFailed,
	exotel.StateCanceled:   store.CallCanceled,
}

var presences = map[string]store.Presence{"busy": store.PresenceBusy, "free": store.PresenceFree}

// addFacts separates what an event says of the call, of a stage of it, of its legs and of agents. An agent's presence
// and a leg's result do not count as its state.
func addFacts(e *store.Event, parsed *exotel.Event) {
	e.SaidAt = parsed.SaidAt
	e.Assumed = parsed.Assumed
	switch parsed.About {
	case exotel.AboutCall:
		e.Call.State = states[parsed.State]
	case exotel.AboutStage:
		e.Stage = states[parsed.State]
	case exotel.AboutLeg, exotel.AboutAgent: // in Legs
	}
	for i := range parsed.Legs {
		e.Legs = append(e.Legs, leg(&parsed.Legs[i], parsed.At))
	}
}

func leg(l *exotel.Leg, at time.Time) store.Leg {
	return store.Leg{
		Kind:     store.LegKind(l.Kind),
		Key:      bound(l.Key, maxLegKey),
		Number:   bound(l.Number, maxNumber),
		Agent:    bound(l.Agent, maxNumber),
		State:    states[l.State],
		Called:   l.Called,
		Seconds:  l.Seconds,
		Presence: presences[l.Presence],
		At:       at,
	}
}
