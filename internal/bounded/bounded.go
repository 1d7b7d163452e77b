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
	// Lenient makes a reader go on after a pair of a form that it cannot read, and after a value of JSON that is too
	// deep or too long. The Fault of the pair or value says why it has no text. The other limits still end the reading.
	Lenient bool
	// Repeats makes a reader of JSON return every member of an object whose name occurs more than once, instead of the
	// last of them.
	Repeats bool
	// Key returns the key in Names for a name of the document. Nil stands for the name itself.
	Key func(name string) string
}

// find reports whether a name is wanted, and returns the names below it. Nil Names want every name.
func (l *Limits) find(only Names, name string) (members *Members, wanted bool) {
	if only == nil {
		return nil, true
	}
	if l.Key != nil {
		name = l.Key(name)
	}
	members, wanted = only[name]
	return members, wanted
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

// text counts the bytes of a name or value. A text that is too long by itself is not counted.
func (m *meter) text(bytes int) error {
	if bytes > m.Text {
		return ErrTooLarge
	}
	if m.total += bytes; m.total > m.Total {
		return ErrTooLarge
	}
	return nil
}

// full reports whether nothing more may be read, even by a lenient reader.
func (m *meter) full() bool { return m.values > m.Values || m.total > m.Total }

// Pair is a field of a form.
type Pair struct {
	Name, Value string
	// Fault is why a lenient reader did not read the pair: ErrMalformed or ErrTooLarge. Value is as it was sent, or
	// empty if it is too long. Name is as it was sent if it cannot be read either, but for what exceeds 64 bytes.
	Fault error
}

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
		if m.value() != nil {
			return pairs, ErrTooLarge
		}
		pair, err := pairOf(m, part, only)
		if err != nil && (!m.Lenient || m.full()) {
			return pairs, err
		}
		pair.Fault = err
		if _, wanted := m.find(only, pair.Name); wanted {
			pairs = append(pairs, pair)
		}
	}
	return pairs, nil
}

// maxFaultName bounds the name of a pair that cannot be read, in bytes.
const maxFaultName = 64

// pairOf reads a part of a form, but only the name of one that exceeds Limits.Text whatever it holds: an escaped byte
// takes three, and there are a name and a value.
func pairOf[T ~string | ~[]byte](m *meter, part T, only Names) (Pair, error) {
	if len(part)/6 > m.Text {
		name, _, _ := strings.Cut(string(part[:min(len(part), maxFaultName)]), "=")
		return Pair{Name: name}, ErrTooLarge
	}
	return m.pair(string(part), only)
}

// pair reads name=value. It leaves out the value of a field that is not wanted, but not its syntax.
func (m *meter) pair(part string, only Names) (p Pair, err error) {
	name, value, _ := strings.Cut(part, "=")
	if p.Name, err = m.unescape(name); err != nil {
		return m.sent(name[:min(len(name), maxFaultName)], value, err)
	}
	if strings.Contains(part, ";") { // readers disagree on whether it ends a field
		return m.sent(p.Name, value, ErrMalformed)
	}
	if _, wanted := m.find(only, p.Name); !wanted {
		m.total -= len(p.Name)
		return p, checkEscapes(value)
	}
	if p.Value, err = m.unescape(value); err != nil {
		return m.sent(p.Name, value, err)
	}
	return p, nil
}

// sent returns a pair that cannot be read, as it was sent.
func (m *meter) sent(name, value string, err error) (Pair, error) {
	if m.text(len(value)) != nil {
		value = ""
	}
	return Pair{Name: name, Value: value}, err
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
		if len(s) < at+3 || !IsHex(s[at+1]) || !IsHex(s[at+2]) {
			return ErrMalformed
		}
		s = s[at+3:]
	}
}

// IsHex reports whether a byte is a hexadecimal digit.
func IsHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }
