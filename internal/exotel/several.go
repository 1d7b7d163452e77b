package exotel

// maxEvents bounds the events of one request.
const maxEvents = 64

// Events returns the events of a request whose body is a list of several: a request for each, in their order. It
// returns nil if the request is one event, and if the list cannot be separated as a whole: ParseEvent rejects it then.
// Each body refers to the text of the list.
func Events(r Request) []Request {
	request := decoded(r)
	if !request.isList() {
		return nil
	}
	bodies, ok := elements(request.Body)
	if !ok || len(bodies) < 2 {
		return nil
	}
	events := make([]Request, len(bodies))
	for i, body := range bodies {
		// The header names one event, and there are several.
		events[i] = Request{Method: r.Method, ContentType: mediaJSON, RawQuery: r.RawQuery, Body: body}
	}
	return events
}

// isList reports whether the body is read as a list of JSON.
func (r *Request) isList() bool {
	if !isList(r.Body) {
		return false
	}
	media, _ := mediaType(*r)
	return media == mediaJSON
}

// elements returns the elements of a list of JSON. It reports false if there are too many, if one cannot be read, and
// if text follows the list.
func elements(list []byte) (bodies [][]byte, ok bool) {
	decoder := lenientDecoder(list)
	_, _ = decoder.ReadToken() // an error comes again
	for decoder.PeekKind() != ']' {
		value, err := decoder.ReadValue()
		if err != nil || len(bodies) == maxEvents {
			return nil, false
		}
		end := decoder.InputOffset()
		bodies = append(bodies, list[end-int64(len(value)):end:end])
	}
	_, err := decoder.ReadToken()
	return bodies, err == nil && isBlank(list[decoder.InputOffset():])
}
