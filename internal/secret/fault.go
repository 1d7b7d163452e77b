// Package secret has the type of values that must not be printed, and checks the bytes of Secrets. A line break at the
// end, a blank or a quote that was copied with the value makes a credential that the other side refuses, with a message
// about something else.
package secret

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Fault returns what in a value its author cannot have meant, and what to do; empty if there is nothing.
// It quotes nothing of the value. The value is one that people and other services write as text: a key that may be
// any bytes, or a file of several lines, is not.
func Fault(value string) string {
	switch {
	case strings.HasSuffix(value, "\n"), strings.HasSuffix(value, "\r"):
		return "ends in a line break: make the Secret with --from-literal, or from a file without one"
	case !utf8.ValidString(value):
		return "is not text in UTF-8: copy it again"
	case strings.ContainsRune(value, 0):
		return "has a NUL byte in it: copy it again"
	case strings.ContainsFunc(value, unicode.IsControl):
		return "has a control character in it, such as a line break: copy it again, on one line"
	case strings.TrimFunc(value, blank) != value:
		return "begins or ends with a blank or an invisible character: remove it"
	case quoted(value):
		return "is in quotes, which are a part of the value: remove them"
	}
	return ""
}

// blank reports whether a character is not seen at the end of a line: a space, or a mark such as that of a byte order.
func blank(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) }

func quoted(value string) bool {
	const shortest = len(`""`)
	if len(value) < shortest {
		return false
	}
	first := value[0]
	last := value[len(value)-1]
	return first == last && strings.IndexByte("\"'`", first) >= 0
}
