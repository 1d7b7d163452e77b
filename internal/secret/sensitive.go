package secret

import (
	"encoding/base64"
	"errors"
	"log/slog"
)

// Sensitive is a string that no log, error or %v prints. Reveal returns it.
type Sensitive string

// String hides the value.
func (Sensitive) String() string { return "[redacted]" }

// GoString hides the value from %#v.
func (Sensitive) GoString() string { return "[redacted]" }

// LogValue hides the value from slog.
func (Sensitive) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Reveal returns the value itself.
func (s Sensitive) Reveal() string { return string(s) }

// MarshalText writes the value in base64. A signing secret may have any bytes, and JSON would replace invalid UTF-8, which
// makes another secret that is easier to guess.
func (s Sensitive) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, []byte(s)), nil
}

// UnmarshalText reads what MarshalText wrote. Its error quotes nothing of it.
func (s *Sensitive) UnmarshalText(text []byte) error {
	b, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return errors.New("a secret is not in base64")
	}
	*s = Sensitive(b)
	return nil
}
