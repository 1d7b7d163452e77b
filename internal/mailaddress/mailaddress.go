// Package mailaddress knows which email addresses name accounts.
package mailaddress

import (
	"errors"
	"regexp"
	"strings"
)

// Bounds of an email (RFC 5321, section 4.5.3.1).
const (
	maxLength = 254
	maxLocal  = 64
)

// form is a dot-atom, an @, and a domain of at least two labels: what every mail server delivers. Quoted and
// commented forms, addresses in brackets and letters beyond ASCII are left out; a domain beyond ASCII is written in
// its xn-- form.
var form = regexp.MustCompile(`^[a-z0-9!#$%&'*+/=?^_{|}~\x60-]+(\.[a-z0-9!#$%&'*+/=?^_{|}~\x60-]+)*@` +
	`([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// errInvalid is the error of an invalid email. It quotes nothing, since people type passwords into the wrong field.
var errInvalid = errors.New(
	"must be an email address such as name@example.com; write a domain with letters beyond ASCII in its xn-- form",
)

// Normalize returns the form in which an email names an account: without spaces around it, in lower case. ASCII has no other forms.
func Normalize(s string) (string, error) {
	s = strings.TrimSpace(s)
	if len(s) > maxLength {
		return "", errInvalid
	}
	for i := range len(s) {
		if s[i] >= 0x80 { // lower case would make an ASCII letter of some
			return "", errInvalid
		}
	}
	s = strings.ToLower(s)
	if !form.MatchString(s) || strings.IndexByte(s, '@') > maxLocal {
		return "", errInvalid
	}
	return s, nil
}
