package exotel

import (
	"net/url"
	"strings"
)

// escapes begin an escaped character in a URL that was escaped as a whole, once and twice.
var escapes = []string{"%", "%25"}

// redactEscaped is redactText for URLs that were escaped as a whole: https%3A%2F%2Frecordings.exotel.com%2Fa.mp3%3Fb.
func redactEscaped(text string, resources []string) (left string, changed bool) {
	if !strings.Contains(text, "%") {
		return text, false
	}
	escaped := resources
	for _, escape := range escapes {
		next := make([]string, len(escaped))
		for i, r := range escaped {
			next[i] = url.QueryEscape(r)
		}
		escaped = next
		var pieces strings.Builder
		start := 0
		for at := 0; at < len(text); at++ {
			if isMark(text[at:], escape) && endsInEscaped(text[start:at], escaped, escape) {
				pieces.WriteString(text[start:at])
				start = at + escapedQuery(text[at:], escape)
				at = start - 1
				changed = true
			}
		}
		pieces.WriteString(text[start:])
		text = pieces.String()
	}
	return text, changed
}

// isMark reports whether a text begins with the escaped mark of a query or fragment.
func isMark(text, escape string) bool {
	code, found := strings.CutPrefix(text, escape)
	return found && (hasPrefixFold(code, "3F") || hasPrefixFold(code, "23"))
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func cutSuffixFold(s, suffix string) (before string, found bool) {
	at := len(s) - len(suffix)
	if at < 0 || !strings.EqualFold(s[at:], suffix) {
		return s, false
	}
	return s[:at], true
}

// endsInEscaped is endsIn for one of these resources, which are escaped.
func endsInEscaped(text string, resources []string, escape string) bool {
	for _, r := range resources {
		before, found := cutSuffixFold(text, r)
		if !found {
			continue
		}
		if without, two := cutSuffixFold(before, escape+"2F"+escape+"2F"); two {
			if _, scheme := cutSuffixFold(without, escape+"3A"); scheme {
				return true
			}
			before = without
		}
		if before == "" || !inURL(before[len(before)-1]) || endsInCode(before, escape) {
			return true
		}
	}
	return false
}

// endsInCode reports whether a text ends in an escaped character that ends a query, or that is a comma.
func endsInCode(text, escape string) bool {
	for _, code := range append([]string{"2C"}, queryEnds...) {
		if _, found := cutSuffixFold(text, escape+code); found {
			return true
		}
	}
	return false
}

// queryEnds are the codes of characters that end the query of a URL.
var queryEnds = []string{"20", "22", "27", "3C", "3E", "5C"}

// escapedQuery is the length of the escaped query and fragment at the start of a text. They end before anything that is
// not escaped and should be, and before the next URL of a list.
func escapedQuery(text, escape string) int {
	for at := range len(text) {
		c := text[at]
		code, found := strings.CutPrefix(text[at:], escape)
		ends := found && hasPrefixFold(code, "2Chttp")
		for _, end := range queryEnds {
			ends = ends || found && hasPrefixFold(code, end)
		}
		unreserved := isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'z' || strings.IndexByte("-._~%+", c) >= 0
		if ends || !unreserved {
			return at
		}
	}
	return len(text)
}
