package webhook

import (
	"encoding/hex"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// secretWords stand in the names, in lower case, of query fields in which senders carry secrets. No field of Exotel's has one.
var secretWords = []string{"key", "token", "secret", "password", "signature"}

// credentials in a URL that is a field's value: Exotel repeats the agent's address, wss://KEY:TOKEN@host.
var credentials = regexp.MustCompile(`://[^/?#\s"]*@`)

// splitQuery returns a raw query without its secrets, to be read, and with them redacted, to be kept. The name of one more that
// is secret may be given.
func splitQuery(raw, secret string) (fields, kept string) {
	if raw == "" {
		return "", ""
	}
	var toRead, toKeep pairs
	for pair := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(name)
		text, badValue := url.QueryUnescape(value)
		broken := err != nil || badValue != nil || strings.Contains(pair, ";")
		if err == nil && isSecret(name, plain, secret) {
			toKeep.add(name + "=redacted")
			continue
		}
		toRead.add(pair) // broken ones too: the reader notes them
		switch {
		case broken && mayHoldSecret(pair, secret):
			toKeep.add("broken=redacted")
			continue
		case !broken && strings.ContainsAny(text, "@%"):
			if text = withCredentials(text); strings.Contains(text, "@") {
				pair = name + "=" + url.QueryEscape(credentials.ReplaceAllString(text, "://redacted@"))
			}
		}
		toKeep.add(pair)
	}
	return toRead.String(), toKeep.String()
}

// maxEscapes is how often a client may have escaped a value, beyond what the query needs.
const maxEscapes = 3

// withCredentials returns a value without the escapes that hide credentials in it, or as it is if it has none.
func withCredentials(value string) string {
	plain := value
	for range maxEscapes + 1 {
		if credentials.MatchString(plain) {
			return plain
		}
		next, err := url.QueryUnescape(plain)
		if err != nil {
			break
		}
		plain = next
	}
	return value
}

// mayHoldSecret reports whether a pair that cannot be read has the name of a secret or credentials in it.
func mayHoldSecret(pair, secret string) bool {
	plain := strings.ToLower(validEscapes.ReplaceAllStringFunc(pair, func(escape string) string {
		b, err := hex.DecodeString(escape[1:])
		if err != nil {
			return escape
		}
		return string(b)
	}))
	word := slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(plain, w) })
	return word || strings.Contains(plain, "@") || secret != "" && strings.Contains(plain, strings.ToLower(secret))
}

// validEscapes of a query.
var validEscapes = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

// pairs is a raw query that is being written.
type pairs struct {
	strings.Builder
	any bool
}

func (p *pairs) add(pair string) {
	if p.any {
		_ = p.WriteByte('&') // never fails
	}
	_, _ = p.WriteString(pair) // never fails
	p.any = true
}

func isSecret(name, plain, secret string) bool {
	if exact, err := url.PathUnescape(name); err == nil && exact == secret {
		return true
	}
	plain = strings.ToLower(plain)
	return slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(plain, w) })
}
