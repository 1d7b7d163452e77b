package exotel

import (
	"mime"
	"net/url"
	"regexp"
	"strings"
)

// RedactURL removes the query of a URL wherever a webhook names the URL, in its raw query and its body, and reports
// whether it did. source is the URL without a query. What is left reads as before, but for that query: a replay finds
// the same call and the same recording.
func RedactURL(r Request, source string) (Request, bool) {
	query, inQuery := redactForm(r.RawQuery, source)
	body, inBody := string(r.Body), false
	if media, _, _ := mime.ParseMediaType(r.ContentType); media == "application/x-www-form-urlencoded" || media == "" {
		body, inBody = redactForm(body, source)
	}
	if !inBody { // a body of another type, or of another one than it says
		body, inBody = redactText(body, source)
	}
	r.RawQuery, r.Body = query, []byte(body)
	return r, inQuery || inBody
}

// redactForm redacts the values of a form. All other values stay as they are.
func redactForm(form, source string) (string, bool) {
	pairs := strings.Split(form, "&")
	changed := false
	for i, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		text, err := url.QueryUnescape(value)
		if err != nil {
			continue
		}
		if text, redacted := redactText(text, source); redacted {
			pairs[i], changed = name+"="+url.QueryEscape(text), true
		}
	}
	return strings.Join(pairs, "&"), changed
}

// signedURL is a URL with a query in a text, JSON among others, where a slash and other characters may be escaped.
var signedURL = regexp.MustCompile(`(?i)(https?:(?:\\?/){2}(?:[^\s"'<>\\?#]|\\/|\\u[0-9a-f]{4})+)` +
	`\?(?:[^\s"'<>\\]|\\/|\\u[0-9a-f]{4})*`)

func redactText(text, source string) (string, bool) {
	changed := false
	redacted := signedURL.ReplaceAllStringFunc(text, func(match string) string {
		base, _, _ := strings.Cut(match, "?")
		if !sameResource(strings.ReplaceAll(base, `\/`, "/"), source) {
			return match
		}
		changed = true
		return base
	})
	return redacted, changed
}

// sameResource reports whether two URLs differ in their schemes and the case of letters at most.
func sameResource(a, b string) bool {
	_, a, _ = strings.Cut(a, "://")
	_, b, _ = strings.Cut(b, "://")
	return strings.EqualFold(a, b)
}
