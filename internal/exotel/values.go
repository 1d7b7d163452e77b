package exotel

import (
	"slices"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/reason"
)

// values are the texts of a request by what they mean.
type values struct {
	fields     [fieldCount]text
	legs       []legValues // in the order of their indexes
	recordings []text      // of lists
	several    [fieldCount]bool
	unread     *unreadList
	room       [maxUnreadText]byte // for a folded name
	compared   int                 // names that were compared with known ones
}

// text is a value with the name and rank of its spelling.
type text struct {
	value, name string
	rank        uint8
}

// legValues are the texts of one leg.
type legValues struct {
	index   int
	fields  [legFieldCount]text
	several [legFieldCount]bool
}

// maxListedLegs bounds the legs of one event.
const maxListedLegs = 64

// values looks the names of all fields up.
func (in *input) values() *values {
	v := &values{unread: &in.unread}
	for _, name := range in.names {
		v.put(name, in.params[name])
	}
	for _, t := range in.repeated {
		v.put(t.name, t.value)
	}
	slices.SortFunc(v.legs, func(a, b legValues) int { return a.index - b.index })
	slices.SortFunc(v.recordings, text.compare)
	v.resolveContext()
	v.noteRepeated()
	return v
}

// resolveContext drops the fields that are read only in a notification or a campaign, if the request is neither. Else
// the number and the time stand for To and the event's time, where those are absent.
func (v *values) resolveContext() {
	campaign := v.fields[fieldCampaign].value != ""
	known := notifications[strings.ToLower(v.fields[fieldNotification].value)]
	if campaign {
		v.standIn(fieldTo, fieldCampaignNumber)
	}
	if campaign || known {
		v.standIn(fieldEventTime, fieldNotificationTime)
	}
	for f, only := range inContext {
		read := known && field(f) == fieldNotification
		if only && !read {
			v.fields[f] = text{}
			v.several[f] = false
		}
	}
}

// standIn gives a field the value of another one, if it has none.
func (v *values) standIn(f, other field) {
	if v.fields[f].value == "" {
		v.fields[f] = v.fields[other]
		v.several[f] = v.several[other]
	}
}

// noteRepeated notes the fields that have several values in the spelling that counts. What other spellings have does
// not matter.
func (v *values) noteRepeated() {
	for f, several := range v.several {
		if several {
			v.unread.add(canonical[f], reason.FieldRepeated, "")
		}
	}
	for i := range v.legs {
		for f, several := range v.legs[i].several {
			if several {
				v.unread.add(legsPrefix+legSpellings[f][0]+"]", reason.FieldRepeated, "")
			}
		}
	}
}

// put takes a field.
func (v *values) put(name, sent string) {
	sent = strings.TrimSpace(sent)
	if isNothing(sent) || strings.HasPrefix(name, faulty) {
		return
	}
	folded := fold(v.room[:0], name)
	if place, known := places[string(folded)]; known {
		if place.field == fieldUnused {
			return
		}
		if place.field != fieldCustom {
			sent = unquote(sent)
		}
		t := text{sent, name, place.rank}
		recording := place.field == fieldRecording || place.field == fieldStreamRecording
		v.choose(&v.fields[place.field], &v.several[place.field], t, recording, hasState[place.field])
		return
	}
	if index, rest, isLeg := legOf(folded); isLeg {
		v.putLeg(name, sent, index, rest)
	} else if isListedRecording(folded) {
		v.recordings = append(v.recordings, text{value: sent, name: name})
	} else {
		v.noteUnknown(name, folded)
	}
}

// hasState are the fields whose values are states.
var hasState = [fieldCount]bool{
	fieldStatus:     true,
	fieldCallState:  true,
	fieldDialStatus: true,
	fieldLeg1:       true,
	fieldLeg2:       true,
}

// choose takes another value of a field: the one with the first of the spellings counts. Of URLs of recordings all
// count. It sets several if another value came with the same spelling.
func (v *values) choose(have *text, several *bool, t text, recording, state bool) {
	switch {
	case have.name == "":
		*have = t
	case recording:
		if t.compare(*have) < 0 {
			t, *have = *have, t
		}
		v.recordings = append(v.recordings, t)
	case t.rank < have.rank:
		*have = t
		*several = false
	case t.rank == have.rank && t.value != have.value:
		*several = true
		if prefers(state, t.value, have.value) {
			*have = t
		}
	}
}

// isNothing reports whether a value stands for an absent one.
func isNothing(s string) bool {
	return s == "" || len(s) == len("null") && strings.EqualFold(s, "null")
}

func (v *values) putLeg(name, sent string, index int, rest []byte) {
	if index < 0 {
		v.unread.add("Legs", reason.FieldMalformed, "")
		return
	}
	legPlace, known := legPlaces[string(rest)]
	if !known {
		v.noteUnknownOfLeg(name, rest)
		return
	}
	leg := v.leg(index)
	if leg == nil {
		v.unread.add("Legs", reason.FieldTooLarge, "")
		return
	}
	t := text{unquote(sent), name, legPlace.rank}
	if legPlace.field == legRecording && legPlace.rank > 0 && !isAudioFile(recordingURL(sent)) {
		return // the URL of the leg itself
	}
	v.choose(
		&leg.fields[legPlace.field],
		&leg.several[legPlace.field],
		t,
		legPlace.field == legRecording,
		legPlace.field == legStatus,
	)
}

// leg returns the leg with an index; nil if there are too many legs.
func (v *values) leg(index int) *legValues {
	for i := range v.legs {
		if v.legs[i].index == index {
			return &v.legs[i]
		}
	}
	if len(v.legs) == maxListedLegs {
		return nil
	}
	v.legs = append(v.legs, legValues{index: index})
	return &v.legs[len(v.legs)-1]
}

// get returns the first of the fields that has a value.
func (v *values) get(list ...field) string {
	for _, f := range list {
		if v.fields[f].value != "" {
			return v.fields[f].value
		}
	}
	return ""
}

// known returns a field in lower case, and notes it if a table does not have it.
func (v *values) known(f field, table map[string]bool) string {
	w := strings.ToLower(v.fields[f].value)
	if w != "" && !lookUp(table, w) {
		v.unread.add(canonical[f], reason.FieldUnknownValue, v.fields[f].value)
	}
	return w
}

// time reads a field. Zero stands for no time, and for one that cannot be read.
func (v *values) time(f field, loc *time.Location) time.Time {
	t, ok := readTime(v.fields[f].value, loc)
	if !ok {
		v.unread.add(canonical[f], reason.FieldMalformed, "")
	}
	return t
}

// seconds reads a field. Zero stands for no duration, and for one that cannot be read.
func (v *values) seconds(f field) int {
	n, ok := readSeconds(v.fields[f].value)
	if !ok {
		v.unread.add(canonical[f], reason.FieldMalformed, "")
	}
	return n
}
