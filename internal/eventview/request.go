package eventview

import (
	"regexp"
	"strings"

	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
)

// Request is an event with its request, in which secrets are redacted.
type Request struct {
	Event
	Advice      string `json:"advice,omitempty"`
	ContentType string `json:"contentType,omitempty"`
	Query       string `json:"query,omitempty"`
	Body        string `json:"body,omitempty"`
	CoversQuery bool   `json:"queryVerified"`
	CoversBody  bool   `json:"bodyVerified"`
	// Size of the body in bytes.
	Size int `json:"size"`
}

// RequestOf returns an event with its request.
func RequestOf(e store.KeptEvent) Request {
	v := Request{
		Event:       Of(e),
		ContentType: redact(e.ContentType),
		Query:       redact(e.Query),
		Body:        redact(strings.ToValidUTF8(string(e.Raw), "\uFFFD")),
		CoversQuery: e.CoversQuery,
		CoversBody:  e.CoversBody,
		Size:        e.Size,
	}
	switch {
	case len(e.Unread) > 0:
		v.Advice = partialAdvice
	case e.Reason != "":
		v.Advice = adviceOn(e.Reason)
	}
	return v
}

// advice says what a person can do about a reason.
var advice = map[string]string{
	reason.DeadSourceRefused: "It names a recording whose URL the Tenant does not allow. If the host is right, " +
		"add it to spec.recordings.allowedSourceHosts of the Tenant " +
		"(a private address: to --allowed-source-cidrs of operator and data plane), and apply it again.",
	reason.DeadStale: "By its own time it was older than spec.webhooks.freshness of the Tenant when " +
		"it came: Exotel was late, or somebody sent an old request again. " +
		"If what it says is true, apply it again; its age does not count then.",
	reason.DeadTooManyRecordings: "Its call has as many recordings as Caly keeps of one call, 16, and it " +
		"names one more. It will not be applied.",
	reason.DeadRefused: "PostgreSQL refused what it says; its words are in the data plane's log of that " +
		"time. Apply it again after an upgrade.",
	reason.DeadMalformedBody: "Its body cannot be read. Compare the request below with what Exotel " +
		"documents; apply it again after an upgrade that reads it.",
	reason.DeadMalformedQuery: "Its query could not be read by an earlier version. Apply it again: the fields " +
		"that were stored are applied.",
	reason.DeadTooManyFields: "It has more fields, or longer ones, than a webhook of Exotel's. Look at the request " +
		"below; it is hardly Exotel's.",
	reason.DeadMissingCallSID: "It names no call in any way that this version knows. Compare the request " +
		"below with what Exotel documents; apply it again after an upgrade that reads it.",
	reason.DeadInvalidCallSID: "What it names as its call is not an id. Look at the request below; apply it " +
		"again after an upgrade that reads it.",
	reason.DeadMissingEventSID: "It came to the address for leg events, and has no event_sid. Check which address is " +
		"given to Exotel for which event.",
	reason.DeadEventSIDMismatch: "Its header and its body name different events. Look for a proxy in front of Caly " +
		"that mixes up requests.",
}

// partialAdvice is what a person can do about an event with fields that were left out.
const partialAdvice = "The other fields are applied. Compare the fields that were left out with the request " +
	"below. Apply the event again after an upgrade that reads " +
	"them or, for a rejected recording, after a change of spec.recordings.allowedSourceHosts."

// adviceOn returns what an operator can do about an event that is dead for this reason.
func adviceOn(reason string) string {
	if a, ok := advice[reason]; ok {
		return a
	}
	return "Apply it again after an upgrade; this caly does not know the reason."
}

// secretName is how the name of a field ends that says that its value is secret.
const secretName = `(?:key|token|secret|passw|signature|credential)[\w.%-]*?\]?` //nolint:gosec // a pattern of names

// secrets are what to redact, and what with: more rather than less, and whatever the request claims to be.
var secrets = []struct {
	value       *regexp.Regexp
	replacement string
}{
	{
		regexp.MustCompile(`(?is)(` + secretName + `"\r?\n(?:[^\r\n]+\r?\n)*\r?\n).*?(\r?\n--|$)`),
		"${1}redacted${2}",
	}, // multipart
	{
		regexp.MustCompile(`(?i)(` + secretName + `\\*"\s*:[\s\[]*\\*")(?:[^"\\]|\\.)*`),
		"${1}redacted",
	}, // JSON, and JSON in a string
	{
		regexp.MustCompile(`(?i)(` + secretName + `\\*"\s*:\s*)[-+.\w]+`),
		"${1}redacted",
	}, // JSON, no string
	{
		regexp.MustCompile(`(?i)(` + secretName + `(?:=|%3D))[^&\r\n"]+`),
		"${1}redacted",
	}, // a form, a query, a URL in any of them
	{
		regexp.MustCompile(`(?i)(://|%3A%2F%2F)[^/?#\s"&]*(@|%40)`),
		"${1}redacted${2}",
	}, // a URL's user and password
}

// redact removes secrets from a request: it is kept as received, and not shown so.
func redact(s string) string {
	for _, r := range secrets {
		s = r.value.ReplaceAllString(s, r.replacement)
	}
	return s
}
