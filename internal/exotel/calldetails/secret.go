package calldetails

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "(redacted)"

// Secret is a string that no formatting, encoding or logging of it or of what holds it shows.
type Secret string

// Format writes the same for every verb, %#v and %x included.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue is what slog writes.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText is what encoding/json and its like write.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
