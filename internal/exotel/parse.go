// Package exotel holds what Caly knows of Exotel: how its webhooks are spelled, and its API. No other package does.
//
// Exotel's documents contradict each other, so the parser takes every documented spelling and keeps what it does not know.
package exotel

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"strconv"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/bounded"
)

// Kinds of webhooks.
const (
	// KindStatus is a StatusCallback.
	KindStatus = "status"
	// KindPassthru is a Passthru applet's request.
	KindPassthru = "passthru"
	// KindLeg is an event of the newer legs API: JSON, with an id of its own.
	KindLeg = "leg"
)

// Bounds of one request. Exotel's webhooks stay far below them.
const (
	maxFields = 512
	maxName   = 256           // bytes
	maxValue  = 64 << 10      // bytes
	maxText   = 256 << 10     // bytes of all names and values
	maxValues = 2048          // fields that occur twice, nulls, lists and objects included
	maxParts  = maxFields + 1 // the end included
	maxDepth  = 6
	maxCallID = 64
)

// limits are the bounds of a query, a body, or a field that holds JSON.
var limits = bounded.Limits{Values: maxValues, Depth: maxDepth, Text: maxValue, Total: maxText}

// Request is a webhook as received.
type Request struct {
	Method, ContentType, RawQuery string
	Body                          []byte
	// EventSID is the header X-Exotel-Event-Sid, which leg events carry beside the same id in the body.
	EventSID string
}

// EventSIDHeader carries a leg event's id.
const EventSIDHeader = "X-Exotel-Event-Sid"

// ParseError says why a request is no webhook that can be applied.
type ParseError struct {
	// Code is stable, for metrics: malformed_query, malformed_body, too_many_fields, missing_call_sid, invalid_call_sid,
	// missing_event_sid, event_sid_mismatch.
	Code    string
	Message string
}

// Error returns the message.
func (e *ParseError) Error() string { return e.Message }

// params is the merged query and body. Nested values have bracketed keys: Legs[0][Status].
type params map[string]string

// parseParams merges query and body; the body wins where both name a field. Nil names keep every field.
func parseParams(r Request, only bounded.Names) (params, error) {
	p := params{}
	if err := addForm(p, r.RawQuery, only); err != nil {
		return nil, explain(err, "malformed_query", "the query cannot be read as name=value pairs")
	}
	if len(r.Body) == 0 {
		return p, nil
	}
	return p, p.addBody(r, only)
}

func (p params) addBody(r Request, only bounded.Names) error {
	switch media, boundary := mediaType(r); media {
	case mediaMultipart:
		return explain(p.addMultipart(r.Body, boundary, only), malformedBody,
			"the body cannot be read as multipart/form-data")
	case mediaJSON:
		return explain(p.addJSON(r.Body, only), malformedBody, "the body cannot be read as a JSON object")
	}
	return explain(addForm(p, r.Body, only), malformedBody, "the body cannot be read as a form")
}

// Media types that a body is read as. Everything else is read as a form.
const (
	mediaMultipart = "multipart/form-data"
	mediaJSON      = "application/json"
	malformedBody  = "malformed_body"
)

// mediaType returns what to read the body as, and the boundary of its parts.
func mediaType(r Request) (media, boundary string) {
	media, attrs, err := mime.ParseMediaType(r.ContentType)
	switch {
	case err == nil && media == mediaMultipart:
		return mediaMultipart, attrs["boundary"]
	case err == nil && (media == mediaJSON || strings.HasSuffix(media, "+json")) || looksLikeJSON(r.Body):
		return mediaJSON, ""
	}
	return "", ""
}

func looksLikeJSON(b []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(b[:min(len(b), 64)], " \t\r\n"), []byte("{"))
}

// explain makes a *ParseError of an error of package bounded.
func explain(err error, code, message string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bounded.ErrTooDeep):
		return &ParseError{malformedBody, fmt.Sprintf("the body is nested deeper than %d levels", maxDepth)}
	case errors.Is(err, bounded.ErrTooLarge):
		return &ParseError{"too_many_fields",
			fmt.Sprintf("the request has more than %d fields, one of more than %d bytes, or more than %d bytes in all",
				maxFields, maxValue, maxText)}
	}
	return &ParseError{code, message}
}

func addForm[T ~string | ~[]byte](p params, raw T, only bounded.Names) error {
	pairs, err := bounded.Form(raw, limits, only)
	for _, pair := range pairs {
		if err := p.add(pair.Name, pair.Value); err != nil {
			return err
		}
	}
	return err
}

func (p params) add(name, value string) error {
	if _, known := p[name]; !known && len(p) >= maxFields || len(name) > maxName || len(value) > maxValue {
		return bounded.ErrTooLarge
	}
	p[name] = value
	return nil
}

func (p params) addMultipart(body []byte, boundary string, only bounded.Names) error {
	if boundary == "" {
		return bounded.ErrMalformed
	}
	reader, err := bounded.Multipart(body, boundary)
	if err != nil {
		return err
	}
	total := 0
	for range maxParts {
		part, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return bounded.ErrMalformed
		}
		name := part.FormName()
		if _, wanted := only[name]; name == "" || !wanted && only != nil {
			continue
		}
		value, err := io.ReadAll(io.LimitReader(part, maxValue+1))
		if err != nil {
			return bounded.ErrMalformed
		}
		if total += len(name) + len(value); total > maxText {
			return bounded.ErrTooLarge
		}
		if err := p.add(name, string(value)); err != nil {
			return err
		}
	}
	return bounded.ErrTooLarge
}

func (p params) addJSON(body []byte, only bounded.Names) error {
	v, err := bounded.JSON(body, limits, only)
	if v.Kind != '{' && v.Kind != 'n' {
		return bounded.ErrMalformed
	}
	return errors.Join(err, p.flatten("", v))
}

// flatten spells nested JSON as a form would: Legs[0][Status]. A field may be spelled twice, nested and flat. The
// order of the members decides.
func (p params) flatten(prefix string, v bounded.Value) error {
	for i, item := range v.Items {
		name := item.Name
		if v.Kind == '[' {
			name = strconv.Itoa(i)
		}
		if prefix != "" || v.Kind == '[' {
			name = prefix + "[" + name + "]"
		}
		if len(name) > maxName {
			return bounded.ErrTooLarge
		}
		if err := p.flattenItem(name, item); err != nil {
			return err
		}
	}
	return nil
}

func (p params) flattenItem(name string, v bounded.Value) error {
	switch v.Kind {
	case 'n':
		return nil
	case '{', '[':
		return p.flatten(name, v)
	}
	return p.add(name, v.Text)
}

// expandStream spells Stream={"StreamSID":...} as Stream[StreamSID]=... where Exotel sent it as JSON in a string.
func (p params) expandStream() {
	raw, ok := p["Stream"]
	if !ok {
		return
	}
	inner := limits
	inner.Depth-- // the field is a level of its own
	v, err := bounded.JSON([]byte(raw), inner, nil)
	if errors.Is(err, bounded.ErrMalformed) || v.Kind != '{' && v.Kind != 'n' {
		return
	}
	delete(p, "Stream")
	_ = p.flatten("Stream", v) // what exceeds the bounds is left out; the raw event is stored anyway
}

// first returns the first of the named fields that is neither empty nor a null in words.
func (p params) first(names ...string) string {
	for _, n := range names {
		if v := strings.TrimSpace(p[n]); v != "" && !strings.EqualFold(v, "null") {
			return v
		}
	}
	return ""
}

// timeLayouts that Exotel uses; those without a zone are in the account's.
var timeLayouts = []string{"2006-01-02 15:04:05", time.RFC3339Nano, "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05", time.RFC1123Z}

// ParseTime reads a time as Exotel writes them, loc standing where it names no zone. It returns
// zero for what is no time, and for the placeholder at the epoch that stands for "not ended yet".
func ParseTime(s string, loc *time.Location) time.Time {
	if s == "" || strings.HasPrefix(s, "0000") || strings.HasPrefix(s, "0001") {
		return time.Time{}
	}
	for _, layout := range timeLayouts {
		t, err := time.ParseInLocation(layout, s, loc)
		if err != nil {
			continue
		}
		if _, offset := t.Zone(); t.Year() <= 1970 || t.Year() > 9999 || offset <= -24*3600 || offset >= 24*3600 {
			return time.Time{} // what JSON and databases cannot write either
		}
		return t
	}
	return time.Time{}
}
