package calldetails

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/reason"
)

// Bounds of what one record may hold. Exotel's records are smaller.
const (
	maxText = 8 << 10 // bytes of one field
	// maxRecord is how many bytes one record may have. One of a call with eight legs has 3 KiB.
	maxRecord = 256 << 10
	// maxRecords of one page. Pages of 100 are asked for.
	maxRecords = 1000
)

var sidPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// text reads a string, a number, a boolean or null: Exotel writes durations and prices as strings in one answer and as
// numbers in the next. An object or a list, with which PHP spells "nothing", reads as empty.
type text string

// UnmarshalJSON never fails for valid JSON.
func (t *text) UnmarshalJSON(b []byte) error {
	*t = ""
	switch {
	case len(b) == 0 || len(b) > maxText || b[0] == '{' || b[0] == '[' || string(b) == "null":
		return nil
	case b[0] != '"':
		*t = text(b)
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s = strings.TrimSpace(s); !strings.EqualFold(s, "null") {
		*t = text(s)
	}
	return nil
}

func (t text) seconds() int { return exotel.Seconds(string(t)) }

// price is the field if it is a decimal number, which is what a person would expect of it.
func (t text) price() string {
	if _, err := strconv.ParseFloat(string(t), 64); err != nil || strings.ContainsAny(string(t), "xXpPiInN_") {
		return ""
	}
	return string(t)
}

// in reads a time. It returns zero for an invalid time, and for the placeholder at the epoch that means "not yet".
func (t text) in(loc *time.Location) time.Time { return exotel.ParseTime(string(t), loc) }

type wireCall struct {
	Sid, ParentCallSid, AccountSid               text
	DateCreated, DateUpdated, StartTime, EndTime text
	From, To, PhoneNumberSid, PhoneNumber        text
	Status, Direction, AnsweredBy                text
	Duration, Price                              text
	PreSignedRecordingURL                        text `json:"PreSignedRecordingUrl"`
	Details                                      wireDetails
}

// wireDetails reports whether there are details. An object says that there are.
type wireDetails bool

// UnmarshalJSON never fails for valid JSON.
func (d *wireDetails) UnmarshalJSON(b []byte) error {
	*d = len(b) > 0 && b[0] == '{'
	return nil
}

// elements returns the first elements of a JSON array, and whether there are more than most. Those are not decoded.
func elements(b []byte, most int) (list []json.RawMessage, more bool, err error) {
	decoder := json.NewDecoder(bytes.NewReader(b))
	if _, err := decoder.Token(); err != nil {
		return nil, false, err
	}
	for decoder.More() {
		if len(list) == most {
			return list, true, nil
		}
		var item json.RawMessage
		if err := decoder.Decode(&item); err != nil {
			return nil, false, err
		}
		list = append(list, item)
	}
	return list, false, nil
}

// Decode reads a Call's Raw again. Times without a zone are in loc.
func Decode(raw []byte, loc *time.Location) (Call, error) { return decodeCall(raw, loc) }

// decodeCall reads one record. Times without a zone are in loc.
func decodeCall(b []byte, loc *time.Location) (Call, error) {
	var w wireCall
	if err := json.Unmarshal(b, &w); err != nil {
		return Call{}, fmt.Errorf("the record is not a JSON object: %w", shape(err))
	}
	if !sidPattern.MatchString(string(w.Sid)) {
		return Call{}, errors.New("the record has no Sid, or an invalid one")
	}
	call := Call{
		SID:                   string(w.Sid),
		ParentSID:             string(w.ParentCallSid),
		AccountSID:            string(w.AccountSid),
		CreatedAt:             w.DateCreated.in(loc),
		UpdatedAt:             w.DateUpdated.in(loc),
		StartedAt:             w.StartTime.in(loc),
		EndedAt:               w.EndTime.in(loc),
		From:                  string(w.From),
		To:                    string(w.To),
		PhoneNumber:           string(w.PhoneNumberSid),
		Status:                string(w.Status),
		State:                 exotel.StateOf(string(w.Status), ""),
		Direction:             exotel.DirectionOf(string(w.Direction)),
		Seconds:               w.Duration.seconds(),
		Price:                 w.Price.price(),
		AnsweredBy:            string(w.AnsweredBy),
		PreSignedRecordingURL: string(w.PreSignedRecordingURL),
		Raw:                   bytes.Clone(b),
	}
	if call.PhoneNumber == "" {
		call.PhoneNumber = string(w.PhoneNumber)
	}
	if w.Details {
		call.Details = &Details{}
	}
	call.readLegs(b, loc)
	return call, nil
}

// readLegs reads what a record says as a webhook would: its recordings, its talk time, and its legs. It notes the
// fields that cannot be read.
func (c *Call) readLegs(b []byte, loc *time.Location) {
	event, err := exotel.ParseEvent(exotel.KindStatus, exotel.Request{ContentType: "application/json", Body: b}, loc)
	if err != nil { // the caller has checked that there is a call, so its ID is after the bound
		c.Unread = []exotel.Unread{{Field: "(body)", Reason: reason.FieldTooLarge}}
		return
	}
	c.RecordingURL = event.RecordingURL
	c.RecordingURLs = event.RecordingURLs
	c.RecordingSeconds = event.RecordingSeconds
	c.Unread = event.Unread
	if c.Details == nil {
		return
	}
	c.Details.ConversationSeconds = event.ConversationSeconds
	c.Details.Legs = event.Legs
	for i := range event.ListedLegs {
		if listedLeg := &event.ListedLegs[i]; listedLeg.Index == 1 {
			c.Details.Leg2 = listedLeg.State
		}
	}
}

// decodeSingle reads the answer about one call.
func decodeSingle(b []byte, loc *time.Location) (Call, error) {
	var w struct{ Call json.RawMessage }
	if err := json.Unmarshal(b, &w); err != nil {
		return Call{}, notJSON(b, err)
	}
	if len(w.Call) == 0 {
		return Call{}, errors.New("the answer has no Call")
	}
	return decodeRecord(w.Call, loc)
}

// decodeRecord reads a record as it came, which has a bound. Decode has none: it reads what was stored.
func decodeRecord(b []byte, loc *time.Location) (Call, error) {
	if len(b) > maxRecord {
		return Call{}, fmt.Errorf("the record has more than %d bytes", maxRecord)
	}
	return decodeCall(b, loc)
}

var errRecords = fmt.Errorf("the page has more than %d calls, and %d were asked for", maxRecords, maxPageSize)

// wireRecords are the records of a page.
type wireRecords []json.RawMessage

// UnmarshalJSON returns errRecords if there are too many, before they are in memory.
func (r *wireRecords) UnmarshalJSON(b []byte) error {
	*r = nil
	if string(b) == "null" {
		return nil
	}
	if len(b) == 0 || b[0] != '[' {
		return &json.UnmarshalTypeError{} // Unmarshal fills in the field
	}
	list, more, err := elements(b, maxRecords)
	if more {
		return errRecords
	}
	*r = list
	return err
}

// page is one answer about many calls. Its records are decoded one by one, so that one that is broken hides no other.
type page struct {
	records []json.RawMessage
	next    string // "" at the end
}

func decodePage(b []byte) (page, error) {
	var w struct {
		Metadata *struct {
			NextPageURI text `json:"NextPageUri"`
		}
		Calls wireRecords
	}
	if err := json.Unmarshal(b, &w); errors.Is(err, errRecords) {
		return page{}, err
	} else if err != nil {
		return page{}, notJSON(b, err)
	}
	if w.Metadata == nil {
		// Without it nobody knows whether there are more pages: to take it for the last would lose calls.
		return page{}, errors.New("the answer has no Metadata")
	}
	return page{records: w.Calls, next: string(w.Metadata.NextPageURI)}, nil
}

func notJSON(b []byte, err error) error {
	if head := bytes.TrimSpace(b[:min(len(b), 64)]); len(head) > 0 && head[0] == '<' {
		return errors.New("the answer is a page or XML instead of JSON")
	}
	return fmt.Errorf("the answer is not the documented JSON: %w", shape(err))
}

// shape is what was wrong with JSON, without any of its values: they are people's telephone numbers.
func shape(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fmt.Errorf("field %q has another type", kind.Field)
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("broken at byte %d", syntax.Offset)
	}
	return errors.New("it cannot be read")
}
