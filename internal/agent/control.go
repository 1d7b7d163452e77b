package agent

import (
	"cmp"
	"encoding/json"
	"fmt"
)

// control is a message without audio, of either side, as far as a translation needs it. encoding/json takes keys in any casing.
type control struct {
	Event string
	Mark  part
	Name  loose // of a mark, without an object around it
	DTMF  part
	Digit loose // one of Exotel's pages shows it without an object around it
	Stop  part

	Duration loose
	Reason   loose
}

// part is the object of a message that is named like its event. Some senders have a string or a number in its place.
type part struct {
	Name     loose
	Digit    loose
	Duration loose
	Reason   loose
	Bare     loose `json:"-"` // what stood in place of the object
}

// UnmarshalJSON takes values of every type: one that says nothing must not cost the message.
func (p *part) UnmarshalJSON(data []byte) error {
	type object part
	if json.Unmarshal(data, (*object)(p)) != nil {
		return p.Bare.UnmarshalJSON(data)
	}
	return nil
}

// loose is a number, quoted or not.
type loose string

// UnmarshalJSON takes a string or a number, and everything else as nothing.
func (l *loose) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*l = loose(s)
		return nil
	}
	var n json.Number
	if json.Unmarshal(data, &n) == nil {
		*l = loose(n)
	}
	return nil
}

func parseControl(raw []byte) (control, error) {
	var c control
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	c.Name = cmp.Or(c.Mark.Name, c.Mark.Bare, c.Name)
	c.Digit = cmp.Or(c.DTMF.Digit, c.DTMF.Bare, c.Digit)
	c.Duration = cmp.Or(c.DTMF.Duration, c.Duration)
	c.Reason = cmp.Or(c.Stop.Reason, c.Stop.Bare, c.Reason)
	return c, nil
}

// appendJSON appends v, which is made of strings, numbers and maps of them.
func appendJSON(dst []byte, v any) []byte {
	data, err := json.Marshal(v)
	if err != nil { // cannot be, with such values
		panic(err)
	}
	return append(dst, data...)
}
