package exotel

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// This file is about fields that a request names more than once.
//
//   - A list without numbers is numbered: RecordingUrl[]=a&RecordingUrl[]=b is read as RecordingUrl[0] and
//     RecordingUrl[1], and the fields of Legs[][Status] belong to one leg until a field of it comes again.
//   - Of a field in the query and in the body, the body's value counts, unless it is empty. The body is Exotel's, and
//     the query is part of the address that Exotel was given.
//   - A field that is sent twice with the same value is sent once.
//   - Every URL of a recording counts.
//   - Of other values one counts, whatever their order: see prefers. That there are others is noted as Repeated.

// listNumbers numbers the elements of lists such as Legs[][Status].
type listNumbers struct {
	// element is the number of each list's last element, from 0, and last the element in which each field was last.
	element, last map[string]int
}

// numbered returns a name with a number for each "[]" in it.
func (l *listNumbers) numbered(name string) string {
	if len(name) > maxName {
		return name // the field is not read
	}
	for at := strings.Index(name, "[]"); at > 0; at = strings.Index(name, "[]") {
		if l.element == nil {
			l.element = map[string]int{}
			l.last = map[string]int{}
		}
		list := name[:at]
		rest := name[at+len("[]"):]
		n := l.element[list]
		if !strings.Contains(rest, "[]") { // a list within an element does not end the element
			if last, sent := l.last[name]; sent && last == n {
				n++
			}
			l.element[list] = n
			l.last[name] = n
		}
		name = list + "[" + strconv.Itoa(n) + "]" + rest
	}
	return name
}

// setQueryAside makes room for the fields of the body.
func (in *input) setQueryAside() {
	if len(in.params) > 0 {
		in.query = in.params
		in.params = params{}
		in.queryRepeated = in.repeated
		in.repeated = nil
	}
	in.lists = listNumbers{}
}

// mergeQuery adds the fields of the query to those of the body. A known field counts in every spelling, so the callsid
// and the from of an address are ignored next to the body's CallSid and CallFrom.
func (in *input) mergeQuery() {
	var body *said
	for name, value := range in.query {
		old, known := in.params[name]
		switch {
		case known && isRecordingName(name):
			if old != value {
				in.repeat(name, old, value)
			}
			continue
		case known && !isNothing(strings.TrimSpace(old)):
			continue
		case isReadOnce(name):
			if body == nil {
				body = in.said()
			}
			if body.has(name) {
				continue
			}
		}
		in.params[name] = value
	}
	for _, t := range in.queryRepeated {
		if isRecordingName(t.name) || in.params[t.name] == in.query[t.name] {
			in.repeated = append(in.repeated, t)
		}
	}
	in.query = nil
	in.queryRepeated = nil
}

// said are the known fields that have a value, and the folded names of those of legs.
type said struct {
	fields [fieldCount]bool
	legs   map[string]bool
}

func (in *input) said() *said {
	s := &said{legs: map[string]bool{}}
	for name, value := range in.params {
		if isNothing(strings.TrimSpace(value)) {
			continue
		}
		folded := fold(nil, name)
		if place, known := places[string(folded)]; known {
			s.fields[place.field] = true
		} else if _, _, isLeg := legOf(folded); isLeg {
			s.legs[string(folded)] = true
		}
	}
	return s
}

// has reports whether the field of a name has a value, in whatever spelling.
func (s *said) has(name string) bool {
	folded := fold(nil, name)
	place, known := places[string(folded)]
	return known && s.fields[place.field] || s.legs[string(folded)]
}

// isReadOnce reports whether a name is that of a known field with a single value.
func isReadOnce(name string) bool {
	folded := fold(nil, name)
	place, known := places[string(folded)]
	_, _, isLeg := legOf(folded)
	return (known && place.field != fieldUnused || isLeg) && !isRecordingName(name)
}

// repeat takes another value of a field. Which of the values is in params does not depend on their order.
func (in *input) repeat(name, old, value string) {
	switch {
	case isNothing(strings.TrimSpace(value)):
		return
	case !isNothing(strings.TrimSpace(old)):
		in.params[name] = max(old, value)
		in.repeated = append(in.repeated, text{name: name, value: min(old, value)})
		return
	}
	in.params[name] = value
}

// distinct sorts the names and the repeated values, and drops values that are there twice. So nothing that is read
// depends on the order of a map.
func (in *input) distinct() {
	in.names = make([]string, 0, len(in.params))
	for name := range in.params {
		in.names = append(in.names, name)
	}
	slices.Sort(in.names)
	if len(in.repeated) == 0 {
		return
	}
	slices.SortFunc(in.repeated, text.compare)
	in.repeated = slices.Compact(in.repeated)
	in.repeated = slices.DeleteFunc(in.repeated, func(t text) bool { return in.params[t.name] == t.value })
}

// compare orders texts by their spellings and values.
func (t text) compare(other text) int {
	return cmp.Or(int(t.rank)-int(other.rank), strings.Compare(t.name, other.name), strings.Compare(t.value,
		other.value))
}

// prefers reports whether a value of a field counts instead of another value, whatever their order. Of states the one
// that ends the call counts, and completed above all. Of other values the longest counts, and of several the greatest:
// it is the later of two times, the greater of two numbers, and the number with its country.
func prefers(states bool, value, other string) bool {
	if states {
		if a, b := progress(value), progress(other); a != b {
			return a > b
		}
	}
	return cmp.Or(len(value)-len(other), strings.Compare(value, other)) > 0
}

// progress is how far a call has come by a status.
func progress(status string) int {
	return slices.Index([]State{StateUnknown, StateQueued, StateRinging, StateInProgress, StateCanceled, StateFailed,
		StateNoAnswer, StateBusy, StateCompleted}, lookUp(statuses, status))
}

// isRecordingName reports whether a name is that of the URL of a recording, of the call, of a leg or of a stream.
func isRecordingName(name string) bool {
	folded := fold(nil, name)
	if place, known := places[string(folded)]; known {
		return place.field == fieldRecording || place.field == fieldStreamRecording
	}
	if index, rest, isLeg := legOf(folded); isLeg {
		legPlace, known := legPlaces[string(rest)]
		return index >= 0 && known && legPlace.field == legRecording
	}
	return isListedRecording(folded)
}
