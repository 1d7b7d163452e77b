// Package exotel holds what Caly knows of Exotel: how its webhooks are spelled, and its API. No other package does.
//
// Exotel's documents contradict each other, so the parser takes every documented spelling and keeps what it does not
// know.
package exotel

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/reason"
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
var limits = bounded.Limits{
	Values:  maxValues,
	Depth:   maxDepth,
	Text:    maxValue,
	Total:   maxText,
	Lenient: true,
	Repeats: true,
	Key:     foldName,
}

// usualFields is the number of fields that most webhooks have.
const usualFields = 24

// Request is a webhook as received.
type Request struct {
	Method, ContentType, RawQuery string
	Body                          []byte
	// EventSID is the header X-Exotel-Event-Sid. Leg events carry it in addition to the same id in the body.
	EventSID string
}

// EventSIDHeader carries a leg event's id.
const EventSIDHeader = "X-Exotel-Event-Sid"

// ParseError says why a request cannot be applied: no call can be read from it.
type ParseError struct {
	// Code is one of reason.Dead.
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
	// names are those of params in their order, once all of params are known.
	names []string
	// repeated are further values of fields that were sent more than once.
	repeated []text
	// query holds the fields of the query while the body is read, and queryRepeated their further values.
	query         params
	queryRepeated []text
	// lists numbers the elements of lists that have no numbers.
	lists  listNumbers
	unread unreadList
	// lossy is true if a part of the query or of the body is neither in params nor in repeated.
	lossy bool
	// err is why the query or the body was not read to its end.
	err *ParseError
	// severalEvents is true if the body is a list that is not exactly one event. It is not about the call that the
	// query names.
	severalEvents bool
}

// faulty begins the names in params of fields that could not be read. Their values are as they were sent, so that they
// count when deliveries are compared.
const faulty = "\x00"

// readInput merges query and body of a decoded request; the body wins where both name a field. Nil names keep every
// field.
func readInput(r Request, only bounded.Names) *input {
	in := &input{params: make(params, usualFields)}
	// An address that already ends in "?" gives a query that begins with one.
	in.ended(addForm(in, strings.TrimPrefix(r.RawQuery, "?"), only), unreadQuery, reason.DeadMalformedQuery,
		"the query cannot be read as name=value pairs")
	if in.lossy {
		in.params[faulty+unreadQuery] = digestOf([]byte(r.RawQuery))
	}
	if len(r.Body) > 0 {
		in.setQueryAside()
		in.addBody(r, only)
		in.mergeQuery()
	}
	in.lists = listNumbers{}
	return in
}

// addBody reads the body by its media type. A part that cannot be read is noted and loses only itself.
func (in *input) addBody(r Request, only bounded.Names) {
	in.lossy = false
	media, boundary := mediaType(r)
	switch media {
	case mediaMultipart:
		in.ended(in.addMultipart(r.Body, boundary, only), unreadBody, reason.DeadMalformedBody,
			"the body cannot be read as multipart/form-data")
	case mediaJSON:
		in.ended(
			in.addJSON(r.Body, only), unreadBody, reason.DeadMalformedBody, "the body cannot be read as a JSON object",
		)
	default:
		in.ended(addForm(in, r.Body, only), unreadBody, reason.DeadMalformedBody, "the body cannot be read as a form")
	}
	if in.lossy {
		in.params[faulty+unreadBody] = digestOf(withoutBoundary(r.Body, media, boundary))
	}
}

// withoutBoundary returns a body without what differs from one delivery of it to the next.
func withoutBoundary(body []byte, media, boundary string) []byte {
	if boundary = cmp.Or(boundary, firstBoundary(body)); media == mediaMultipart && boundary != "" {
		return bytes.ReplaceAll(body, []byte(boundary), nil)
	}
	return body
}

// digestOf stands for a part of a request that is not read, so that deliveries that differ there are two events. A
// redelivery that names another time of the request is then an event of its own, which changes nothing.
func digestOf(part []byte) string {
	sum := sha256.Sum256(part)
	return hex.EncodeToString(sum[:])
}

// ended notes why the query or the body was not read to its end, if there is an error.
func (in *input) ended(err error, part, code, message string) {
	if err == nil {
		return
	}
	in.lossy = true
	in.unread.add(part, reasonOf(err), "")
	if errors.Is(err, bounded.ErrTooLarge) {
		code = reason.DeadTooManyFields
		message = fmt.Sprintf("the request has more than %d fields, or more than %d bytes in all", maxFields, maxText)
	}
	in.err = &ParseError{code, message}
}

// Media types that a body is read as. Everything else is read as a form.
const (
	mediaMultipart = "multipart/form-data"
	mediaJSON      = "application/json"
)

// mediaType returns what to read the body as, and the boundary of its parts.
func mediaType(r Request) (media, boundary string) {
	media, attrs, err := mime.ParseMediaType(r.ContentType)
	switch {
	case (media == mediaMultipart || media == mediaJSON) && looksLikeForm(r.Body):
		return "", ""
	case err == nil && media == mediaMultipart:
		return mediaMultipart, attrs["boundary"]
	case err == nil && (media == mediaJSON || strings.HasSuffix(media, "+json")) || looksLikeJSON(r.Body):
		return mediaJSON, ""
	}
	return "", ""
}

// looksLikeForm reports whether a body is a form, whatever its type says: it begins with a name and "=". JSON begins
// with a bracket, and multipart with "-" or a line break.
func looksLikeForm(b []byte) bool {
	name, _, found := bytes.Cut(b[:min(len(b), maxName)], []byte("="))
	return found && isID(string(name))
}

// looksLikeJSON reports whether a body is an object of JSON, or a list of them.
func looksLikeJSON(b []byte) bool {
	start := bytes.TrimLeft(b[:min(len(b), 64)], " \t\r\n")
	if list, isList := bytes.CutPrefix(start, []byte("[")); isList {
		start = bytes.TrimLeft(list, " \t\r\n")
	}
	return bytes.HasPrefix(start, []byte("{"))
}

func addForm[T ~string | ~[]byte](in *input, raw T, only bounded.Names) error {
	pairs, err := bounded.Form(raw, limits, only)
	for _, pair := range pairs {
		if pair.Fault != nil {
			in.unread.add(pair.Name, reasonOf(pair.Fault), "")
			// The reader returns neither a long value nor the end of a long name.
			in.lossy = in.lossy || pair.Value == "" || len(pair.Name) >= maxUnreadText
			pair.Name = faulty + pair.Name
		}
		if err := in.add(in.lists.numbered(pair.Name), pair.Value); err != nil {
			return err
		}
	}
	return err
}

// add takes a field. It returns an error if there are too many.
func (in *input) add(name, value string) error {
	switch {
	case len(name) > maxName || len(value) > maxValue:
		in.unread.add(name, reason.FieldTooLarge, "")
		in.lossy = true
		return nil
	case !strings.HasPrefix(name, faulty) && (!isText(name) || !isText(value)):
		in.unread.add(name, reason.FieldMalformed, "")
		name = faulty + name
	}
	old, known := in.params[name]
	switch {
	case known && old == value:
	case len(in.params)+len(in.query)+len(in.repeated)+len(in.queryRepeated) >= maxFields:
		return bounded.ErrTooLarge
	case known:
		in.repeat(name, old, value)
	default:
		in.params[name] = value
	}
	return nil
}

// isText reports whether a database can store a text: it is valid UTF-8 without NUL.
func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// addMultipart reads the parts of a multipart body. Without a boundary in the header it takes that of the first line.
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
		if err := in.add(in.lists.numbered(name), string(value)); err != nil {
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

// addJSON reads a JSON object, a list with exactly one object, or null.
func (in *input) addJSON(body []byte, only bounded.Names) error {
	if isList(body) {
		list, ok := elements(body)
		if !ok || len(list) != 1 {
			in.severalEvents = true
			return bounded.ErrMalformed
		}
		body = list[0]
	}
	value, err := bounded.Document(body, limits, only)
	if value.Kind != '{' && value.Kind != 'n' {
		return bounded.ErrMalformed
	}
	return errors.Join(err, in.flatten("", value, mayReplace(body)))
}

// mayReplace reports whether the reader of JSON may replace something by U+FFFD, which makes another value of it:
// invalid UTF-8, or half of a surrogate pair.
func mayReplace(body []byte) bool {
	escaped := bytes.IndexByte(body, '\\') >= 0
	return !utf8.Valid(body) ||
		escaped && (bytes.Contains(body, []byte(`\ud`)) || bytes.Contains(body, []byte(`\uD`)))
}

// flatten spells nested JSON as a form would: Legs[0][Status]. A field may be spelled twice, nested and flat.
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
		in.lossy = true
		return nil
	case v.Kind == 'n':
		return nil
	case v.Kind == '{' || v.Kind == '[':
		if len(name) > maxName {
			in.unread.add(name, reason.FieldTooLarge, "")
			in.lossy = true
			return nil
		}
		return in.flatten(name, v, replaced)
	case replaced && strings.ContainsRune(v.Text, utf8.RuneError):
		in.unread.add(name, reason.FieldMalformed, "")
		in.lossy = true
		name = faulty + name
	}
	return in.add(name, v.Text)
}

// jsonNames are the folded names of fields that some products send as JSON in a string: Stream={"StreamSID":...} [S4].
var jsonNames = map[string]bool{
	"stream":           true,
	"legs":             true,
	"recordings":       true,
	"callrecordings":   true,
	"recordingurllist": true,
	"recordingurl":     true,
	"calldetails":      true,
	"eventdetails":     true,
}

// expandJSON spells JSON in a string as nested fields. Another value of such a field stays.
func (in *input) expandJSON() {
	var found []text
	for name, raw := range in.params {
		if holdsJSON(name, raw) {
			found = append(found, text{name: name, value: raw})
			delete(in.params, name)
		}
	}
	in.repeated = slices.DeleteFunc(in.repeated, func(t text) bool {
		expand := holdsJSON(t.name, t.value)
		if expand {
			found = append(found, t)
		}
		return expand
	})
	slices.SortFunc(found, text.compare)
	for _, t := range found {
		in.expand(t.name, strings.TrimSpace(t.value))
	}
}

func holdsJSON(name, raw string) bool {
	raw = strings.TrimSpace(raw)
	return raw != "" && (raw[0] == '{' || raw[0] == '[') && jsonNames[foldName(name)]
}

// expand adds the fields of a field's JSON. JSON that it cannot read goes to params as a faulty field, so that it
// counts when deliveries are compared.
func (in *input) expand(name, raw string) {
	inner := limits
	inner.Depth-- // the field is a level of its own
	value, err := bounded.Document([]byte(raw), inner, nil)
	in.lossy = err != nil
	if err != nil {
		in.unread.add(name, reasonOf(err), "")
	}
	if in.flatten(name, value, mayReplace([]byte(raw))) != nil {
		in.unread.add(name, reason.FieldTooLarge, "")
		in.lossy = true
	}
	if in.lossy {
		in.params[faulty+name] = digestOf([]byte(raw)) // whether or not there is room: there are few such fields
	}
}
