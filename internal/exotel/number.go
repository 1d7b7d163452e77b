package exotel

import (
	"slices"
	"strings"
)

// Spellings returns the texts with which Exotel may have written a telephone number, the given one first: with and
// without India's prefix, with 0 after that prefix, and with 0, 00, +, +0 and +00 before it. A text that is not a
// telephone number has one spelling.
func Spellings(number string) []string {
	list := []string{number}
	core := strings.TrimLeft(strings.Map(dialable, number), "+0")
	if strings.Trim(core, "0123456789") != "" || len(core) < 7 || len(core) > 15 {
		return list
	}
	forms := []string{core}
	national, ok := indian(core)
	if len(core) == 10 {
		national = core
		ok = true
	}
	if ok {
		forms = append(forms, "91"+national, national, "910"+national)
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

// SameNumber returns one spelling for all telephone numbers in E.164 that E164 returns for a common text. Ten digits
// are read with and without India's prefix, so +918047491899 and +8047491899 are the same number here: the owner of
// one of them must own the other.
func SameNumber(e164 string) string {
	if digits := strings.TrimPrefix(e164, "+"); len(digits) == 10 && digits[0] != '0' {
		return "+91" + digits
	}
	return e164
}

// E164 returns the numbers in E.164 that a number as Exotel writes it may mean. The spellings of +918047491899 are:
//
//   - +918047491899 and 918047491899 with the country [S]. In a query the plus sign may be lost or read as a blank.
//   - 00918047491899 with the international prefix (third parties).
//   - 08047491899 and 8047491899, national, with or without the trunk prefix [S].
//   - 0918047491899, also after 00 or +, with the trunk prefix before the country (third parties).
//   - +08047491899 and +9108047491899, with the trunk prefix after the plus sign or the country (third parties).
//
// National numbers are those of India.
func E164(number string) []string {
	digits := strings.Map(dialable, number)
	international := strings.HasPrefix(digits, "+")
	if rest, ok := strings.CutPrefix(digits, "00"); ok {
		digits = rest
		international = true
	}
	digits = strings.TrimPrefix(digits, "+")
	if national, ok := indian(digits); ok {
		return []string{"+91" + national}
	}
	switch {
	case strings.Trim(digits, "0123456789") != "" || len(digits) < 7 || len(digits) > 15:
		return nil
	case international && digits[0] != '0':
		return []string{"+" + digits}
	case digits[0] == '0':
		return nil
	case len(digits) == 10:
		return []string{"+91" + digits, "+" + digits}
	}
	return []string{"+" + digits}
}

// trunks are what may stand before the ten digits of a national number of India, after the plus sign or 00.
var trunks = []string{"0", "091", "910", "91"}

// indian returns the ten digits of a number that is written with a trunk prefix or the country.
func indian(digits string) (national string, ok bool) {
	at := len(digits) - 10
	if at < 1 || !slices.Contains(trunks, digits[:at]) || strings.Trim(digits, "0123456789") != "" ||
		digits[at] == '0' {
		return "", false
	}
	return digits[at:], true
}
