// Package bounded reads JSON and forms from senders that nobody has verified. What it returns has a bounded size,
// whatever the input is.
package bounded

import (
	"errors"
	"net/url"
	"strings"
)

// Limits are the bounds of one document. A reader stops at the first of them.
type Limits struct {
	// Values is the number of values. In JSON, lists, objects and nulls count too.
	Values int
	// Depth is the depth of the deepest value of JSON. The outermost value has depth 0.
	Depth int
	// Text is the size of one name or value in bytes, without its escapes.
	Text int
	// Total is the size of all names and values together in bytes, without their escapes.
	Total int
}

// Names are the names of members that a reader keeps, with the names below each. Nil keeps every member.
type Names map[string]*Members

// Members are the names that a reader keeps below a member. A nil pointer keeps all of them.
type Members struct{ Names Names }

// Errors of the readers.
var (
	// ErrMalformed means that the input does not follow the syntax.
	ErrMalformed = errors.New("the syntax is wrong")
	// ErrTooDeep means that a value lies deeper than Limits.Depth.
	ErrTooDeep = errors.New("the values are nested too deep")
	// ErrTooLarge means that the input exceeds another of the Limits.
	ErrTooLarge = errors.New("the values are too many or too long")
)

// meter counts what a document becomes in memory.
type meter struct {
	Limits
	values, total int
}

// value counts one more value.
func (m *meter) value() error {
	if m.values++; m.values > m.Values {
		return ErrTooLarge
	}
	return nil
}

// text counts the bytes of a name or value.
func (m *meter) text(bytes int) error {
	if m.total += bytes; bytes > m.Text || m.total > m.Total {
		return ErrTooLarge
	}
	return nil
}

// Pair is a field of a form.
type Pair struct{ Name, Value string }

// copied is the size of a form that is worth one copy instead of a copy of each field, in bytes.
const copied = 64 << 10

// Form returns the fields of a form in their order, a name that occurs twice included. After an error it returns the
// fields before the error.
func Form[T ~string | ~[]byte](raw T, limits Limits, only Names) ([]Pair, error) {
	m := meter{Limits: limits}
	if len(raw) <= copied {
		return form(&m, string(raw), only)
	}
	return form(&m, raw, only)
}

func form[T ~string | ~[]byte](m *meter, raw T, only Names) (pairs []Pair, err error) {
	for start := 0; start < len(raw); {
		end := start
		for end < len(raw) && raw[end] != '&' {
			end++
		}
		part := raw[start:end]
		start = end + 1
		if len(part) == 0 {
			continue
		}
		if m.value() != nil || len(part)/6 > m.Text { // an escaped byte takes three, and there are a name and a value
			return pairs, ErrTooLarge
		}
		pair, err := m.pair(string(part), only)
		if err != nil {
			return pairs, err
		}
		if _, wanted := only[pair.Name]; wanted || only == nil {
			pairs = append(pairs, pair)
		}
	}
	return pairs, nil
}

// pair reads name=value. It leaves out the value of a field that is not wanted, but not its syntax.
func (m *meter) pair(part string, only Names) (p Pair, err error) {
	if strings.Contains(part, ";") {
		return p, ErrMalformed // readers disagree on whether it ends a field
	}
	name, value, _ := strings.Cut(part, "=")
	if p.Name, err = m.unescape(name); err != nil {
		return p, err
	}
	if _, wanted := only[p.Name]; !wanted && only != nil {
		m.total -= len(p.Name)
		return p, checkEscapes(value)
	}
	p.Value, err = m.unescape(value)
	return p, err
}

func (m *meter) unescape(s string) (string, error) {
	if len(s) > 3*m.Text { // an escaped byte takes three
		return "", ErrTooLarge
	}
	plain, err := url.QueryUnescape(s)
	if err != nil {
		return "", ErrMalformed
	}
	return plain, m.text(len(plain))
}

// checkEscapes returns ErrMalformed for a percent sign that two hexadecimal digits do not follow.
func checkEscapes(s string) error {
	for {
		at := strings.IndexByte(s, '%')
		if at < 0 {
			return nil
		}
		if len(s) < at+3 || !isHex(s[at+1]) || !isHex(s[at+2]) {
			return ErrMalformed
		}
		s = s[at+3:]
	}
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }
