package kubectl

import (
	"regexp"
	"strings"
)

// Numbers of this many digits may be telephone numbers.
const (
	leastDigits = 10
	mostDigits  = 15
)

// redacted stands where something was left out.
const redacted = "[redacted]"

// pattern is a form of secrets or personal data in a text, and what stands there instead.
type pattern struct {
	find    *regexp.Regexp
	replace string
}

// sensitiveNames are the names of fields, parameters and headers whose values are secret.
const sensitiveNames = `password|passwd|pwd|secret|token|apikey|api[_-]?key|api[_-]?token|access[_-]?key(?:[_-]?id)?|authorization|` +
	`signature|cookie|otp|credentials?|private[_-]?key|session[_-]?id|refresh`

// patterns are applied in their order. URLs come first: what is in them has many forms.
var patterns = []pattern{
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`), redacted},
	// Of a URL the scheme and the host remain: user, path and query may each be a capability.
	{regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]{1,20}://)[^\s"'<>\\@/]*@`), "${1}"},
	{regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]{1,20}://[^\s"'<>\\/?#]+)[/?#][^\s"'<>\\]*`), "${1}/" + redacted},
	// A URL that was escaped as a whole.
	{regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.-]{1,20}%3A%2F%2F[^\s"'<>]*`), redacted},
	// The token of a webhook, and the query of any path.
	{regexp.MustCompile(`(/(?:webhooks|audio)/exotel/[^\s"'/?]+/[^\s"'/?]+/[^\s"'/?]+)/[^\s"'?]+`), "${1}/" + redacted},
	{regexp.MustCompile(`(/[^\s"'?]*)\?[^\s"']+`), "${1}?" + redacted},
	{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}`), "${1} " + redacted},
	{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*`), redacted},
	{regexp.MustCompile(`\b(?:AKIA|ASIA)[0-9A-Z]{12,}\b`), redacted},
	{regexp.MustCompile(`[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+\.[A-Za-z0-9.-]+`), redacted},
	{regexp.MustCompile(`(?:\+|%2[Bb])\d[\d ().-]{6,18}\d`), redacted},
	{regexp.MustCompile(`\b0?\d{2,5}[ -]\d{3,4}[ -]\d{3,4}\b`), redacted},
}

// named is name: value, "name":"value" or name=value, with a quoted value in full. The name may be a part of a longer one.
var named = regexp.MustCompile(`(?i)([a-z0-9_.-]*(?:` + sensitiveNames + `)[a-z0-9_.-]*)(\\?["']?[ \t]*[:=][ \t]*)` +
	`(\\?"(?:[^"\\]|\\[^"])*\\?"|'[^']*'|[^\s"',;}{\]\[]+)`)

// reference is a name whose value is the name of an object.
var reference = regexp.MustCompile(`(?i)(name|ref|namespace|label|uid)$`)

// redactNamed leaves out values by their names.
func redactNamed(text string) string {
	return named.ReplaceAllStringFunc(text, func(match string) string {
		parts := named.FindStringSubmatch(match)
		if reference.MatchString(parts[1]) || parts[3] == "true" || parts[3] == "false" || parts[3] == "null" {
			return match
		}
		quote := ""
		for _, q := range []string{`\"`, `"`, `'`} {
			if strings.HasPrefix(parts[3], q) {
				quote = q
				break
			}
		}
		return parts[1] + parts[2] + quote + redacted + quote
	})
}

// digits may be a national or international number without a plus sign. The digest of an image is kept.
var digits = regexp.MustCompile(`sha256:[0-9a-f]{64}|\d+`)

// words may be random text. A digest of an image is kept.
var words = regexp.MustCompile(`(?:sha256:)?[A-Za-z0-9+_=]{20,}`)

// redact leaves out of a text what looks like a secret or like personal data.
func redact(text string) string {
	return digits.ReplaceAllStringFunc(redactSecrets(text), func(number string) string {
		if len(number) < leastDigits || len(number) > mostDigits {
			return number
		}
		return redacted
	})
}

// redactSecrets is redact for texts in which long numbers are measurements.
func redactSecrets(text string) string {
	for _, p := range patterns {
		text = p.find.ReplaceAllString(text, p.replace)
	}
	text = redactNamed(text)
	return words.ReplaceAllStringFunc(text, func(word string) string {
		if strings.HasPrefix(word, "sha256:") || !random(word) {
			return word
		}
		return redacted
	})
}

// random reports whether a long word looks like one that a generator made: letters of both cases with digits, or
// hexadecimal digits.
func random(word string) bool {
	lower := strings.ContainsAny(word, "abcdefghijklmnopqrstuvwxyz")
	upper := strings.ContainsAny(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	digit := strings.ContainsAny(word, "0123456789")
	if lower && upper && digit {
		return true
	}
	return len(word) >= 32 && digit && strings.Trim(strings.ToLower(word), "0123456789abcdef") == ""
}
