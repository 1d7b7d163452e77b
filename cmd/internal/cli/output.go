package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
)

// ParseWhen reads a time, or how long ago it was.
func ParseWhen(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if wait, err := time.ParseDuration(s); err == nil && wait >= 0 {
		return now.Add(-wait), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf(
		"--%s %q is neither a duration such as 24h nor a time such as 2026-01-31T10:00:00Z", flag, s,
	)
}

// Dash returns the text, safe to print, or "-" if it is empty, so that table columns stay aligned.
func Dash(s string) string {
	if s == "" {
		return "-"
	}
	return Clean(s)
}

// Clean makes a sender's text harmless to a terminal, and one word or line of it.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// PrintJSON prints v with an indentation of two spaces. Characters that a terminal may obey are escaped, also those that
// JSON allows as they are.
func PrintJSON(w io.Writer, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, r := range string(data) {
		switch { // only strings have a character that is not printable
		case r == '\n' || unicode.IsPrint(r):
			text.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&text, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&text, `\u%04x`, r)
		}
	}
	text.WriteByte('\n')
	_, err = io.WriteString(w, text.String())
	return err
}

// PrintTable prints aligned columns. line returns the cells of a row, separated by tabs.
func PrintTable[T any](w io.Writer, heading string, rows []T, line func(T) string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, heading)
	for _, r := range rows {
		_, _ = fmt.Fprintln(t, line(r))
	}
	return t.Flush()
}
