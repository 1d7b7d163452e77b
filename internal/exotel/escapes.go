package exotel

import (
	"strconv"
	"strings"

	"github.com/caly-dev/caly/internal/bounded"
)

// numbered is the length of a character's number in an escape of JSON, without the backslash: u002f.
const numbered = len("u002f")

// firstByte returns the byte that a text begins with, and its width there. A slash may be escaped, and a character of
// ASCII may stand by its number, both with any number of backslashes: JSON in a string of JSON doubles them each time.
// All backslashes before another character are one byte, a backslash.
func firstByte(text string) (c byte, width int) {
	if text[0] != '\\' {
		return text[0], 1
	}
	rest := strings.TrimLeft(text, `\`)
	slashes := len(text) - len(rest)
	if strings.HasPrefix(rest, "/") {
		return '/', slashes + 1
	}
	if len(rest) >= numbered {
		if c, ok := byNumber(rest[:numbered]); ok {
			return c, slashes + numbered
		}
	}
	return '\\', slashes
}

// cutLast removes from the end of a text what firstByte reads as one byte.
func cutLast(text string) (c byte, before string, found bool) {
	if text == "" {
		return 0, "", false
	}
	if at := len(text) - numbered; at > 0 && text[at-1] == '\\' {
		if c, ok := byNumber(text[at:]); ok {
			return c, strings.TrimRight(text[:at], `\`), true
		}
	}
	c = text[len(text)-1]
	before = text[:len(text)-1]
	if c == '/' {
		before = strings.TrimRight(before, `\`)
	}
	return c, before, true
}

// byNumber returns the character of a number such as u002f. One beyond ASCII is returned as a byte that is not ASCII.
func byNumber(text string) (c byte, ok bool) {
	if text[0] != 'u' {
		return 0, false
	}
	for i := 1; i < len(text); i++ {
		if !bounded.IsHex(text[i]) {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(text[1:], 16, 16)
	return byte(min(n, 0x80)), err == nil
}

// plain returns what comes before the next comma of a text, without its escapes, and no more than startsURL reads.
func plain(text string) string {
	text, _, _ = strings.Cut(text[:min(len(text), 2*maxPlace)], ",")
	if !strings.Contains(text, `\`) {
		return text
	}
	var b strings.Builder
	for text != "" {
		c, width := firstByte(text)
		b.WriteByte(c)
		text = text[width:]
	}
	return b.String()
}

// endsInBlank reports whether a text ends in the escape of a control character, such as \n.
func endsInBlank(text string) bool {
	return len(text) > 1 && text[len(text)-2] == '\\' && strings.IndexByte("bfnrt", text[len(text)-1]) >= 0
}
