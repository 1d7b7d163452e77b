package exotel

import (
	"bytes"
	"errors"
	"mime/multipart"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/reason"
)

var ist = time.FixedZone("IST", 5*3600+1800)

func form(s string) Request {
	return Request{Method: "POST", ContentType: "application/x-www-form-urlencoded", Body: []byte(s)}
}

func multi(t *testing.T, fields ...string) Request {
	t.Helper()
	var b bytes.Buffer
	writer := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		if err := writer.WriteField(fields[i], fields[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	_ = writer.Close()
	return Request{Method: "POST", ContentType: writer.FormDataContentType(), Body: b.Bytes()}
}

const jsonSample = `{"CallSid":"80bfbec2d78bbbf10fb851f4fa165211","EventType":"terminal","DateCreated":"2024-01-15 14:25:10",
 "To":"09123456789","From":"09876543210","StartTime":"2024-01-15 14:25:12","EndTime":"2024-01-15 14:30:45","Status":"completed",
 "ConversationDuration":320,"Direction":"outbound-api","CustomField":"order_12345","RecordingUrl":"https://recordings.exotel.com/a.mp3",
 "Legs":[{"OnCallDuration":335,"Status":"completed","AnsweredBy":"NA"},{"OnCallDuration":320,"Status":"completed"}]}`

func terminal() *Event {
	return &Event{
		Kind:                KindStatus,
		CallSID:             "80bfbec2d78bbbf10fb851f4fa165211",
		EventType:           "terminal",
		Status:              "completed",
		State:               StateCompleted,
		Terminal:            true,
		Direction:           "outbound-api",
		From:                "09876543210",
		To:                  "09123456789",
		StartedAt:           time.Date(2024, 1, 15, 14, 25, 12, 0, ist),
		EndedAt:             time.Date(2024, 1, 15, 14, 30, 45, 0, ist),
		At:                  time.Date(2024, 1, 15, 14, 30, 45, 0, ist),
		ConversationSeconds: 320,
		CustomField:         "order_12345",
		RecordingURL:        "https://recordings.exotel.com/a.mp3",
	}
}

func TestParseEvent(t *testing.T) {
	fields := []string{
		"CallSid",
		"80bfbec2d78bbbf10fb851f4fa165211",
		"EventType",
		"terminal",
		"To",
		"09123456789",
		"From",
		"09876543210",
		"StartTime",
		"2024-01-15 14:25:12",
		"EndTime",
		"2024-01-15 14:30:45",
		"Status",
		"completed",
		"ConversationDuration",
		"320",
		"Direction",
		"outbound-api",
		"CustomField",
		"order_12345",
		"RecordingUrl",
		"https://recordings.exotel.com/a.mp3",
	}
	for name, tc := range map[string]struct {
		kind string
		req  Request
		want *Event
	}{
		"json": {KindStatus, Request{
			Method:      "POST",
			ContentType: "application/json; charset=utf-8",
			Body:        []byte(jsonSample),
		}, terminal()},
		"json as form": {KindStatus, form(jsonSample), terminal()},
		"multipart":    {KindStatus, multi(t, fields...), terminal()},
		"legs in form": {KindStatus,
			form("CallSid=c1&Status=completed&Legs[0][OnCallDuration]=41&Legs[1][Status]=busy"),
			&Event{Kind: KindStatus, CallSID: "c1", Status: "completed", State: StateCompleted}},
		"query of a GET": {KindPassthru, Request{
			Method: "GET",
			RawQuery: "CallSid=c1&CallFrom=0123&CallTo=0456&Direction=incoming&EndTime=1970-01-01+05%3A30%3A00" +
				"&CallStatus=no-answer",
		},
			&Event{
				Kind:      KindPassthru,
				CallSID:   "c1",
				From:      "0123",
				To:        "0456",
				Direction: "inbound",
				Status:    "no-answer",
				State:     StateNoAnswer,
			}},
		"body beats query": {KindStatus, Request{
			Method:      "POST",
			RawQuery:    "CallSid=c1&Status=busy",
			ContentType: "application/x-www-form-urlencoded",
			Body:        []byte("Status=cancelled"),
		},
			&Event{Kind: KindStatus, CallSID: "c1", Status: "cancelled", State: StateCanceled}},
		"answered without a status": {KindStatus, form("CallSid=c1&EventType=answered"), &Event{
			Kind:      KindStatus,
			CallSID:   "c1",
			EventType: "answered",
			State:     StateInProgress,
		}},
		"unknown status is kept": {KindStatus, form("CallSid=c1&Status=teleported"), &Event{
			Kind:    KindStatus,
			CallSID: "c1",
			Status:  "teleported",
			Unread:  []Unread{{"Status", reason.FieldUnknownValue, "teleported"}},
		}},
		"stream as JSON": {KindPassthru, Request{
			Method:   "GET",
			RawQuery: "CallSid=c1&Stream=%7B%22StreamSID%22%3A%22s%22%2C%22RecordingUrl%22%3A%22https%3A%2F%2Fr%2Fs.mp3%22%7D",
		},
			&Event{
				Kind:         KindPassthru,
				CallSID:      "c1",
				RecordingURL: "https://r/s.mp3",
				Stream:       &Stream{SID: "s", RecordingURL: "https://r/s.mp3"},
			}},
		"stream in brackets": {KindPassthru, Request{
			Method:   "GET",
			RawQuery: "CallSid=c1&Stream[RecordingUrl]=https://r/s.mp3",
		},
			&Event{
				Kind:         KindPassthru,
				CallSID:      "c1",
				RecordingURL: "https://r/s.mp3",
				Stream:       &Stream{RecordingURL: "https://r/s.mp3"},
			}},
		"recording available later": {KindPassthru,
			form("CallSid=c1&RecordingUrl=https://r/a.mp3&RecordingAvailableBy=2024-01-15+14:35:00"),
			&Event{
				Kind:         KindPassthru,
				CallSID:      "c1",
				RecordingURL: "https://r/a.mp3",
				AvailableAt:  time.Date(2024, 1, 15, 14, 35, 0, 0, ist),
			}},
		"offset in the time": {KindStatus, form("CallSid=c1&StartTime=2022-11-03+22:54:40%2B05:30"),
			&Event{Kind: KindStatus, CallSID: "c1", StartedAt: time.Date(2022, 11, 3, 22, 54, 40, 0, ist)}},
		"status tells its own time": {KindStatus,
			form("CallSid=c1&DateUpdated=2024-01-15+14:30:45&DateCreated=2024-01-15+14:25:10"),
			&Event{Kind: KindStatus, CallSID: "c1", At: time.Date(2024, 1, 15, 14, 30, 45, 0, ist)}},
		"status sent as a passthru": {KindPassthru, form("CallSid=c1&DateUpdated=2024-01-15+14:30:45"),
			&Event{Kind: KindPassthru, CallSID: "c1", At: time.Date(2024, 1, 15, 14, 30, 45, 0, ist)}},
		"passthru sent as a status": {KindStatus, form("CallSid=c1&CurrentTime=2024-01-15+14:30:45"),
			&Event{Kind: KindStatus, CallSID: "c1", At: time.Date(2024, 1, 15, 14, 30, 45, 0, ist)}},
		"passthru tells its own time": {KindPassthru,
			form("CallSid=c1&CurrentTime=2024-01-15+14:30:45&Created=2024-01-15+14:25:10"),
			&Event{Kind: KindPassthru, CallSID: "c1", At: time.Date(2024, 1, 15, 14, 30, 45, 0, ist)}},
		"passthru tells when the call was made": {KindPassthru,
			form("CallSid=c1&Created=Mon,+15+Jan+2024+14:25:10+%2B0530"),
			&Event{Kind: KindPassthru, CallSID: "c1", At: time.Date(2024, 1, 15, 14, 25, 10, 0, ist)}},
		"digits in quotes": {KindPassthru, get("CallSid=c1&digits=%221234%22"),
			&Event{Kind: KindPassthru, CallSID: "c1"}},
		"digits without": {KindPassthru, get("CallSid=c1&digits=1234"), &Event{Kind: KindPassthru, CallSID: "c1"}},
		"body of no type": {KindStatus, Request{
			Method: "POST",
			Body:   []byte("CallSid=c1&Status=busy"),
		}, &Event{
			Kind:    KindStatus,
			CallSID: "c1",
			Status:  "busy",
			State:   StateBusy,
		}},
		"POST without a body": {KindStatus, Request{
			Method:   "POST",
			RawQuery: "CallSid=c1&Status=busy",
		}, &Event{
			Kind:    KindStatus,
			CallSID: "c1",
			Status:  "busy",
			State:   StateBusy,
		}},
		"account": {KindStatus, form("CallSid=c1&AccountSid=acme1"), &Event{
			Kind:       KindStatus,
			CallSID:    "c1",
			AccountSID: "acme1",
		}},
		"null recording": {KindStatus, form("CallSid=c1&RecordingUrl=null"), &Event{
			Kind:    KindStatus,
			CallSID: "c1",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseEvent(tc.kind, tc.req, ist)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.IgnoreUnexported(Event{}), cmpopts.EquateApproxTime(0),
				ofFacts, cmpopts.IgnoreFields(Event{}, "ListedLegs", "RecordingURLs")); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseEventRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		req  Request
		code string
	}{
		"no call":        {form("Status=completed"), "missing_call_sid"},
		"call is a path": {form("CallSid=../../etc"), "invalid_call_sid"},
		"long call":      {form("CallSid=" + strings.Repeat("a", 65)), "invalid_call_sid"},
		"cut JSON":       {Request{ContentType: "application/json", Body: []byte(`{"CallSid":`)}, "malformed_body"},
		"JSON array":     {Request{ContentType: "application/json", Body: []byte(`[]`)}, "malformed_body"},
		"deep JSON": {Request{
			ContentType: "application/json",
			Body: []byte(strings.Repeat(`{"a":`, 9) + "1" +
				strings.Repeat("}", 9)),
		}, "missing_call_sid"},
		"no boundary": {Request{ContentType: "multipart/form-data", Body: []byte("x")}, "malformed_body"},
		"cut multipart": {Request{
			ContentType: "multipart/form-data; boundary=b",
			Body:        []byte("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx"),
		}, "malformed_body"},
		"bad escape":        {form("CallSid=%zz"), "missing_call_sid"},
		"bad query":         {Request{RawQuery: "a=%zz"}, "missing_call_sid"},
		"too many fields":   {form(strings.Repeat("a=1&", 1) + manyFields(600)), "too_many_fields"},
		"one field too big": {form("Sid=&x=" + strings.Repeat("a", maxValue+1)), "missing_call_sid"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseEvent(KindStatus, tc.req, ist)
			var p *ParseError
			if !errors.As(err, &p) || p.Code != tc.code {
				t.Errorf("got %v, want code %s", err, tc.code)
			}
		})
	}
}

func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("f" + strconv.Itoa(i) + "=1&")
	}
	return b.String()
}

func TestDedupKey(t *testing.T) {
	base := "CallSid=c1&EventType=terminal&Status=completed&RecordingUrl=https://r/a.mp3?sig=1" +
		"&Legs[0][Status]=completed"
	key := func(tenant, kind string, r Request) [32]byte {
		event, err := ParseEvent(kind, r, ist)
		if err != nil {
			t.Fatal(err)
		}
		return event.DedupKey(tenant)
	}
	want := key("a/b", KindStatus, form(base))
	for name, r := range map[string]Request{
		"again":         form(base),
		"another query": form(strings.Replace(base, "sig=1", "sig=2", 1)),
		"as multipart": multi(t, "CallSid", "c1", "EventType", "terminal", "Status", "completed",
			"RecordingUrl", "https://r/a.mp3", "Legs[0][Status]", "completed"),
		"requested later":     form(base + "&CurrentTime=2024-01-15+14:30:46"),
		"with an empty field": form(base + "&CustomField=&Price="),
		"in another order": form("Legs[0][Status]=completed&RecordingUrl=https://r/a.mp3&Status=completed&" +
			"EventType=terminal&CallSid=c1"),
		"as a query": {Method: "GET", RawQuery: base},
		"as JSON": {
			ContentType: "application/json",
			Body: []byte(`{"CallSid":"c1","EventType":"terminal",
			"Status":"completed","RecordingUrl":"https://r/a.mp3","EndTime":null,"Legs":[{"Status":"completed"}]}`),
		},
	} {
		if key("a/b", KindStatus, r) != want {
			t.Errorf("%s: the key differs, want the same", name)
		}
	}
	for name, got := range map[string][32]byte{
		"tenant":    key("a/c", KindStatus, form(base)),
		"kind":      key("a/b", KindPassthru, form(base)),
		"type":      key("a/b", KindStatus, form(strings.Replace(base, "terminal", "answered", 1))),
		"recording": key("a/b", KindStatus, form(strings.Replace(base, "a.mp3", "b.mp3", 1))),
		"leg":       key("a/b", KindStatus, form(base+"&Legs[1][Status]=busy")),
		"update":    key("a/b", KindStatus, form(base+"&DateUpdated=2024-01-15+14:30:46")),
		"digit":     key("a/b", KindStatus, form(base+"&Digits=1")),
		"status":    key("a/b", KindStatus, form(strings.Replace(base, "=completed&Rec", "=&Legs=completed&Rec", 1))),
	} {
		if got == want {
			t.Errorf("another %s: the key is the same, want another", name)
		}
	}
}

// TestStepsOfOneFlow verifies that the Passthru applets of one call are separate events.
func TestStepsOfOneFlow(t *testing.T) {
	seen := map[[32]byte]string{}
	for _, query := range []string{"", "&digits=%221%22", "&digits=%222%22", "&CallType=completed",
		"&DialCallStatus=no-answer", "&flow_id=7",
		"&Stream[StreamSID]=s1", "&Stream[StreamSID]=s2", "&Stream[StreamSID]=s1&Stream[Status]=failed"} {
		event, err := ParseEvent(KindPassthru, Request{
			Method:   "GET",
			RawQuery: "CallSid=c1&CallStatus=in-progress" + query,
		}, ist)
		if err != nil {
			t.Fatal(err)
		}
		if other, taken := seen[event.DedupKey("a/b")]; taken {
			t.Errorf("%q and %q have one key", query, other)
		}
		seen[event.DedupKey("a/b")] = query
	}
}

// TestFieldSpelledTwice verifies that a request with a field in two spellings is always read in the same way. The order
// of a map must not matter.
func TestFieldSpelledTwice(t *testing.T) {
	request := Request{
		ContentType: "application/json",
		Body: []byte(
			`{"CallSid":"c1","Legs":[{"Status":"busy"}],"Legs[0][Status]":"completed","Legs[0]":{"Status":"failed"}}`,
		),
	}
	want, err := ParseEvent(KindStatus, request, ist)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if got, err := ParseEvent(KindStatus, request, ist); err != nil || got.DedupKey("a/b") != want.DedupKey("a/b") {
			t.Fatalf("the same request is read as %v and %v (%v)", want.fields, got.fields, err)
		}
	}
}

func TestSeconds(t *testing.T) {
	for s, want := range map[string]int{
		"":          0,
		"41":        41,
		`"41"`:      41,
		"4.39":      4,
		"-1":        0,
		"NaN":       0,
		"nan":       0,
		"Inf":       0,
		"-Infinity": 0,
		"1e400":     0,
		"604801":    0,
		"soon":      0,
	} {
		if got, _ := readSeconds(s); got != want {
			t.Errorf("readSeconds(%q) = %d, want %d", s, got, want)
		}
	}
}

// FuzzParseTime verifies that each parsed time is between the bounds and survives a round trip through JSON.
func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2024-01-15 14:25:12", "2022-11-03 22:54:40+05:30", "2026-01-15T10:30:00.529Z",
		"1970-01-01 05:30:00", "0000-00-00 00:00:00",
		"Mon, 02 Jan 2006 15:04:05 -0700", "9999-12-31T23:59:59-23:59", "2024-01-15T14:25:10+24:00",
		"2024-02-30 00:00:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := ParseTime(s, ist)
		if got.IsZero() {
			return
		}
		if got.Year() <= 1970 || got.Year() > 9999 {
			t.Fatalf("%q is read as %s", s, got)
		}
		text, err := got.MarshalJSON()
		if err != nil {
			t.Fatalf("%q is read as a time that cannot be written: %v", s, err)
		}
		var again time.Time
		if err := again.UnmarshalJSON(text); err != nil || !again.Equal(got) {
			t.Fatalf("%q is read as %s, written as %s and read again as %s (%v)", s, got, text, again, err)
		}
	})
}

func FuzzParseEvent(f *testing.F) {
	f.Add("application/json", "", []byte(jsonSample))
	f.Add("application/x-www-form-urlencoded", "CallSid=c1", []byte("Legs[0][Status]=completed&Stream={\"a\":1}"))
	f.Add(
		"multipart/form-data; boundary=b",
		"",
		[]byte("--b\r\nContent-Disposition: form-data; name=\"CallSid\"\r\n\r\nc1\r\n--b--\r\n"),
	)
	f.Add(
		"",
		"CallSid=c1&digits=%221234%22&EndTime=1970-01-01+05%3A30%3A00&Direction=incoming"+
			"&CurrentTime=2024-01-15+14%3A30%3A45",
		[]byte{},
	)
	f.Add(
		"",
		"CallSid=c1&Stream%5BStreamSID%5D=s&Stream%5BDuration%5D=28"+
			"&Stream%5BRecordingUrl%5D=https%3A%2F%2Fr%2Fs.mp3%3Fx",
		[]byte{},
	)
	f.Add("", "CallSid=c1&Stream=%7B%22StreamSid%22%3A%22s%22%2C%22Duration%22%3A28%7D", []byte{})
	f.Add("application/json", "", []byte(`{"CallSid":"c1","Status":"cancelled","Stream":"{\"StreamSID\":\"s\"}"}`))
	f.Add("application/json", "", []byte(legSample))
	for _, tc := range spelled {
		f.Add(tc.r.ContentType, tc.r.RawQuery, tc.r.Body)
	}
	for _, tc := range partial {
		f.Add(tc.r.ContentType, tc.r.RawQuery, tc.r.Body)
	}
	f.Fuzz(func(t *testing.T, contentType, query string, body []byte) {
		request := Request{ContentType: contentType, RawQuery: query, Body: body}
		_, _ = ParseEvent(KindLeg, request, ist)
		_ = ReadClaim(request)
		event, err := ParseEvent(KindStatus, request, ist)
		if err != nil {
			var p *ParseError
			if !errors.As(err, &p) {
				t.Fatalf("%v is not a ParseError", err)
			}
			return
		}
		const week = 7 * 24 * 3600
		if event.ConversationSeconds < 0 || event.ConversationSeconds > week {
			t.Fatalf("a conversation of %d seconds", event.ConversationSeconds)
		}
		if !isID(event.CallSID) {
			t.Fatalf("CallSid %q got through", event.CallSID)
		}
		if len(event.Unread) > maxUnread || len(event.ListedLegs) > maxListedLegs {
			t.Fatalf("%d unread fields and %d legs", len(event.Unread), len(event.ListedLegs))
		}
		for _, s := range append(event.RecordingURLs, event.From, event.To, event.CustomField, event.EventType,
			event.Status) {
			if !isText(s) {
				t.Fatalf("%q got through", s)
			}
		}
		for _, u := range event.Unread {
			if u.Field == "" && u.Reason != reason.FieldMalformed && u.Reason != reason.FieldTooLarge ||
				!isText(u.Field+u.Value) ||
				FieldLabel(u.Field) == "" {
				t.Fatalf("unread field %+v", u)
			}
		}
		again, err := ParseEvent(KindStatus, request, ist)
		if err != nil || again.DedupKey("a/b") != event.DedupKey("a/b") {
			t.Fatalf("the same request has two keys (%v)", err)
		}
		if diff := cmp.Diff(event, again, cmpopts.IgnoreUnexported(Event{})); diff != "" {
			t.Fatalf("the same request has two meanings:\n%s", diff)
		}
	})
}

func byField(a, b Unread) int {
	return strings.Compare(a.Field+a.Reason, b.Field+b.Reason)
}

func TestIsID(t *testing.T) {
	for s, want := range map[string]bool{
		"80bfbec2d78bbbf10fb851f4fa165211": true,
		"a-B_9":                            true,
		"z418cn":                           true,
		"":                                 false,
		"a b":                              false,
		"a/b":                              false,
		"é":                                false,
		"a\x00":                            false,
		"a.b":                              false,
		"@":                                false,
		"[":                                false,
		"`":                                false,
		"{":                                false,
	} {
		if got := isID(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}
