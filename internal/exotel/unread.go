package exotel

import (
	"errors"
	"strings"
	"unicode"

	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/reason"
)

// Unread is a field of an event that could not be read or is rejected. The other fields are not affected.
type Unread struct {
	// Field is the field's name, or that of the part of the request that could not be read to its end.
	Field string
	// Reason is one of reason.Fields.
	Reason string
	// Value is an unknown word as it was sent.
	Value string
}

// Names in Unread of what is not one field.
const (
	unreadQuery = "(query)"
	unreadBody  = "(body)"
)

// Bounds of what is remembered of unread fields. Of more fields only the first ones are remembered. Unknown names have
// a bound of their own, since they are found before the values are read.
const (
	maxUnknown    = 8
	maxUnread     = 16 + maxUnknown
	maxUnreadText = 64 // bytes
)

// FieldLabel returns a name for metrics of a field that could not be read: that of a known field, or "other".
func FieldLabel(name string) string {
	if place, known := places[foldName(name)]; known && place.field != fieldUnused {
		return canonical[place.field]
	}
	if name == unreadQuery || name == unreadBody {
		return name
	}
	if field, isLeg := strings.CutPrefix(name, legsPrefix); isLeg {
		if place, known := legPlaces[foldName(field)]; known {
			return legLabel(place.field)
		}
	}
	return "other"
}

// FieldLabels returns the names that FieldLabel gives.
func FieldLabels() []string {
	names := []string{unreadQuery, unreadBody, "other"}
	for f, name := range canonical {
		if field(f) != fieldUnused {
			names = append(names, name)
		}
	}
	for f := range legSpellings {
		names = append(names, legLabel(legField(f)))
	}
	return names
}

// legLabel returns the name of a leg's field, in one spelling: senders have many.
func legLabel(f legField) string { return legsPrefix + legSpellings[f][0] + "]" }

// legsPrefix begins the name of a leg's field in Unread: Legs[Status].
const legsPrefix = "Legs["

// unreadList collects unread fields, each name and reason once.
type unreadList []Unread

// add notes a field that could not be read, with the name that Exotel documents. Name and value are cleaned for
// storage.
func (l *unreadList) add(name, why, value string) {
	unread := Unread{Field: clean(name), Reason: why, Value: clean(value)}
	if place, known := places[foldName(name)]; known && place.field != fieldUnused {
		unread.Field = canonical[place.field]
	}
	unknown := 0
	for _, known := range *l {
		if known.Field == unread.Field && known.Reason == unread.Reason {
			return
		}
		if known.Reason == reason.FieldUnknown {
			unknown++
		}
	}
	if why == reason.FieldUnknown && unknown < maxUnknown ||
		why != reason.FieldUnknown && len(*l)-unknown < maxUnread-maxUnknown {
		*l = append(*l, unread)
	}
}

// clean bounds a sender's text and leaves only what can be printed.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s[:min(len(s), maxUnreadText)])
}

// reasonOf is the reason that an error of package bounded stands for.
func reasonOf(err error) string {
	if errors.Is(err, bounded.ErrMalformed) {
		return reason.FieldMalformed
	}
	return reason.FieldTooLarge
}
