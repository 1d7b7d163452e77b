package exotel

import (
	"slices"
	"strings"
)

// Spellings returns the texts with which Exotel may have written a telephone number, the given one first: with and
// without India's prefix, and with 0, 00, + and +0 before it. A text that is not a telephone number has one spelling.
func Spellings(number string) []string {
	list := []string{number}
	core := strings.TrimLeft(strings.Map(dialable, number), "+0")
	if strings.Trim(core, "0123456789") != "" || len(core) < 7 || len(core) > 15 {
		return list
	}
	forms := []string{core}
	switch national, indian := strings.CutPrefix(core, "91"); {
	case len(core) == 10:
		forms = append(forms, "91"+core)
	case indian && len(national) == 10:
		forms = append(forms, national)
	}
	for _, form := range forms {
		for _, prefix := range []string{"+", "", "0", "00", "+0", "+00"} {
			if text := prefix + form; !slices.Contains(list, text) {
				list = append(list, text)
			}
		}
	}
	return list
}

// dialable drops what people put between digits.
func dialable(r rune) rune {
	switch {
	case r >= '0' && r <= '9', r == '+':
		return r
	case strings.ContainsRune(" -().", r):
		return -1
	}
	return 'x' // no telephone number: sip:someone@example.com
}
