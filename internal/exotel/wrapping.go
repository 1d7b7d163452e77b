package exotel

import (
	"bytes"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// wrapping is how a body holds JSON in another encoding.
type wrapping int

const (
	notWrapped wrapping = iota
	// inString is a string of JSON: "{\"CallSid\":...}".
	inString
	// inEscapes is JSON with the escapes of a form: %7B%22CallSid...
	inEscapes
	// inName is the name of a field without a value: {"CallSid":...}=
	inName
	// inFormField is the only field of a form: payload={"CallSid":...}
	inFormField
	// inJSONField is the only member of an object: {"payload":{"CallSid":...}}
	inJSONField
)

// isField reports whether a field of a request holds the JSON.
func (w wrapping) isField() bool { return w == inFormField || w == inJSONField }

// wrappingOf tells from the beginning and the end of a body how it may be wrapped.
func wrappingOf(body []byte) wrapping {
	start := bytes.TrimLeft(body[:min(len(body), 64)], " \t\r\n")
	switch {
	case len(start) == 0:
		return notWrapped
	case start[0] == '"':
		return inString
	case start[0] == '%' && startsJSON(start):
		return inEscapes
	case start[0] == '{' && bytes.HasSuffix(body, []byte("}=")):
		return inName
	case start[0] == '{' && startsWithWrapper(start):
		return inJSONField
	case start[0] == '{', start[0] == '[', start[0] == '-':
		return notWrapped
	}
	name, value, _ := bytes.Cut(body[:min(len(body), maxName)], []byte("="))
	if isWrapper(name) && startsJSON(value) && bytes.IndexByte(body, '&') < 0 {
		return inFormField
	}
	return notWrapped
}

// unwrap returns the JSON that a body holds. It reports false for a body that is not wrapped after all.
func (w wrapping) unwrap(body []byte) (inner []byte, ok bool) {
	switch w {
	case inString:
		return unquoted(body)
	case inEscapes:
		return unescaped(bytes.TrimSuffix(body, []byte("=")))
	case inName:
		return body[:len(body)-1], true
	case inFormField:
		_, value, _ := bytes.Cut(body, []byte("="))
		inner, ok = unescaped(value)
	case inJSONField:
		inner, ok = onlyMember(body)
	case notWrapped:
	}
	return inner, ok && isWhole(inner)
}

// wrappers are names of fields in which relays put a whole webhook.
var wrappers = [][]byte{[]byte("payload"), []byte("data"), []byte("json"), []byte("body")}

func isWrapper(name []byte) bool {
	for _, w := range wrappers {
		if bytes.EqualFold(name, w) {
			return true
		}
	}
	return false
}

// startsWithWrapper reports whether the first member of an object of JSON is a wrapper.
func startsWithWrapper(object []byte) bool {
	name, found := bytes.CutPrefix(bytes.TrimLeft(object[1:], " \t\r\n"), []byte(`"`))
	end := bytes.IndexByte(name, '"')
	return found && end > 0 && isWrapper(name[:end])
}

// onlyMember returns the webhook in the only member of an object, which may be JSON in a string. An object in "data" is
// one of Exotel's, and is read where it is.
func onlyMember(object []byte) (inner []byte, ok bool) {
	decoder := lenientDecoder(object)
	_, _ = decoder.ReadToken() // an error comes again
	name, err := decoder.ReadToken()
	if err != nil {
		return nil, false
	}
	exotels := strings.EqualFold(name.String(), "data")
	value, err := decoder.ReadValue()
	if err != nil {
		return nil, false
	}
	end := decoder.InputOffset()
	inner = object[end-int64(len(value)) : end : end]
	if last, err := decoder.ReadToken(); err != nil || last.Kind() != '}' || !isBlank(object[decoder.InputOffset():]) {
		return nil, false
	}
	if inner[0] == '"' {
		return unquoted(inner)
	}
	return inner, inner[0] != '{' || !exotels
}

// isWhole reports whether a text is one object or list of JSON.
func isWhole(text []byte) bool {
	decoder := lenientDecoder(text)
	if kind := decoder.PeekKind(); kind != '{' && kind != '[' {
		return false
	}
	return decoder.SkipValue() == nil && isBlank(text[decoder.InputOffset():])
}

// lenientDecoder reads what package bounded reads.
func lenientDecoder(text []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true),
		jsontext.AllowInvalidUTF8(true))
}

func isBlank(text []byte) bool { return len(bytes.TrimSpace(text)) == 0 }

// callNames are the spellings of the fields that name a call.
var callNames = namesOf(map[field]bool{fieldCallSID: true, fieldLegSID: true})

// namesCall reports whether a query names a call. A payload next to it is the client's own.
func namesCall(query string) bool {
	in := &input{params: params{}}
	_ = addForm(in, strings.TrimPrefix(query, "?"), callNames) // a call that was read counts
	for name, value := range in.params {
		place, known := places[foldName(name)]
		call := known && (place.field == fieldCallSID || place.field == fieldLegSID)
		if call && !isNothing(strings.TrimSpace(value)) {
			return true
		}
	}
	return false
}

// startsJSON reports whether a text begins as an object or list of JSON does, as it is or as a form escapes it.
func startsJSON(text []byte) bool {
	if len(text) >= len("%7B") && text[0] == '%' {
		return strings.EqualFold(string(text[:3]), "%7B") || strings.EqualFold(string(text[:3]), "%5B")
	}
	return len(text) > 0 && (text[0] == '{' || text[0] == '[')
}

// isList reports whether a text begins as a list of JSON does.
func isList(text []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(text[:min(len(text), 64)], " \t\r\n"), []byte("["))
}

// unescaped returns a text without the escapes of a form.
func unescaped(text []byte) ([]byte, bool) {
	plain, err := url.QueryUnescape(string(text))
	return []byte(plain), err == nil
}

// unquoted returns the JSON in a string of JSON.
func unquoted(body []byte) (inner []byte, wrapped bool) {
	text := bytes.TrimSpace(body)
	start, found := bytes.CutPrefix(text, []byte(`"`))
	if !found || !startsJSON(bytes.TrimLeft(start, ` \"`)) {
		return body, false
	}
	inner, err := jsontext.AppendUnquote(nil, text)
	return inner, err == nil
}
