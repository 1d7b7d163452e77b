package exotel

import (
	"bytes"
	"strconv"
	"strings"
)

// place is where the value of a name goes: a field, and how many spellings come before this one.
type place struct {
	field field
	rank  uint8
}

// legPlace is the same for a field of a leg.
type legPlace struct {
	field legField
	rank  uint8
}

var (
	places    = placesOf()
	legPlaces = legPlacesOf()
	// canonical are the names by which people know the fields.
	canonical = canonicalNames()
	// foldedWithin are the prefixes that the objects in within make.
	foldedWithin = foldedObjects()
)

func foldedObjects() (prefixes [][]byte) {
	for _, object := range within {
		prefix := fold(nil, object)
		if object != "" {
			prefix = append(prefix, '.')
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes
}

func placesOf() map[string]place {
	all := map[string]place{}
	for f, names := range spellings {
		rank := 0
		for _, name := range names {
			leaf, anywhere := strings.CutPrefix(name, "*")
			for _, object := range within {
				if object != "" && !anywhere {
					break
				}
				all[string(fold(nil, nested(object, leaf)))] = place{field(f), uint8(rank)}
				rank++
			}
		}
	}
	return all
}

// nested returns the name of a field in an object.
func nested(object, name string) string {
	if object == "" {
		return name
	}
	return object + "[" + name + "]"
}

func legPlacesOf() map[string]legPlace {
	all := map[string]legPlace{}
	for f, names := range legSpellings {
		for rank, name := range names {
			all[string(fold(nil, name))] = legPlace{legField(f), uint8(rank)}
		}
	}
	return all
}

func canonicalNames() (names [fieldCount]string) {
	for f, list := range spellings {
		names[f] = strings.TrimPrefix(list[0], "*")
	}
	return names
}

// fold appends a name without what products spell differently: case, "_" and "-". Levels are separated by ".".
func fold(into []byte, name string) []byte {
	for i := range len(name) {
		switch c := name[i]; {
		case 'A' <= c && c <= 'Z':
			into = append(into, c|0x20)
		case c == '[':
			into = append(into, '.')
		case c != ']' && c != '_' && c != '-' && c != ' ':
			into = append(into, c)
		}
	}
	return into
}

// foldName returns a name as fold does.
func foldName(name string) string { return string(fold(nil, name)) }

// legsWithin are the folded objects in which a list of legs may be.
var legsWithin = map[string]bool{
	"":                      true,
	"details.":              true,
	"call.":                 true,
	"call.details.":         true,
	"calldetails.":          true,
	"response.calldetails.": true,
}

// legOf takes a folded name such as legs.0.status apart. It reports false for the name of another field. A Leg may
// stand before or after the number: XML has a list of Leg elements in Legs. One that has no number is the only one.
func legOf(folded []byte) (index int, rest []byte, isLeg bool) {
	const list, element = "legs.", "leg."
	at := bytes.Index(folded, []byte(list))
	if at < 0 || !legsWithin[string(folded[:at])] {
		return 0, nil, false
	}
	below, inElement := bytes.CutPrefix(folded[at+len(list):], []byte(element))
	digits, rest, _ := bytes.Cut(below, []byte("."))
	index, err := strconv.Atoi(string(digits))
	switch {
	case err != nil && inElement:
		return 0, below, true
	case err != nil || index < 0 || index >= maxFields:
		return -1, nil, true
	}
	return index, bytes.TrimPrefix(rest, []byte(element)), true
}

// isListedRecording reports whether a folded name such as recordings.0.url or recordingurllist.1 is that of a recording
// in a list.
func isListedRecording(folded []byte) bool {
	for _, object := range foldedWithin {
		rest, in := bytes.CutPrefix(folded, object)
		list, item, ok := bytes.Cut(rest, []byte("."))
		if !in || !ok {
			continue
		}
		if place, known := places[string(list)]; !known || place.field != fieldRecording {
			continue
		}
		index, leaf, nested := bytes.Cut(item, []byte("."))
		if !nested && (string(index) == "url" || string(index) == "recordingurl") {
			return true // voice_log[recording_url]
		}
		if _, err := strconv.Atoi(string(index)); err != nil {
			continue
		}
		if !nested || string(leaf) == "url" || string(leaf) == "recordingurl" {
			return true
		}
	}
	return false
}

// foldedTable returns a table of words with its keys folded: see lookUp.
func foldedTable[T any](words map[string]T) map[string]T {
	folded := make(map[string]T, len(words))
	for w, v := range words {
		folded[foldName(w)] = v
	}
	return folded
}

// lookUp finds a word in a table, however it is spelled.
func lookUp[T any](table map[string]T, word string) T {
	var room [maxUnreadText]byte
	return table[string(fold(room[:0], word))]
}
