package exotel

import (
	"net/url"
	"strings"

	"github.com/caly-dev/caly/internal/bounded"
)

// RedactURL removes the query of a URL wherever a webhook names the URL, in its raw query and its body, and reports
// whether it did. source is the URL without a query. What is left reads as before, but for that query: a replay finds
// the same call and the same recording.
func RedactURL(r Request, source string) (Request, bool) {
	query, inQuery := redactForm(r.RawQuery, source)
	text := string(utf8Body(r.Body)) // a redacted body is stored as UTF-8
	body := text
	inBody := false
	if media, _ := mediaType(r); media == "" {
		body, inBody = redactForm(text, source)
	}
	if !inBody { // a body of another type, or of another one than it says
		body, inBody = redactText(text, source)
	}
	if r.RawQuery = query; inBody {
		r.Body = []byte(body)
	}
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
			pairs[i] = name + "=" + url.QueryEscape(text)
			changed = true
		}
	}
	return strings.Join(pairs, "&"), changed
}

// redactText removes the queries and fragments that follow a URL in a text, JSON among others, where slashes may be
// escaped. The URL may lack its scheme: //host/path or host/path, as recordingURL reads them.
func redactText(text, source string) (string, bool) {
	_, resource, found := strings.Cut(source, "://")
	if !found || resource == "" {
		return text, false
	}
	resources := []string{resource}
	if host, path, _ := strings.Cut(resource, "/"); !strings.Contains(host, ":") {
		resources = append(resources, host+":80/"+path, host+":443/"+path)
	}
	var left strings.Builder
	start := 0
	for at := 0; at < len(text); {
		c, width := firstByte(text[at:])
		if (c == '?' || c == '#') && endsInAny(text[start:at], resources) {
			left.WriteString(text[start:at])
			at += width + queryLength(text[at+width:])
			start = at
			continue
		}
		at += width
	}
	if left.Len() == 0 {
		return redactEscaped(text, resources)
	}
	left.WriteString(text[start:])
	rest, _ := redactEscaped(left.String(), resources)
	return rest, true
}

// endsInAny reports whether a text ends in one of these resources, each a host and a path.
func endsInAny(text string, resources []string) bool {
	for _, r := range resources {
		if endsIn(text, r) {
			return true
		}
	}
	return false
}

// endsIn reports whether a text ends in a host and a path, and with nothing before them that makes them a part of
// another host or path. The case of letters does not count.
func endsIn(text, resource string) bool {
	for len(resource) > 0 {
		c, before, found := cutLast(text)
		last := resource[len(resource)-1]
		if !found || lower(c) != lower(last) {
			return false
		}
		text = before
		resource = resource[:len(resource)-1]
	}
	c, before, found := cutLast(text)
	if !found || c != '/' {
		return !found || !inURL(c) || endsInBlank(text)
	}
	if c, before, found = cutLast(before); !found || c != '/' {
		return false
	}
	c, _, found = cutLast(before)
	return !found || c == ':' || !inURL(c) || endsInBlank(before)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// inURL reports whether a byte before a host or path makes it a part of something else.
func inURL(c byte) bool {
	return bounded.IsHex(c) || 'g' <= c|0x20 && c|0x20 <= 'z' || strings.IndexByte("/-._~%@:", c) >= 0 || c >= 0x80
}

// queryLength is the length of the rest of a query and fragment at the start of a text. They end before a blank, a
// quote, an angle bracket, a backslash that escapes neither a slash nor a character by its number, and the next URL of
// a list.
func queryLength(text string) int {
	for at := 0; at < len(text); {
		c, width := firstByte(text[at:])
		switch {
		case c <= ' ' || strings.IndexByte(`"'<>\`, c) >= 0:
			return at
		case c == ',' && startsURL(plain(text[at+width:])):
			return at
		}
		at += width
	}
	return len(text)
}
