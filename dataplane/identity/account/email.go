package account

import (
	"errors"
	"regexp"
	"slices"
	"strings"
)

// Bounds of an email (RFC 5321, section 4.5.3.1).
const (
	maxEmail = 254
	maxLocal = 64
)

// emailForm is a dot-atom, an @, and a domain of at least two labels: what every mail server delivers. Quoted and
// commented forms, addresses in brackets and letters beyond ASCII are left out; a domain beyond ASCII is written in
// its xn-- form.
var emailForm = regexp.MustCompile(`^[a-z0-9!#$%&'*+/=?^_{|}~\x60-]+(\.[a-z0-9!#$%&'*+/=?^_{|}~\x60-]+)*@` +
	`([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// errEmail is the error of an invalid email. It quotes nothing, since people type passwords into the wrong field.
var errEmail = errors.New(
	"must be an email address such as name@example.com; write a domain with letters beyond ASCII in its xn-- form",
)

// NormalizeEmail returns the form in which an email names an account: without spaces around it, in lower case. ASCII has no other forms.
func NormalizeEmail(s string) (string, error) {
	s = strings.TrimSpace(s)
	if len(s) > maxEmail {
		return "", errEmail
	}
	for i := range len(s) {
		if s[i] >= 0x80 { // lower case would make an ASCII letter of some
			return "", errEmail
		}
	}
	s = strings.ToLower(s)
	if !emailForm.MatchString(s) || strings.IndexByte(s, '@') > maxLocal {
		return "", errEmail
	}
	return s, nil
}

// domainAllowed tells whether an email's domain is one of the list. An empty list allows any.
func domainAllowed(email string, domains []string) bool {
	_, domain, _ := strings.Cut(email, "@")
	return len(domains) == 0 || slices.Contains(domains, domain)
}
