package bounded

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Value is a value of JSON.
type Value struct {
	// Kind is '{', '[', '"', '0' (a number), 't', 'f' or 'n' (null).
	Kind byte
	// Name is the name of a member of an object.
	Name string
	// Text is a string without its quotes, or a number or boolean as written.
	Text string
	// Fault is why a lenient reader left the value out: ErrTooDeep or ErrTooLarge. A name that is too long is empty.
	Fault error
	// Items are the elements of a list in their order, or the members of an object in the order of their names. Of
	// members with the same name Items has the last, or with Limits.Repeats all of them in their order.
	Items []Value
}

// Document reads data as json.Unmarshal does: invalid UTF-8 becomes U+FFFD. After an error it returns what lies before
// the error. It returns ErrMalformed if anything but white space follows the value.
func Document(data []byte, limits Limits, only Names) (Value, error) {
	reader := newReader(data, limits)
	value, err := reader.read(0, true, only)
	if err != nil {
		return value, err
	}
	if _, err := reader.decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return value, ErrMalformed
	}
	return value, nil
}

type reader struct {
	meter
	decoder *jsontext.Decoder
}

func newReader(data []byte, limits Limits) *reader {
	return &reader{
		meter: meter{Limits: limits},
		decoder: jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true),
			jsontext.AllowInvalidUTF8(true)),
	}
}

// read reads one value. A value that is not kept has a kind and nothing else.
func (r *reader) read(depth int, keep bool, only Names) (Value, error) {
	if depth > r.Depth && !r.Lenient {
		return Value{}, ErrTooDeep
	}
	if err := r.value(); err != nil {
		return Value{}, err
	}
	value := Value{Kind: byte(r.decoder.PeekKind())}
	if depth > r.Depth {
		value.Fault = ErrTooDeep
		return value, syntax(r.decoder.SkipValue())
	}
	if value.Kind == '{' || value.Kind == '[' {
		return value, r.items(&value, depth, keep, only)
	}
	raw, err := r.decoder.ReadValue()
	if err != nil {
		return Value{}, syntax(err)
	}
	if !keep || value.Kind == 'n' {
		return value, nil
	}
	if value.Text, err = r.unquote(raw); err != nil {
		return r.faulty(value.Kind, err)
	}
	return value, nil
}

// faulty returns a value that is left out, or the error if the reader must stop.
func (r *reader) faulty(kind byte, err error) (Value, error) {
	if !r.Lenient || r.full() {
		return Value{}, err
	}
	return Value{Kind: kind, Fault: err}, nil
}

// items reads a list or an object.
func (r *reader) items(v *Value, depth int, keep bool, only Names) error {
	_, err := r.decoder.ReadToken()
	for err == nil && r.decoder.PeekKind() != '}' && r.decoder.PeekKind() != ']' {
		err = r.item(v, depth, keep, only)
	}
	if v.Kind == '{' {
		v.Items = byName(v.Items, r.Repeats)
	}
	if err != nil {
		return syntax(err)
	}
	_, err = r.decoder.ReadToken()
	return syntax(err)
}

// item reads an element of a list, or a member of an object with its name.
func (r *reader) item(v *Value, depth int, keep bool, only Names) (err error) {
	name := ""
	below := Names(nil)
	var fault error
	if v.Kind == '{' {
		wasKept := keep
		if name, below, keep, err = r.name(keep, only); err != nil {
			if _, stop := r.faulty('"', err); stop != nil || !errors.Is(err, ErrTooLarge) {
				return err
			}
			fault = err
			keep = wasKept
		}
	}
	item, err := r.read(depth+1, keep && fault == nil, below)
	if fault != nil {
		item = Value{Kind: item.Kind, Fault: fault}
	}
	if keep && item.Kind != 0 {
		item.Name = name
		v.Items = append(v.Items, item)
	}
	return err
}

// name reads the name of a member, and reports whether its value is wanted.
func (r *reader) name(keep bool, only Names) (name string, below Names, wanted bool, err error) {
	raw, err := r.decoder.ReadValue()
	if err != nil || !keep {
		return "", nil, false, err
	}
	if name, err = r.unquote(raw); err != nil {
		return "", nil, false, err
	}
	members, wanted := r.find(only, name)
	if members != nil {
		below = members.Names
	}
	if !wanted {
		r.total -= len(name)
	}
	return name, below, wanted, nil
}

// unquote returns the text of a string, a number or a boolean.
func (r *reader) unquote(raw jsontext.Value) (text string, err error) {
	switch {
	case len(raw) > 6*r.Text+2: // an escaped byte takes six, and there are two quotes
		return "", ErrTooLarge
	case raw[0] != '"':
		text = string(raw)
	case bytes.IndexByte(raw, '\\') < 0 && utf8.Valid(raw):
		text = string(raw[1 : len(raw)-1])
	default:
		plain, _ := jsontext.AppendUnquote(nil, raw) // the error says that invalid UTF-8 was replaced
		text = string(plain)
	}
	return text, r.text(len(text))
}

// byName sorts members by their names. Of those with the same name it leaves the last, or all.
func byName(members []Value, all bool) []Value {
	slices.SortStableFunc(members, func(a, b Value) int { return strings.Compare(a.Name, b.Name) })
	if all {
		return members
	}
	kept := members[:0]
	for i, m := range members {
		if i+1 == len(members) || members[i+1].Name != m.Name {
			kept = append(kept, m)
		}
	}
	return kept
}

// Member returns the member of an object with a name. A value that is not an object has no members.
func (v Value) Member(name string) (Value, bool) {
	if v.Kind != '{' {
		return Value{}, false
	}
	i, found := slices.BinarySearchFunc(v.Items, name, func(m Value, name string) int {
		return strings.Compare(m.Name, name)
	})
	if !found {
		return Value{}, false
	}
	return v.Items[i], true
}

// syntax returns ErrMalformed for an error of the decoder.
func syntax(err error) error {
	var at *jsontext.SyntacticError
	if errors.As(err, &at) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrMalformed
	}
	return err
}
