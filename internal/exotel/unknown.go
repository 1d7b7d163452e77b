package exotel

import (
	"bytes"
	"math/bits"
	"strconv"
	"strings"

	"github.com/caly-dev/caly/internal/reason"
)

// This file finds names of fields that no table knows, so that a new spelling is noticed on its first day. Flows send
// variables of their own, which are normal and say nothing. So a name is noted only if Exotel is likely to have made
// it:
//
//   - It is in an object of Exotel's: call_details, Legs[0], Stream. Flows put no variables there.
//   - Or it differs from a known name by a letter, or by two letters if it is long: RecordingUri, CallStatuss.
//
// Names that Exotel documents and that nothing needs are never noted: those of fieldUnused and of unusedBelow.

// unusedBelow are names of documented fields in objects that are not read there. Their sources are those of spellings.
var unusedBelow = foldedNames(
	"legs", "event_type", "action_sid", "leg_sid", "contact_uri", "exophone", "date_created", "sid", "start_time",
	"end_time", "direction", "created_at", // [S5] [N1] [N2]
	"Disposition",                                                                        // [S4]
	"Type", "AnsweredBy", "Cause", "DisconnectedBy", "DetailedStatus", "RingingDuration", // [S1] [S5] [P1]
	"Insights.Disposition", "Insights.DisconnectedBy", "Insights.DetailedStatus", "Insights.RingingDuration",
	"format", "channel", "expires_at", "recording_size_bytes", // [N3]
	"campaign_sid", // [N5]
	"recording.available", "customer_details.status", "assigned_agent_details.user_id",
	"assigned_agent_details.user_name", "assigned_agent_details.contact_uri", // [N6] [P4]
)

func foldedNames(names ...string) map[string]bool {
	all := make(map[string]bool, len(names))
	for _, name := range names {
		all[foldName(name)] = true
	}
	return all
}

// isUnused reports whether a folded name below an object is that of a documented field that nothing needs.
func isUnused(rest []byte) bool {
	place, known := places[string(rest)]
	return known && place.field == fieldUnused || unusedBelow[string(rest)]
}

// objects begin the folded names of fields in objects of Exotel's.
var objects = [][]byte{[]byte("calldetails."), []byte("eventdetails."), []byte("response.calldetails."),
	[]byte("stream."),
	[]byte("details.")}

// nearNames are the known names without an object, by their lengths. Names that flows use too have no near ones.
var nearNames = namesByLength()

// Lengths of names that are compared with known ones. Of a shorter name too many others differ by a letter.
const (
	minNear  = 6
	longNear = 10 // from which two letters may differ
	maxNear  = 32
	maxFar   = 32 // names that are compared of one event
)

// nearName is a known name and the set of its letters.
type nearName struct {
	name    string
	letters uint32
}

func namesByLength() (byLength [maxNear + 1][]nearName) {
	for name, p := range places {
		plain := p.field != fieldUnused && !inContext[p.field] && !strings.Contains(name, ".")
		if n := len(name); plain && n >= minNear && n <= maxNear {
			byLength[n] = append(byLength[n], nearName{name, lettersOf([]byte(name))})
		}
	}
	return byLength
}

// lettersOf is the set of a name's letters.
func lettersOf(name []byte) (set uint32) {
	for _, c := range name {
		set |= 1 << (c % 32)
	}
	return set
}

// noteUnknown notes the name of a field that no table knows, if Exotel is likely to have made it.
func (v *values) noteUnknown(name string, folded []byte) {
	for _, object := range objects {
		if rest, in := bytes.CutPrefix(folded, object); in {
			if !isUnused(rest) && !isIndexed(rest) {
				v.unread.add(name, reason.FieldUnknown, "")
			}
			return
		}
	}
	if v.compared++; v.compared <= maxFar && isNear(folded) {
		v.unread.add(name, reason.FieldUnknown, "")
	}
}

// noteUnknownOfLeg does the same for a field of a leg: once for all legs.
func (v *values) noteUnknownOfLeg(name string, rest []byte) {
	if _, known := legPlaces[string(rest)]; len(rest) > 0 && !known && !isUnused(rest) {
		v.unread.add(withoutIndex(name), reason.FieldUnknown, "")
	}
}

// withoutIndex removes the first number in brackets from a name: Legs[0][Status] becomes Legs[Status].
func withoutIndex(name string) string {
	for at := 0; ; {
		next := strings.IndexByte(name[at:], '[')
		if next < 0 {
			return name
		}
		at += next + 1
		index, rest, found := strings.Cut(name[at:], "]")
		if _, err := strconv.Atoi(index); err == nil && found {
			return name[:at-1] + rest
		}
	}
}

// isIndexed reports whether a folded name below an object is that of an element of a list, such as legs.0.status.
func isIndexed(rest []byte) bool {
	_, item, found := bytes.Cut(rest, []byte("."))
	return found && len(item) > 0 && '0' <= item[0] && item[0] <= '9'
}

// isNear reports whether a folded name differs little from a known one.
func isNear(folded []byte) bool {
	most := 1
	if len(folded) >= longNear {
		most = 2
	}
	if len(folded) < minNear || len(folded) > maxNear-most || bytes.IndexByte(folded, '.') >= 0 {
		return false
	}
	letters := lettersOf(folded)
	for n := max(len(folded)-most, minNear); n <= len(folded)+most; n++ {
		for _, known := range nearNames[n] {
			// A letter that is replaced takes one from the set and adds one.
			if bits.OnesCount32(letters^known.letters) <= 2*most && distance(folded, known.name) <= most {
				return true
			}
		}
	}
	return false
}

// distance is the number of letters to insert, delete or replace between two short names.
func distance(a []byte, b string) int {
	var row [maxNear + 1]int
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
