// Package exotel holds what Caly knows of Exotel: how its webhooks are spelled, and its API. No other package does.
//
// Exotel's documents contradict each other, so the parser takes every documented spelling and keeps what it does not
// know.
package exotel

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"strconv"
	"strings"
	"unicode/utf8"

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
var limits = bounded.Limits{Values: maxValues, Depth: maxDepth, Text: maxValue, Total: maxText, Lenient: true,
	Key: foldName}

// Request is a webhook as received.
type Request struct {
	Method, ContentType, RawQuery string
	Body                          []byte
	// EventSID is the header X-Exotel-Event-Sid, which leg events carry beside the same id in the body.
	EventSID string
}

// EventSIDHeader carries a leg event's id.
const EventSIDHeader = "X-Exotel-Event-Sid"

// ParseError says why a request cannot be applied: no call can be read from it.
type ParseError struct {
	// Code is stable, for metrics: malformed_query, malformed_body, too_many_fields, missing_call_sid,
	// invalid_call_sid.
	Code    string
	Message string
}

// Error returns the message.
func (e *ParseError) Error() string { return e.Message }

// params is the merged query and body. Nested values have bracketed keys: Legs[0][Status].
type params map[string]string

// input is a request as far as it can be read.
type input struct {
	params params
	unread unreadList
	// err is why the query or the body was not read to its end.
	err *ParseError
}

// faulty begins the names in params of fields that could not be read. Their values are as they were sent, so that they
// count when deliveries are compared.
const faulty = "\x00"

// readInput merges query and body; the body wins where both name a field. Nil names keep every field.
func readInput(r Request, only bounded.Names) *input {
	in := &input{params: params{}}
	in.stopped(addForm(in, r.RawQuery, only), unreadQuery, "malformed_query",
		"the query cannot be read as name=value pairs")
	if len(r.Body) > 0 {
		in.addBody(r, only)
	}
	return in
}

func (in *input) addBody(r Request, only bounded.Names) {
	switch media, boundary := mediaType(r); media {
	case mediaMultipart:
		in.stopped(in.addMultipart(r.Body, boundary, only), unreadBody, malformedBody,
			"the body cannot be read as multipart/form-data")
	case mediaJSON:
		in.stopped(in.addJSON(r.Body, only), unreadBody, malformedBody, "the body cannot be read as a JSON object")
	default:
		in.stopped(addForm(in, r.Body, only), unreadBody, malformedBody, "the body cannot be read as a form")
	}
}

// stopped notes why the query or the body was not read to its end, if there is an error.
func (in *input) stopped(err error, part, code, message string) {
	if err == nil {
		return
	}
	in.unread.add(part, reasonOf(err), "")
	if errors.Is(err, bounded.ErrTooLarge) {
		code = "too_many_fields"
		message = fmt.Sprintf("the request has more than %d fields, or more than %d bytes in all", maxFields, maxText)
	}
	in.err = &ParseError{code, message}
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

func addForm[T ~string | ~[]byte](in *input, raw T, only bounded.Names) error {
	pairs, err := bounded.Form(raw, limits, only)
	for _, pair := range pairs {
		if pair.Fault != nil {
			in.unread.add(pair.Name, reasonOf(pair.Fault), "")
			pair.Name = faulty + pair.Name
		}
		if err := in.add(pair.Name, pair.Value); err != nil {
			return err
		}
	}
	return err
}

// add takes a field. It returns an error if there are too many.
func (in *input) add(name, value string) error {
	_, known := in.params[name]
	switch {
	case !known && len(in.params) >= maxFields:
		return bounded.ErrTooLarge
	case len(name) > maxName || len(value) > maxValue:
		in.unread.add(name, TooLarge, "")
		return nil
	case !strings.HasPrefix(name, faulty) && (!isText(name) || !isText(value)):
		in.unread.add(name, Malformed, "")
		name = faulty + name
	}
	in.params[name] = value
	return nil
}

// isText reports whether a database can store a text: it is valid UTF-8 without NUL.
func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

func (in *input) addMultipart(body []byte, boundary string, only bounded.Names) error {
	if boundary = cmp.Or(boundary, firstBoundary(body)); boundary == "" {
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
		if !wanted(only, name) {
			continue
		}
		value, err := io.ReadAll(io.LimitReader(part, maxValue+1))
		if err != nil {
			return bounded.ErrMalformed
		}
		if total += len(name) + len(value); total > maxText {
			return bounded.ErrTooLarge
		}
		if err := in.add(name, string(value)); err != nil {
			return err
		}
	}
	return bounded.ErrTooLarge
}

// firstBoundary reads the boundary from the first line of a body whose Content-Type does not name it.
func firstBoundary(body []byte) string {
	line, _, _ := bytes.Cut(body[:min(len(body), maxName)], []byte("\r\n"))
	boundary, _ := bytes.CutPrefix(line, []byte("--"))
	if len(boundary) == len(line) {
		return ""
	}
	return string(boundary)
}

func wanted(only bounded.Names, name string) bool {
	if only == nil || name == "" {
		return name != ""
	}
	_, wanted := only[foldName(name)]
	return wanted
}

// byteOrderMark may begin JSON.
var byteOrderMark = []byte("\ufeff")

func (in *input) addJSON(body []byte, only bounded.Names) error {
	v, err := bounded.JSON(bytes.TrimPrefix(body, byteOrderMark), limits, only)
	if v.Kind != '{' && v.Kind != 'n' {
		return bounded.ErrMalformed
	}
	// The reader replaces invalid UTF-8, which makes another value of it.
	replaced := !utf8.Valid(body)
	return errors.Join(err, in.flatten("", v, replaced))
}

// flatten spells nested JSON as a form would: Legs[0][Status]. A field may be spelled twice, nested and flat. The
// order of the members decides.
func (in *input) flatten(prefix string, v bounded.Value, replaced bool) error {
	for i, item := range v.Items {
		name := item.Name
		if v.Kind == '[' {
			name = strconv.Itoa(i)
		}
		if prefix != "" || v.Kind == '[' {
			name = prefix + "[" + name + "]"
		}
		if err := in.flattenItem(name, item, replaced); err != nil {
			return err
		}
	}
	return nil
}

func (in *input) flattenItem(name string, v bounded.Value, replaced bool) error {
	switch {
	case v.Fault != nil:
		in.unread.add(name, reasonOf(v.Fault), "")
		return nil
	case v.Kind == 'n':
		return nil
	case v.Kind == '{' || v.Kind == '[':
		if len(name) > maxName {
			in.unread.add(name, TooLarge, "")
			return nil
		}
		return in.flatten(name, v, replaced)
	case replaced && strings.ContainsRune(v.Text, utf8.RuneError):
		in.unread.add(name, Malformed, "")
		name = faulty + name
	}
	return in.add(name, v.Text)
}

// jsonNames are the folded names of fields that some products send as JSON in a string: Stream={"StreamSID":...} [S4].
var jsonNames = map[string]bool{"stream": true, "legs": true, "recordings": true, "callrecordings": true,
	"recordingurllist": true, "recordingurl": true, "calldetails": true, "eventdetails": true}

// expandJSON spells JSON in a string as nested fields.
func (in *input) expandJSON() {
	for name, raw := range in.params {
		if raw = strings.TrimSpace(raw); raw == "" || raw[0] != '{' && raw[0] != '[' || !jsonNames[foldName(name)] {
			continue
		}
		inner := limits
		inner.Depth-- // the field is a level of its own
		v, err := bounded.JSON([]byte(raw), inner, nil)
		if err != nil {
			in.unread.add(name, reasonOf(err), "")
		}
		if errors.Is(err, bounded.ErrMalformed) {
			continue
		}
		delete(in.params, name)
		if in.flatten(name, v, false) != nil {
			in.unread.add(name, TooLarge, "")
		}
		in.expandJSON() // the map has changed; each turn has one field less that is JSON
		return
	}
}
