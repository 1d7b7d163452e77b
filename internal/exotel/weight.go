package exotel

import (
	"bytes"
	"strings"
)

// Estimates of what a part of a request takes in memory, in bytes: a value of JSON, a field with its place in a map,
// a header of a part, and an event of a list without its text.
const (
	valueWeight  = 128
	fieldWeight  = 96
	headerWeight = 128
	eventWeight  = 2 << 10
	maxHeaders   = 10_000 // that mime/multipart reads of one part
)

// Weight returns how much memory it takes, at most, to read a request's fields, in bytes. The body itself is not
// included.
func Weight(r Request) int64 {
	n := formWeight(len(r.RawQuery), strings.Count(r.RawQuery, "&"))
	if len(r.Body) == 0 {
		return n
	}
	if isWrapped(r.Body) {
		return n + wrappedWeight(r.Body)
	}
	switch media, _ := mediaType(r); media {
	case mediaMultipart:
		colons := bytes.Count(r.Body, []byte(":"))
		return n + int64(
			min(len(r.Body), maxText)+min(colons, maxFields)*fieldWeight+min(colons, maxHeaders)*headerWeight,
		)
	case mediaJSON:
		values := 1
		for _, sign := range []string{",", "[", "{"} {
			values += bytes.Count(r.Body, []byte(sign))
		}
		if isList(r.Body) {
			n += int64(len(r.Body)) + maxEvents*eventWeight
		}
		// A byte of invalid UTF-8 becomes three.
		return n + int64(
			min(3*len(r.Body), maxText)+min(values, maxValues)*valueWeight+min(values, maxFields)*fieldWeight,
		)
	}
	return n + formWeight(len(r.Body), bytes.Count(r.Body, []byte("&")))
}

// wrappedWeight counts what a body becomes, without unwrapping it: JSON, which may be a list of events, or a form or
// parts in UTF-8. UTF-16 becomes up to half as large again, and everything else becomes smaller. Every value follows
// one of the signs, which may be escaped.
func wrappedWeight(body []byte) int64 {
	size := int64(len(body))
	values := 1
	for _, sign := range []string{",", "[", "{", "&", "%", `\`} {
		values += bytes.Count(body, []byte(sign))
	}
	headers := min(bytes.Count(body, []byte(":")), maxHeaders)
	return 2*size + min(3*size, maxText) + int64(min(values, maxValues)*valueWeight+
		min(values, maxFields)*fieldWeight+min(values, maxEvents)*eventWeight+headers*headerWeight)
}

// formWeight counts the text twice: as a string, and without its escapes.
func formWeight(size, separators int) int64 {
	if size == 0 {
		return 0
	}
	return int64(size + min(size, maxText) + min(separators+1, maxValues)*fieldWeight)
}
