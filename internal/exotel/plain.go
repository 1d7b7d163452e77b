package exotel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/url"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caly-dev/caly/internal/bounded"
)

// This file is about webhooks that a relay or a client has encoded again: as UTF-16, as a field of a form, as the
// escaped name of one, or as a string of JSON.

// maxWraps is how often a body may be encoded in JSON strings and forms.
const maxWraps = 3

// decoded returns a request with its body as it is read. It costs nothing for a body that Exotel sends.
func decoded(r Request) Request {
	r.Body = utf8Body(r.Body)
	for range maxWraps {
		inner, wrapped := unwrap(r.Body)
		if !wrapped {
			break
		}
		r.ContentType, r.Body = mediaJSON, inner
	}
	return r
}

// isWrapped reports whether decoded changes a body.
func isWrapped(body []byte) bool {
	if order, _ := utf16Order(body); order != nil {
		return true
	}
	_, wrapped := unwrapWith(bytes.TrimPrefix(body, byteOrderMark), func([]byte) ([]byte, bool) { return nil, true })
	return wrapped
}

// utf8Body returns a body in UTF-8 without a byte order mark.
func utf8Body(body []byte) []byte {
	if order, text := utf16Order(body); order != nil {
		body = fromUTF16(text, order)
	}
	return bytes.TrimPrefix(body, byteOrderMark)
}

// utf16Order returns the byte order of a body in UTF-16, and its text without the mark; nil for another body. A body
// without a mark begins with a character of ASCII: no text has NUL.
func utf16Order(body []byte) (order binary.ByteOrder, text []byte) {
	if len(body) < 2 {
		return nil, nil
	}
	switch first, second := body[0], body[1]; {
	case first == 0xFF && second == 0xFE:
		return binary.LittleEndian, body[2:]
	case first == 0xFE && second == 0xFF:
		return binary.BigEndian, body[2:]
	case second == 0 && ' ' <= first && first < utf8.RuneSelf:
		return binary.LittleEndian, body
	case first == 0 && ' ' <= second && second < utf8.RuneSelf:
		return binary.BigEndian, body
	}
	return nil, nil
}

// fromUTF16 returns a text in UTF-8. Half of a surrogate pair and half of a character become bytes that are not UTF-8,
// so that the field that has them is noted.
func fromUTF16(text []byte, order binary.ByteOrder) []byte {
	plain := make([]byte, 0, len(text))
	for ; len(text) >= 2; text = text[2:] {
		r := rune(order.Uint16(text))
		if utf16.IsSurrogate(r) {
			pair := utf8.RuneError
			if len(text) >= 4 {
				pair = utf16.DecodeRune(r, rune(order.Uint16(text[2:])))
			}
			if pair == utf8.RuneError {
				plain = append(plain, 0xFF)
				continue
			}
			r, text = pair, text[2:]
		}
		plain = utf8.AppendRune(plain, r)
	}
	if len(text) > 0 {
		plain = append(plain, 0xFF)
	}
	return plain
}

// unwrap returns the JSON that a body holds in another encoding.
func unwrap(body []byte) (inner []byte, wrapped bool) {
	return unwrapWith(body, func(escaped []byte) ([]byte, bool) {
		text, err := url.QueryUnescape(string(escaped))
		return []byte(text), err == nil
	})
}

// unwrapWith is unwrap with a function that removes the escapes of a form.
func unwrapWith(body []byte, unescape func([]byte) ([]byte, bool)) (inner []byte, wrapped bool) {
	switch start := bytes.TrimLeft(body[:min(len(body), 64)], " \t\r\n"); {
	case len(start) == 0:
		return body, false
	case start[0] == '"':
		return unquoted(body)
	case start[0] == '%' && startsJSON(start):
		return unescape(bytes.TrimSuffix(body, []byte("=")))
	case start[0] == '{' && bytes.HasSuffix(body, []byte("}=")): // the name of a field without a value
		return body[:len(body)-1], true
	case start[0] == '{', start[0] == '[':
		return body, false
	}
	name, value, _ := bytes.Cut(body[:min(len(body), maxName)], []byte("="))
	list := startsJSON(value) && (value[0] == '[' || value[0] == '%' && value[1] == '5')
	if !list || !wrappers[foldName(string(name))] || bytes.IndexByte(body, '&') >= 0 {
		return body, false
	}
	return unescape(body[len(name)+1:])
}

// wrappers are folded names of fields in which relays put a whole webhook.
var wrappers = map[string]bool{"payload": true, "data": true, "json": true, "body": true}

// unwrapFields reads the webhook in a field such as payload={"CallSid":...}. It is for a request that names no call
// outside of such a field: next to a call, a payload is the client's own. It reports whether there is such a field.
func (in *input) unwrapFields() bool {
	var found []text
	for name, value := range in.params {
		object, _, nested := strings.Cut(name, "[")
		if wrappers[foldName(object)] && (nested || startsJSON([]byte(strings.TrimSpace(value)))) {
			found = append(found, text{name: name, value: value})
		}
	}
	slices.SortFunc(found, text.compare)
	for _, t := range found {
		delete(in.params, t.name)
		in.unwrapField(t)
	}
	return len(found) > 0
}

func (in *input) unwrapField(t text) {
	var err error
	in.lossy = false
	if _, member, nested := strings.Cut(t.name, "["); nested {
		member, rest, _ := strings.Cut(member, "]")
		err = in.add(member+rest, t.value)
	} else {
		var v bounded.Value
		v, err = bounded.Document([]byte(t.value), limits, nil)
		err = errors.Join(err, in.flatten("", in.single(v), mayReplace([]byte(t.value))))
	}
	if err != nil {
		in.unread.add(t.name, reasonOf(err), "")
	}
	if err != nil || in.lossy {
		in.params[faulty+t.name] = digestOf([]byte(t.value))
	}
	in.lossy = false
}

// single returns the event of a list of one event. Of more events it returns the first, and notes that there are more:
// package ingest separates them before.
func (in *input) single(v bounded.Value) bounded.Value {
	if v.Kind != '[' || len(v.Items) == 0 {
		return v
	}
	if len(v.Items) > 1 {
		in.unread.add(unreadBody, TooLarge, "")
		in.lossy = true
	}
	return v.Items[0]
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
