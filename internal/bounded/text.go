package bounded

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// ellipsis ends a text that was cut.
const ellipsis = " ..."

// Text returns words of another host, or a text with some in it, as statuses, logs and rows can show them: in valid
// UTF-8, with a space in place of every character that does not print, and at most most bytes long. An escape sequence
// would otherwise reach the terminal of a person who reads the text.
func Text(text string, most int) string {
	cut := len(text) > most
	if cut {
		end := max(most-len(ellipsis), 0)
		for end > 0 && !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	if cut {
		text += ellipsis
	}
	return text
}
