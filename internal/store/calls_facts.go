package store

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caly-dev/caly/internal/outcome"
)

// Weights are what the event adds to its call's outcome: the weight of its statement about the whole call, and the
// greatest of those about the legs that were called.
func (e *Event) Weights() (whole, legs outcome.Weight) {
	statement, legs := e.statements()
	return statement.Weight(), legs
}

// statements returns what the event says of the whole call, and the greatest weight of what it says of legs.
func (e *Event) statements() (whole outcome.Statement, legs outcome.Weight) {
	whole = outcome.Statement{
		Whole:   true,
		State:   e.Call.State,
		At:      e.SaidAt,
		Assumed: e.Assumed,
		Talked:  e.Call.ConversationSeconds > 0,
	}
	legs = outcome.Statement{State: e.Stage, At: e.SaidAt}.Weight()
	for i := range e.Legs {
		if leg := &e.Legs[i]; leg.Called {
			legs = max(legs, leg.statement(e.SaidAt).Weight())
		}
	}
	return whole, legs
}

// talk is for how long the event says that two parties talked. What it says of the whole call comes first.
func (e *Event) talk() int {
	longest := 0
	for i := range e.Legs {
		if e.Legs[i].Called {
			longest = max(longest, e.Legs[i].Seconds)
		}
	}
	if e.Call.ConversationSeconds > 0 {
		return e.Call.ConversationSeconds
	}
	return longest
}

// statement is what a report of the leg says.
func (l *Leg) statement(at time.Time) outcome.Statement {
	return outcome.Statement{State: l.State, At: at, Talked: l.Seconds > 0 || l.State == CallCompleted}
}

// statement is what the event says of the stream's life. A word that ends no stream leaves it open.
func (s *Stream) statement(at time.Time) outcome.Statement {
	state, final := streamEnds[s.Status]
	if !final && s.Status != "" {
		state = outcome.InProgress
	}
	return outcome.Statement{State: state, At: at}
}

var streamEnds = map[string]outcome.State{
	"completed": outcome.Completed,
	"cancelled": outcome.Canceled,
	"failed":    outcome.Failed,
}

// legFact is what the column calls.legs holds of a leg. Two of them are merged by taking the greater value of each
// field.
type legFact struct {
	Number   string         `json:"number,omitempty"`
	Agent    string         `json:"agent,omitempty"`
	Weight   outcome.Weight `json:"weight,omitempty"`
	Seconds  int            `json:"seconds,omitempty"`
	Presence Presence       `json:"presence,omitempty"`
	At       string         `json:"at,omitempty"`
	Called   bool           `json:"called,omitempty"`
}

// legFacts is the event's legs as calls.legs holds them; nil without any.
func legFacts(e *Event) []byte {
	if len(e.Legs) == 0 {
		return nil
	}
	facts := make([]byte, 0, 128*len(e.Legs))
	for i := range e.Legs {
		leg := &e.Legs[i]
		facts = appendText(append(facts, ','), leg.Key)
		facts = leg.appendFact(append(facts, ':'), leg.statement(e.SaidAt).Weight())
	}
	facts[0] = '{'
	return append(facts, '}')
}

// appendFact appends the JSON of a legFact. It is written here without reflection since every webhook with legs pays
// for it.
func (l *Leg) appendFact(into []byte, weight outcome.Weight) []byte {
	empty := len(into)
	number := func(name string, n int64) {
		if n != 0 {
			into = strconv.AppendInt(append(append(append(into, `,"`...), name...), `":`...), n, 10)
		}
	}
	text := func(name, s string) {
		if s != "" {
			into = appendText(append(append(append(into, `,"`...), name...), `":`...), s)
		}
	}
	text("number", l.Number)
	text("agent", l.Agent)
	number("weight", int64(weight))
	number("seconds", int64(min(l.Seconds, maxSeconds)))
	number("presence", int64(l.Presence))
	if !l.At.IsZero() {
		text("at", l.At.UTC().Format(time.RFC3339))
	}
	if l.Called {
		into = append(into, `,"called":true`...)
	}
	if len(into) == empty {
		return append(into, "{}"...)
	}
	into[empty] = '{'
	return append(into, '}')
}

// appendText appends a text as JSON.
func appendText(into []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) //nolint:errchkjson // a string
			return append(into, quoted...)
		}
	}
	return append(append(append(into, '"'), s...), '"')
}

// legsOf reads calls.legs, in the order in which the legs were reported.
func legsOf(column []byte) ([]Leg, error) {
	if len(column) == 0 {
		return nil, nil
	}
	var facts map[string]legFact
	if err := json.Unmarshal(column, &facts); err != nil {
		return nil, err
	}
	legs := make([]Leg, 0, len(facts))
	for id, f := range facts {
		kind, _, _ := strings.Cut(id, ":")
		at, _ := time.Parse(time.RFC3339, f.At) // zero if nobody said
		legs = append(legs, Leg{
			Kind:     LegKind(kind),
			Key:      id,
			Number:   f.Number,
			Agent:    f.Agent,
			State:    f.Weight.State(),
			Called:   f.Called,
			Seconds:  f.Seconds,
			Presence: f.Presence,
			At:       at,
		})
	}
	slices.SortFunc(legs, func(a, b Leg) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Key, b.Key))
	})
	return legs, nil
}
