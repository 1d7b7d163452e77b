// Package exotel holds what Caly knows of Exotel: how its webhooks are spelled, and its API. No other package does.
//
// Exotel's documents contradict each other, so the parser takes every documented spelling and keeps what it does not know.
package exotel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/url"
	"slices"
	"strings"
	"time"
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

// Bounds of one request; more is no webhook of Exotel's.
const (
	maxFields = 512
	maxValue  = 64 << 10 // bytes
	maxDepth  = 6
	maxCallID = 64
)

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

// parseParams merges query and body; the body wins where both name a field.
func parseParams(r Request) (params, error) {
	p := params{}
	query, err := url.ParseQuery(r.RawQuery)
	if err != nil {
		return nil, &ParseError{"malformed_query", "the query cannot be read as name=value pairs"}
	}
	if err := p.addAll(query); err != nil {
		return nil, err
	}
	if len(r.Body) == 0 {
		return p, nil
	}
	return p, p.addBody(r)
}

func (p params) addBody(r Request) error {
	media, attrs, err := mime.ParseMediaType(r.ContentType)
	if err != nil {
		media = ""
	}
	switch {
	case media == "multipart/form-data":
		return p.addMultipart(r.Body, attrs["boundary"])
	case media == "application/json" || strings.HasSuffix(media, "+json") || looksLikeJSON(r.Body):
		return p.addJSON(r.Body)
	}
	form, err := url.ParseQuery(string(r.Body))
	if err != nil {
		return &ParseError{"malformed_body", "the body cannot be read as a form"}
	}
	return p.addAll(form)
}

func looksLikeJSON(b []byte) bool {
	return strings.HasPrefix(strings.TrimLeft(string(b[:min(len(b), 64)]), " \t\r\n"), "{")
}

func (p params) addAll(values url.Values) error {
	for k, v := range values {
		if err := p.add(k, v[len(v)-1]); err != nil {
			return err
		}
	}
	return nil
}

func (p params) add(key, value string) error {
	if len(p) >= maxFields || len(key) > 256 || len(value) > maxValue {
		return &ParseError{"too_many_fields", fmt.Sprintf("the request has more than %d fields or one of more than %d bytes", maxFields, maxValue)}
	}
	p[key] = value
	return nil
}

func (p params) addMultipart(body []byte, boundary string) error {
	malformed := &ParseError{"malformed_body", "the body cannot be read as multipart/form-data"}
	if boundary == "" {
		return malformed
	}
	reader := multipart.NewReader(strings.NewReader(string(body)), boundary)
	for {
		part, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return malformed
		}
		value, err := io.ReadAll(io.LimitReader(part, maxValue+1))
		if err != nil {
			return malformed
		}
		if part.FormName() == "" {
			continue
		}
		if err := p.add(part.FormName(), string(value)); err != nil {
			return err
		}
	}
}

func (p params) addJSON(body []byte) error {
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.UseNumber()
	var v map[string]any
	if err := dec.Decode(&v); err != nil {
		return &ParseError{"malformed_body", "the body cannot be read as a JSON object"}
	}
	return p.flatten("", v, 0)
}

// flatten spells nested JSON as a form would: Legs[0][Status].
func (p params) flatten(prefix string, v any, depth int) error {
	if depth > maxDepth {
		return &ParseError{"malformed_body", fmt.Sprintf("the body is nested deeper than %d levels", maxDepth)}
	}
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) { // in order: a name may be spelled twice, nested and flat
			e, key := v[k], k
			if prefix != "" {
				key = prefix + "[" + k + "]"
			}
			if err := p.flatten(key, e, depth+1); err != nil {
				return err
			}
		}
	case []any:
		for i, e := range v {
			if err := p.flatten(fmt.Sprintf("%s[%d]", prefix, i), e, depth+1); err != nil {
				return err
			}
		}
	case nil:
	case string:
		return p.add(prefix, v)
	default: // json.Number, bool
		return p.add(prefix, fmt.Sprint(v))
	}
	return nil
}

// expandStream spells Stream={"StreamSID":...} as Stream[StreamSID]=... where Exotel sent it as JSON in a string.
func (p params) expandStream() {
	raw, ok := p["Stream"]
	if !ok {
		return
	}
	var v map[string]any
	dec := json.NewDecoder(strings.NewReader(raw))
	dec.UseNumber()
	if dec.Decode(&v) == nil {
		delete(p, "Stream")
		_ = p.flatten("Stream", v, 1) // what does not fit the bounds is left out; the raw event is kept anyway
	}
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
