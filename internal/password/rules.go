package password

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a password in characters: code points after normalization. Any characters are accepted.
const (
	MinLength = 15
	MaxLength = 256
	// maxBytes bounds what is normalized at all.
	maxBytes = 4 * MaxLength
)

// minBits is what it must take to describe a password by the words, walks and repetitions that people make them of.
const minBits = 30

// Check returns why a password is refused, in words for the person who chose it, or the empty string. Context is what
// an attacker who knows the account would try first: the email, the tenant's name.
func Check(password string, context ...string) string {
	if len(password) > maxBytes {
		return tooLong
	}
	if !utf8.ValidString(password) {
		return "must be text in UTF-8"
	}
	password = normalize(password)
	switch n := utf8.RuneCountInString(password); {
	case n < MinLength:
		return fmt.Sprintf(
			"must have at least %d characters: a few words that do not belong together are easy to keep in mind",
			MinLength,
		)
	case n > MaxLength:
		return tooLong
	}
	if easy(password, contextWords(context)) {
		return "is too easy to guess: it is made of well-known words, names, rows of keys, counting or repetition; " +
			"take a few words that do not belong together"
	}
	return ""
}

var tooLong = fmt.Sprintf("must have at most %d characters", MaxLength)

// contextWords are the parts of the context that count as words, and the platform's own name.
func contextWords(context []string) map[string]bool {
	words := map[string]bool{"caly": true, "exotel": true}
	for _, c := range context {
		c = strings.ToLower(c[:min(len(c), 512)])
		whole := strings.FieldsFunc(c, func(r rune) bool { return r == '@' || r == '/' })
		parts := strings.FieldsFunc(c, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		for _, w := range append(whole, parts...) {
			if utf8.RuneCountInString(w) >= 3 {
				words[w] = true
			}
		}
	}
	return words
}
