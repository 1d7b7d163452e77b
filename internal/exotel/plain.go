package exotel

import (
	"bytes"
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"
)

// This file is about webhooks that a relay or a client has encoded again: as UTF-16, as a field of a form, as the
// escaped name of one, or as a string of JSON.

// maxWraps is how often a body may be encoded in JSON strings and forms.
const maxWraps = 3

// decoded returns a request with its body as it is read. It costs nothing for a body that Exotel sends.
func decoded(r Request) Request {
	r.Body = utf8Body(r.Body)
	for range maxWraps {
		how := wrappingOf(r.Body)
		if how == notWrapped || how.isField() && namesCall(r.RawQuery) {
			break
		}
		inner, ok := how.unwrap(r.Body)
		if !ok {
			break
		}
		r.ContentType = mediaJSON
		r.Body = inner
	}
	return r
}

// isWrapped reports whether decoded may change a body.
func isWrapped(body []byte) bool {
	order, _ := utf16Order(body)
	return order != nil || wrappingOf(bytes.TrimPrefix(body, byteOrderMark)) != notWrapped
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
			r = pair
			text = text[2:]
		}
		plain = utf8.AppendRune(plain, r)
	}
	if len(text) > 0 {
		plain = append(plain, 0xFF)
	}
	return plain
}
