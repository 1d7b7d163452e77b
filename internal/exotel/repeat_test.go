package exotel

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/reason"
)

const recordingA, recordingB = "https://recordings.exotel.com/a.mp3", "https://recordings.exotel.com/b.mp3"

// TestRepeatedRecordings checks that every URL of a recording counts, however a request repeats it.
func TestRepeatedRecordings(t *testing.T) {
	a := recordingA
	b := recordingB
	for name, tc := range map[string]struct {
		r    Request
		want []string
	}{
		"a name twice":   {form("CallSid=c1&RecordingUrl=" + a + "&RecordingUrl=" + b), []string{a, b}},
		"the same twice": {form("CallSid=c1&RecordingUrl=" + a + "&RecordingUrl=" + a), []string{a}},
		"a list":         {form("CallSid=c1&RecordingUrl[]=" + a + "&RecordingUrl[]=" + b), []string{a, b}},
		"an escaped list": {form("CallSid=c1&RecordingUrl%5B%5D=" + a + "&RecordingUrl%5b%5d=" + b),
			[]string{a, b}},
		"a list of objects": {form("CallSid=c1&Recordings[][url]=" + a + "&Recordings[][url]=" + b),
			[]string{a, b}},
		"a list and a number": {form("CallSid=c1&RecordingUrl[0]=" + a + "&RecordingUrl[]=" + b), []string{a, b}},
		"two cases":           {form("CallSid=c1&RecordingUrl=" + a + "&recordingurl=" + b), []string{a, b}},
		"two names":           {form("CallSid=c1&RecordingUrl=" + a + "&CallRecordings=" + b), []string{a, b}},
		"nested and flat": {asJSON(`{"call_details":{"recording_url":"` + b +
			`"},"CallSid":"c1","RecordingUrl":"` + a + `"}`), []string{a, b}},
		"twice in JSON": {asJSON(`{"CallSid":"c1","RecordingUrl":"` + a + `","RecordingUrl":"` + b + `"}`),
			[]string{a, b}},
		"in parts": {multi(t, "CallSid", "c1", "RecordingUrl", a, "RecordingUrl", b), []string{a, b}},
		"in parts as a list": {multi(t, "CallSid", "c1", "RecordingUrl[]", a, "RecordingUrl[]", b), []string{a,
			b}},
		"JSON twice": {form(`CallSid=c1&Recordings=["` + a + `"]&Recordings=["` + b + `"]`), []string{a,
			b}},
		"a URL and JSON": {form("CallSid=c1&RecordingUrl=" + a + `&RecordingUrl=["` + b + `"]`), []string{a, b}},
		"JSON and a URL": {form(`CallSid=c1&RecordingUrl=["` + b + `"]&RecordingUrl=` + a), []string{a, b}},
		"a URL and an object": {form("CallSid=c1&RecordingUrl=" + a + `&RecordingUrl={"url":"` + b + `"}`),
			[]string{a, b}},
		"a URL in the query, and JSON": {Request{
			RawQuery: "CallSid=c1&RecordingUrl=" + a,
			Body:     []byte(`RecordingUrl=["` + b + `"]`),
		}, []string{a, b}},
		"JSON in the query, and a URL": {Request{
			RawQuery: `CallSid=c1&RecordingUrl=["` + b + `"]`,
			Body:     []byte("RecordingUrl=" + a),
		}, []string{a, b}},
		"nothing and one": {form("CallSid=c1&RecordingUrl=" + a + "&RecordingUrl=&RecordingUrl=null"),
			[]string{a}},
		"buckets in a text": {form("CallSid=c1&RecordingUrl=" + a +
			",exotelrecordings.s3.amazonaws.com/b.mp3,s3.ap-south-1.amazonaws.com:443/exotel-mum1-recordings/c.mp3"),
			[]string{"https://exotelrecordings.s3.amazonaws.com/b.mp3", a,
				"https://s3.ap-south-1.amazonaws.com:443/exotel-mum1-recordings/c.mp3"}},
		"a comma in a name": {form("CallSid=c1&RecordingUrl=" + a + "?n=a,s3.amazonaws.com/other/b.mp3"),
			[]string{a + "?n=a,s3.amazonaws.com/other/b.mp3"}},
		"two lists in texts": {form("CallSid=c1&RecordingUrl=" + a + "," + b + "&RecordingUrl=" + b + "," + a),
			[]string{a, b}},
		"a stream's twice": {get("CallSid=c1&Stream[RecordingUrl]=" + a + "&Stream[RecordingUrl]=" + b),
			[]string{a, b}},
		"a leg's two": {form("CallSid=c1&Legs[0][RecordingUrl]=" + a + "&Legs[0][Url]=" + b), []string{a,
			b}},
		"a leg's twice": {form("CallSid=c1&Legs[0][RecordingUrl]=" + a + "&Legs[0][RecordingUrl]=" + b),
			[]string{a, b}},
		"a list of legs": {form("CallSid=c1&Legs[][RecordingUrl]=" + a + "&Legs[][RecordingUrl]=" + b),
			[]string{a, b}},
		"the query and the body": {Request{
			RawQuery: "CallSid=c1&RecordingUrl=" + b,
			Body: []byte("RecordingUrl=" +
				a),
		}, []string{a, b}},
	} {
		t.Run(name, func(t *testing.T) {
			event, err := ParseEvent(KindStatus, tc.r, ist)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(event.RecordingURLs)
			if diff := cmp.Diff(tc.want, event.RecordingURLs); diff != "" || len(event.Unread) > 0 {
				t.Errorf("without %v, recordings (-want +got):\n%s", event.Unread, diff)
			}
		})
	}
}

// TestRecordingNextToFaultyJSON checks that JSON that cannot be read hides no other recording, and that both count when
// deliveries are compared.
func TestRecordingNextToFaultyJSON(t *testing.T) {
	keys := map[[32]byte]bool{}
	for _, url := range []string{recordingA, recordingB} {
		for _, faulty := range []string{`["x`, `{"x`} {
			for _, body := range []string{url + "&RecordingUrl=" + faulty, faulty + "&RecordingUrl=" + url} {
				event, err := ParseEvent(KindStatus, form("CallSid=c1&RecordingUrl="+body), ist)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([]string{url}, event.RecordingURLs); diff != "" {
					t.Errorf("%s: recordings (-want +got):\n%s", body, diff)
				}
				keys[event.DedupKey("a/b")] = true
			}
		}
	}
	if len(keys) != 4 {
		t.Errorf("%d keys for 4 events", len(keys))
	}
}

// TestRepeatedFields checks which of several values counts, in every order, and that the others are noted.
func TestRepeatedFields(t *testing.T) {
	unread := func(field string) []Unread { return []Unread{{Field: field, Reason: reason.FieldRepeated}} }
	for name, tc := range map[string]struct {
		field  string
		values []string
		want   Event
	}{
		"a state that ends the call": {"Status", []string{"busy", "ringing", "in-progress"},
			Event{Status: "busy", State: StateBusy, Unread: unread("Status")}},
		"completed": {"Status", []string{"failed", "completed", "no-answer"}, Event{
			Status: "completed",
			State:  StateCompleted,
			Unread: unread("Status"),
		}},
		"a known word": {"Status", []string{"teleported", "busy"}, Event{
			Status: "busy",
			State:  StateBusy,
			Unread: unread("Status"),
		}},
		"nothing": {"Status", []string{"", "busy", "null"}, Event{Status: "busy", State: StateBusy}},
		"a terminal event": {"EventType", []string{"terminal", "answered"}, Event{
			EventType: "terminal",
			Terminal:  true,
			Assumed:   true,
			State:     StateCompleted,
			Unread:    unread("EventType"),
		}},
		"talk": {"ConversationDuration", []string{"9", "40", "8"}, Event{
			ConversationSeconds: 40,
			Unread:              unread("ConversationDuration"),
		}},
		"a number": {"From", []string{"09876543210", "+919876543210"}, Event{
			From:   "+919876543210",
			Unread: unread("From"),
		}},
		"the same": {"From", []string{"0987", "0987", " 0987"}, Event{From: "0987"}},
		"a faulty one": {"To", []string{"%zz", "0987"}, Event{
			To: "0987",
			Unread: []Unread{{
				Field:  "To",
				Reason: reason.FieldMalformed,
			}},
		}},
	} {
		for i, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {1, 2, 0}} {
			t.Run(fmt.Sprint(name, i), func(t *testing.T) {
				body := "CallSid=c1"
				for _, at := range order {
					if at < len(tc.values) {
						body += "&" + tc.field + "=" + strings.ReplaceAll(tc.values[at], "+", "%2B")
					}
				}
				want := tc.want
				want.CallSID = "c1"
				checkEvent(t, KindStatus, form(body), want)
			})
		}
	}
}

// TestSpellingsInAnyOrder checks that a request has one meaning, whatever the order in which its fields are read, and
// that only values in the spelling that counts are noted as repeated.
func TestSpellingsInAnyOrder(t *testing.T) {
	legs := ""
	for i := range maxListedLegs + 9 {
		legs += fmt.Sprintf("&Legs[%d][Number]=%d&Legs[%d][Talk%d]=1", i, i, i, i)
	}
	for name, tc := range map[string]struct {
		fields string
		want   []Unread
	}{
		"the other spelling":   {"From=1&CallFrom=2&callfrom=3", nil},
		"the spelling":         {"From=1&from=4&CallFrom=2", []Unread{{Field: "From", Reason: reason.FieldRepeated}}},
		"of a leg":             {"Legs[0][Number]=1&Legs[0][contact_uri]=2&Legs[0][ContactUri]=3", nil},
		"more legs than count": {legs[1:], nil},
	} {
		parse := func() *Event {
			event, err := ParseEvent(KindStatus, form("CallSid=c1&"+tc.fields), ist)
			if err != nil {
				t.Fatal(err)
			}
			return event
		}
		first := parse()
		if !strings.HasPrefix(name, "more") {
			if diff := cmp.Diff(tc.want, first.Unread, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: unread (-want +got):\n%s", name, diff)
			}
		}
		for range 50 {
			if diff := cmp.Diff(first, parse(), cmpopts.IgnoreUnexported(Event{})); diff != "" {
				t.Fatalf("%s: the same request has two meanings:\n%s", name, diff)
			}
		}
	}
}

// TestQueryAndBody checks that the body's value counts, however query and body spell the name.
func TestQueryAndBody(t *testing.T) {
	for name, tc := range map[string]struct {
		query, body string
		want        Event
	}{
		"the same name": {"CallSid=c1xyz", "CallSid=c1", Event{CallSID: "c1"}},
		"another case":  {"callsid=c1xyz", "CallSid=c1", Event{CallSID: "c1"}},
		"an underscore": {"CallSid=c1xyz&CallStatus=completed", "call_sid=c1&call_status=busy", Event{
			CallSID: "c1",
			Status:  "busy",
			State:   StateBusy,
			About:   AboutStage,
		}},
		"nothing": {"CallSid=c1&status=busy", "callsid=&Status=null", Event{
			CallSID: "c1",
			Status:  "busy",
			State:   StateBusy,
		}},
		"nothing, exactly": {"CallSid=c1", "CallSid=", Event{CallSID: "c1"}},
		"twice in a query": {"from=1&FROM=2", "CallSid=c1&From=0", Event{CallSID: "c1", From: "0"}},
		"one spelling twice in a query": {"From=1&From=2&CallSid=c1long", "CallSid=c1&From=0",
			Event{CallSID: "c1", From: "0"}},
		"another spelling": {"from=website&CallStatus=new", "CallSid=c1&CallFrom=0&Status=completed",
			Event{CallSID: "c1", From: "0", Status: "completed", State: StateCompleted}},
		"nested in the body": {"from=website&status=new",
			`{"call_details":{"sid":"c1","from":"0","status":"completed"}}`,
			Event{CallSID: "c1", From: "0", Status: "completed", State: StateCompleted}},
		"a leg": {"legs[0][number]=111", "CallSid=c1&Legs[0][Number]=22", Event{
			CallSID:    "c1",
			ListedLegs: []ListedLeg{{Number: "22"}},
		}},
		"recordings": {"recordingurl=" + recordingB, "CallSid=c1&RecordingUrl=" + recordingA, Event{
			CallSID:       "c1",
			RecordingURLs: []string{recordingA, recordingB},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			checkEvent(t, KindStatus, Request{RawQuery: tc.query, Body: []byte(tc.body)}, tc.want)
		})
	}
	many := func(last string) [32]byte {
		legs := "[" + strings.Repeat(`{"a":1,"b":2,"c":3,"d":4,"e":5},`, 110) + `{"a":` + last + `}]`
		event, err := ParseEvent(KindStatus, Request{Body: []byte("CallSid=c1&Legs=" + url.QueryEscape(legs))}, ist)
		if err != nil {
			t.Fatal(err)
		}
		return event.DedupKey("a/b")
	}
	if many("1") == many("2") {
		t.Error("what a list of too many legs ends with has no effect on the key")
	}
	one, errOne := ParseEvent(KindStatus, Request{RawQuery: "my_step=1", Body: []byte("CallSid=c1&mystep=0")}, ist)
	two, errTwo := ParseEvent(KindStatus, Request{RawQuery: "my_step=2", Body: []byte("CallSid=c1&mystep=0")}, ist)
	if errOne != nil || errTwo != nil || one.DedupKey("a/b") == two.DedupKey("a/b") {
		t.Errorf("a variable of the query has no effect on the key (%v, %v)", errOne, errTwo)
	}
}

// TestRepeatedLegs reads the lists of legs that have no numbers.
func TestRepeatedLegs(t *testing.T) {
	for name, tc := range map[string]struct {
		fields string
		want   []Leg
		unread []Unread
	}{
		"legs one after another": {"Legs[][Status]=completed&Legs[][OnCallDuration]=9" +
			"&Legs[][Status]=busy&Legs[][OnCallDuration]=0",
			[]Leg{WholeLeg(0, "", StateCompleted, 9), WholeLeg(1, "", StateBusy, 0)}, nil},
		"a leg without a duration": {"Legs[][Status]=completed&Legs[][Status]=no-answer&Legs[][OnCallDuration]=3",
			[]Leg{WholeLeg(0, "", StateCompleted, 0), WholeLeg(1, "", StateNoAnswer, 3)}, nil},
		"nested": {"Legs[][Insights][Status]=busy&Legs[][Insights][Status]=failed",
			[]Leg{WholeLeg(0, "", StateBusy, 0), WholeLeg(1, "", StateFailed, 0)}, nil},
		"a status twice": {"Legs[0][Status]=completed&Legs[0][Status]=busy",
			[]Leg{WholeLeg(0, "", StateCompleted, 0)}, []Unread{{Field: "Legs[Status]", Reason: reason.FieldRepeated}}},
	} {
		t.Run(name, func(t *testing.T) {
			event, err := ParseEvent(KindStatus, form("CallSid=c1&"+tc.fields), ist)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, event.Legs); diff != "" {
				t.Errorf("legs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.unread, event.Unread, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("unread (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRepeatedKey checks that a further value makes another event, in whatever order the values come.
func TestRepeatedKey(t *testing.T) {
	key := func(r Request) [32]byte {
		event, err := ParseEvent(KindStatus, r, ist)
		if err != nil {
			t.Fatal(err)
		}
		return event.DedupKey("a/b")
	}
	one := key(form("CallSid=c1&x=1"))
	two := key(form("CallSid=c1&x=1&x=2"))
	if one == two || two == key(form("CallSid=c1&x=1&x=3")) {
		t.Error("another value has no effect on the key")
	}
	if two != key(form("x=2&CallSid=c1&x=1&x=2")) || one != key(form("x=1&CallSid=c1&x=1&x=")) {
		t.Error("the order of the values changes the key")
	}
}

// TestUnreadKey checks that two events that differ only in what is not read are two events.
func TestUnreadKey(t *testing.T) {
	long := strings.Repeat("a", maxValue)
	deep := strings.Repeat("[", 9) + `"%s"` + strings.Repeat("]", 9)
	part := "--%[1]s\r\nContent-Disposition: form-data; name=\"CallSid\"\r\n\r\nc1\r\n--%[1]s\r\n" +
		"Content-Disposition: form-data; name=\"x\"\r\n\r\n%[2]s"
	parts := func(boundary, rest string) Request {
		return Request{
			ContentType: "multipart/form-data; boundary=" + boundary,
			Body: fmt.Appendf(nil, part,
				boundary, rest),
		}
	}
	for name, of := range map[string]func(digit string) Request{
		"a long value": func(s string) Request { return form("CallSid=c1&x=" + long + s) },
		"a long name": func(s string) Request {
			return form("CallSid=c1&" + strings.Repeat("n",
				maxName) + s + "=1")
		},
		"a long faulty name": func(s string) Request {
			return form("CallSid=c1&%zz" + strings.Repeat("n", 99) +
				s + "=1")
		},
		"a long faulty value":  func(s string) Request { return form("CallSid=c1&x=%zz" + long + s) },
		"a long value in JSON": func(s string) Request { return asJSON(`{"CallSid":"c1","x":"` + long + s + `"}`) },
		"a long name in JSON":  func(s string) Request { return asJSON(`{"CallSid":"c1","` + long + s + `":1}`) },
		"a deep value": func(s string) Request {
			return asJSON(`{"CallSid":"c1","x":` + fmt.Sprintf(deep,
				s) + `}`)
		},
		"a deep value in a field": func(s string) Request {
			return form(`CallSid=c1&Stream={"x":` +
				fmt.Sprintf(deep, s) + `}`)
		},
		"faulty JSON in a field":  func(s string) Request { return form(`CallSid=c1&Stream={"x":"` + s) },
		"text after JSON":         func(s string) Request { return asJSON(`{"CallSid":"c1"} ` + s) },
		"text after JSON, nested": func(s string) Request { return form(`CallSid=c1&Stream={"x":1}` + s) },
		"a cut body":              func(s string) Request { return asJSON(`{"CallSid":"c1","x":"` + s) },
		"too many fields":         func(s string) Request { return form("CallSid=c1&" + manyFields(600) + "x=" + s) },
		"too many in the query":   func(s string) Request { return get("CallSid=c1&" + manyFields(600) + "x=" + s) },
		"invalid UTF-8 in JSON": func(s string) Request {
			return asJSON(`{"CallSid":"c1","x":"` +
				string([]byte{0xc0 + s[0]}) + `"}`)
		},
		"half a pair in JSON": func(s string) Request { return asJSON(`{"CallSid":"c1","x":"\ud80` + s + `"}`) },
		"a long part":         func(s string) Request { return parts("b", long+s+"\r\n--b--") },
		"a cut part":          func(s string) Request { return parts("b", s) },
		"a query of a URL": func(s string) Request {
			return form("CallSid=c1&x=https://acme.example/?step=" +
				s)
		},
		"the second of two buckets": func(s string) Request {
			return form("CallSid=c1&RecordingUrl=" + recordingA + "?s,exotelrecordings.s3.amazonaws.com/" + s)
		},
		"words and a question": func(s string) Request { return form("CallSid=c1&CustomField=why?sig=" + s) },
		"the second of two URLs": func(s string) Request {
			return form("CallSid=c1&RecordingUrl=" + recordingA +
				"?s,https://r/" + s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var keys [3][32]byte
			for i, digit := range []string{"1", "2", "1"} {
				event, err := ParseEvent(KindStatus, of(digit), ist)
				if err != nil {
					t.Fatal(err)
				}
				keys[i] = event.DedupKey("a/b")
			}
			if keys[0] == keys[1] || keys[0] != keys[2] {
				t.Errorf("the keys are the same: %v for two events, %v for one", keys[0] == keys[1],
					keys[0] == keys[2])
			}
		})
	}
	for name, pair := range map[string][2]Request{
		"another boundary": {parts("b1", "1"), parts("b2", "1")},
		"a signature that is new": {form("CallSid=c1&x=https://s3.example/a?X-Amz-Signature=1"),
			form("CallSid=c1&x=https://s3.example/a?X-Amz-Signature=2")},
		"without a scheme": {form("CallSid=c1&RecordingUrl=recordings.exotel.com/a.mp3?X-Amz-Signature=1"),
			form("CallSid=c1&RecordingUrl=recordings.exotel.com/a.mp3?X-Amz-Signature=2")},
		"slashes alone": {form("CallSid=c1&x=//s3.example/a?X-Amz-Signature=1"),
			form("CallSid=c1&x=//s3.example/a?X-Amz-Signature=2")},
		"a host of Exotel's": {form("CallSid=c1&x=recordings.exotel.com:443/a?Signature=1"),
			form("CallSid=c1&x=recordings.exotel.com:443/a?Signature=2")},
		"a bucket": {form("CallSid=c1&x=exotelrecordings.s3.amazonaws.com/a?Signature=1"),
			form("CallSid=c1&x=exotelrecordings.s3.amazonaws.com/a?Signature=2")},
		"in capitals": {form("CallSid=c1&RecordingUrl=HTTPS://recordings.exotel.com/a.mp3?S=1&x=HTTPS://r/a?sig=1"),
			form("CallSid=c1&RecordingUrl=HTTPS://recordings.exotel.com/a.mp3?S=2&x=HTTPS://r/a?sig=2")},
		"in quotes": {form(`CallSid=c1&RecordingUrl='https://recordings.exotel.com/a.mp3?S=1'`),
			form(`CallSid=c1&RecordingUrl='https://recordings.exotel.com/a.mp3?S=2'`)},
		"buckets in a list": {
			form("CallSid=c1&RecordingUrl=" + recordingA + "?a=1,s3.amazonaws.com/exotelrecordings/b.mp3?a=1"),
			form("CallSid=c1&RecordingUrl=" + recordingA + "?a=2,s3.amazonaws.com/exotelrecordings/b.mp3?a=2")},
		"two signatures that are new": {form("CallSid=c1&RecordingUrl=" + recordingA + "?a=1," + recordingB + "?a=1"),
			form("CallSid=c1&RecordingUrl=" + recordingA + "?a=2," + recordingB + "?a=2")},
	} {
		first, err := ParseEvent(KindStatus, pair[0], ist)
		again, errAgain := ParseEvent(KindStatus, pair[1], ist)
		if err != nil || errAgain != nil || first.DedupKey("a/b") != again.DedupKey("a/b") {
			t.Errorf("%s: a redelivery is another event (%v, %v)", name, err, errAgain)
		}
	}
}
