package agent

import (
	"encoding/json"
	"fmt"
)

// control is a message without audio, of either side, as far as a translation needs it. encoding/json takes keys in any casing.
type control struct {
	Event string
	Mark  struct{ Name string }
	Name  string // of a mark, without an object around it
	DTMF  struct {
		Digit    string
		Duration loose
	}
	Digit    string // one of Exotel's pages shows it without an object around it
	Duration loose
	Stop     struct{ Reason string }
	Reason   string
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
	c.Name = first(c.Mark.Name, c.Name)
	c.Digit = first(c.DTMF.Digit, c.Digit)
	c.Duration = loose(first(string(c.DTMF.Duration), string(c.Duration)))
	c.Reason = first(c.Stop.Reason, c.Reason)
	return c, nil
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// appendJSON appends v, which is made of strings, numbers and maps of them.
func appendJSON(dst []byte, v any) []byte {
	data, err := json.Marshal(v)
	if err != nil { // cannot be, with such values
		panic(err)
	}
	return append(dst, data...)
}
