package exotel

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// maxEvents bounds the events of one request that are stored by themselves. The rest of the request is one event more.
const maxEvents = 64

// Events returns the events of a request whose body is a list of several: a request for each, in their order. It
// returns nil if the request is one event. Each body refers to the text of the list. What cannot be read as a list,
// and what follows the 64th event, is in the last request: ParseEvent applies the first event in it and notes that
// there is more.
func Events(r Request) []Request {
	p := decoded(r)
	media, _ := mediaType(p)
	if media != mediaJSON || !isList(p.Body) {
		return nil
	}
	bodies := elements(p.Body)
	if len(bodies) < 2 {
		return nil
	}
	events := make([]Request, len(bodies))
	for i, body := range bodies {
		// The header names one event, and there are several.
		events[i] = Request{Method: r.Method, ContentType: mediaJSON, RawQuery: r.RawQuery, Body: body}
	}
	return events
}

// elements returns the elements of a list of JSON. The last one is the rest of the text if there are too many
// elements or if one cannot be read.
func elements(list []byte) (bodies [][]byte) {
	d := jsontext.NewDecoder(bytes.NewBuffer(list), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if _, err := d.ReadToken(); err != nil {
		return nil
	}
	for d.PeekKind() != ']' {
		start := d.InputOffset()
		value, err := d.ReadValue()
		switch {
		case err != nil && len(rest(list[start:])) == 0: // the end of the list was cut, and no event
			return bodies
		case err != nil:
			return append(bodies, rest(list[start:]))
		case len(bodies) == maxEvents:
			return append(bodies, append([]byte("["), rest(list[start:])...))
		}
		end := d.InputOffset()
		bodies = append(bodies, list[end-int64(len(value)):end:end])
	}
	if after := bytes.TrimSpace(list[d.InputOffset():]); !bytes.Equal(after, []byte("]")) {
		bodies = append(bodies, after[1:])
	}
	return bodies
}

// rest returns the elements of a list from one on, without the comma before it.
func rest(text []byte) []byte {
	return bytes.TrimLeft(text, ", \t\r\n")
}
