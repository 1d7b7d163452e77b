package exotel

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/reason"
)

func asJSON(s string) Request {
	return Request{Method: "POST", ContentType: "application/json", Body: []byte(s)}
}

func get(query string) Request { return Request{Method: "GET", RawQuery: query} }

// spelled are requests of several products, with what is to be read from them.
var spelled = map[string]struct {
	kind string
	r    Request
	want Event
}{
	// https://developer.exotel.com/api/receive-outbound-call-notifications
	"outbound call notification": {KindStatus, asJSON(`{"CallSid":"c106","FromNumber":"+919800000001",
		"ToNumber":"07251937261","Direction":"outbound","CallState":"terminal","CallStatus":"to_leg_unanswered",
		"CallRecordings":"https://recordings.exotel.com/x/c106.mp3","ExotelAccountSid":"acme1",
		"StartTime":"2023-12-04T23:02:19Z","CreatedAt":"0001-01-01T00:00:00Z","TotalDuration":0}`),
		Event{
			CallSID:    "c106",
			EventType:  "terminal",
			Terminal:   true,
			Status:     "to_leg_unanswered",
			State:      StateNoAnswer,
			Direction:  "outbound-api",
			From:       "+919800000001",
			To:         "07251937261",
			AccountSID: "acme1",
			StartedAt: time.Date(2023, 12, 4, 23, 2,
				19, 0, time.UTC),
			RecordingURLs: []string{"https://recordings.exotel.com/x/c106.mp3"},
		}},
	"outbound call in progress": {KindStatus,
		asJSON(`{"CallSid":"c1","CallStatus":"","CallState":"active","CallRecordings":"","CallDetail":"answered"}`),
		Event{CallSID: "c1", EventType: "answered", Status: "active", State: StateInProgress}},
	"agent hung up": {KindStatus,
		asJSON(`{"CallSid":"c1","CallStatus":"from_leg_cancelled","CallState":"terminal","CallDetail":"terminal"}`),
		Event{
			CallSID:   "c1",
			EventType: "terminal",
			Terminal:  true,
			Status:    "from_leg_cancelled",
			State:     StateCanceled,
		}},
	// https://developer.exotel.com/docs/voice-v3/api-reference/call-details
	"Voice v3": {KindStatus, asJSON(`{"call_details":{"sid":"c107","state":"terminal","status":"completed",
		"direction":"inbound","start_time":"2022-11-03 22:54:40+05:30","end_time":"1970-01-01 05:30:00+05:30",
		"total_talk_time":12,"custom_field":"f","digits":"1-2","virtual_number":"08047491899",
		"recordings":[{"url":"https://recordings.exotel.com/a.mp3"},{"url":"https://recordings.exotel.com/b.mp3"}]},
		"event_details":{"event_type":"terminal"}}`),
		Event{
			CallSID:             "c107",
			EventType:           "terminal",
			Terminal:            true,
			Status:              "completed",
			State:               StateCompleted,
			Direction:           "inbound",
			CustomField:         "f",
			ConversationSeconds: 12,
			StartedAt:           time.Date(2022, 11, 3, 22, 54, 40, 0, ist),
			RecordingURLs:       []string{"https://recordings.exotel.com/a.mp3", "https://recordings.exotel.com/b.mp3"},
		}},
	"answer of Voice v3": {KindStatus,
		asJSON(`{"request_id":"r","response":{"call_details":{"sid":"c1","status":"to_leg_no_dial"}}}`),
		Event{CallSID: "c1", Status: "to_leg_no_dial", State: StateFailed}},
	// https://developer.exotel.com/docs/voice-api, and tests of an integration with its StatusCallbacks
	"Voice v2": {KindStatus, asJSON(`{"event_details":{"event_type":"terminal"},"call_details":{"call_sid":"c1",
		"direction":"outbound","virtual_number":"+918068875144","call_state":"terminal",
		"call_status":"customer_unanswered","assigned_agent_details":{"user_id":"b240c0","user_name":"A"},
		"customer_details":{"contact_uri":"+918073118693","status":"no-answer"},"total_talk_time":0,
		"total_duration":null,"recordings":null,"custom_field":"f"}}`),
		Event{
			CallSID:     "c1",
			EventType:   "terminal",
			Terminal:    true,
			Status:      "customer_unanswered",
			State:       StateNoAnswer,
			Direction:   "outbound-api",
			To:          "+918073118693",
			CustomField: "f",
		}},
	"answer of Voice v2": {KindStatus, asJSON(`{"response":{"call_details":{"sid":"c1","direction":"inbound",
		"state":"terminal","status":"agent_canceled","customer_details":{"number":"+918073118693"},
		"recording":{"available":true,"url":"https://recordings.exotel.com/a.mp3"},
		"legs":"/v2/accounts/a/calls/c1/legs"}}}`),
		Event{
			CallSID:       "c1",
			EventType:     "terminal",
			Terminal:      true,
			Status:        "agent_canceled",
			State:         StateCanceled,
			Direction:     "inbound",
			From:          "+918073118693",
			RecordingURLs: []string{"https://recordings.exotel.com/a.mp3"},
		}},
	// frappe/erpnext, erpnext/tests/test_exotel.py
	"times without a zone": {KindPassthru,
		get("CallSid=c1&Created=Wed,+23+Feb+2022+12:37:25&RecordingAvailableBy=Wed,+2+Feb+2022+12:40:00"),
		Event{
			CallSID: "c1",
			At:      time.Date(2022, 2, 23, 12, 37, 25, 0, ist),
			AvailableAt: time.Date(2022, 2, 2, 12,
				40, 0, 0, ist),
		}},
	"result of a dial attempt": {KindPassthru,
		get("CallSid=c1&DialCallStatus=canceled&CallType=client-hangup&DialWhomNumber=0999&flow_id=7&" +
			"DialCallDuration=17" +
			"&Legs[0][Number]=0999&Legs[0][Type]=single&Legs[0][OnCallDuration]=10&Legs[0][CauseCode]=RING_TIMEOUT&" +
			"Legs[0][Cause]=1003"),
		Event{
			CallSID:    "c1",
			Status:     "canceled",
			State:      StateCanceled,
			CallType:   "client-hangup",
			Dial:       &Dial{Status: "canceled", State: StateCanceled},
			ListedLegs: []ListedLeg{{Number: "0999", OnCallSeconds: 10, CauseCode: "RING_TIMEOUT"}},
		}},
	"agent is busy": {KindPassthru, get("CallSid=c1&Status=busy&EventType=Dial&AgentEmail=a@example.com"),
		Event{CallSID: "c1", EventType: "dial", Agent: &Agent{"a@example.com", "busy"}}},
	"agent is free": {KindPassthru, get("CallSid=c1&Status=free&AgentEmail=a@example.com"), Event{
		CallSID: "c1",
		Agent:   &Agent{"a@example.com", "free"},
	}},
	"call is busy": {KindStatus, get("CallSid=c1&Status=busy&EventType=terminal"), Event{
		CallSID:   "c1",
		EventType: "terminal",
		Terminal:  true,
		Status:    "busy",
		State:     StateBusy,
	}},
	"spelled with _": {KindStatus, form("CallSid=c1&EventType=terminal&Status=no_answer"),
		Event{CallSID: "c1", EventType: "terminal", Terminal: true, Status: "no_answer", State: StateNoAnswer}},
	"terminal with a status of before the end": {KindStatus, form("CallSid=c1&EventType=Terminal&Status=in-progress"),
		Event{
			CallSID:   "c1",
			EventType: "terminal",
			Terminal:  true,
			Assumed:   true,
			Status:    "in-progress",
			State:     StateCompleted,
		}},
	"terminal without a status": {KindStatus, form("CallSid=c1&event_type=terminal"), Event{
		CallSID:   "c1",
		EventType: "terminal",
		Terminal:  true,
		Assumed:   true,
		State:     StateCompleted,
	}},
	"in other cases": {KindStatus,
		form("callsid=c1&STATUS=Busy&call_from=1234567&recordingurl=https://recordings.exotel.com/a.mp3"),
		Event{
			CallSID: "c1",
			Status:  "Busy",
			State:   StateBusy,
			From:    "1234567",
			RecordingURLs: []string{
				"https://recordings.exotel.com/a.mp3"},
		}},
	"digits in both cases": {KindPassthru, get("CallSid=c1&digits=1&Digits=2"), Event{CallSID: "c1"}},
	"Digits":               {KindPassthru, get("CallSid=c1&Digits=%2234%22"), Event{CallSID: "c1"}},
	"a recording of a leg": {KindPassthru,
		get("CallSid=c1&RecordingUrl=null&Legs[1][RecordingUrl]=https://recordings.exotel.com/l.mp3&" +
			"Legs[1][Status]=completed&RecordingDuration=9"),
		Event{
			CallSID:          "c1",
			RecordingURLs:    []string{"https://recordings.exotel.com/l.mp3"},
			RecordingSeconds: 9,
			ListedLegs: []ListedLeg{{
				Index:        1,
				Status:       "completed",
				State:        StateCompleted,
				RecordingURL: "https://recordings.exotel.com/l.mp3",
			}},
		}},
	"Url of a leg": {KindStatus,
		asJSON(`{"CallSid":"c1","Legs":[{"Url":"https://s3.ap-south-1.amazonaws.com/exotelrecordings/leg.wav"},` +
			`{"Url":"/v3/legs/1"}]}`),
		Event{
			CallSID:       "c1",
			RecordingURLs: []string{"https://s3.ap-south-1.amazonaws.com/exotelrecordings/leg.wav"},
			ListedLegs: []ListedLeg{{RecordingURL: "https://s3.ap-south-1.amazonaws.com/exotelrecordings/leg.wav"},
				{Index: 1}},
		}},
	"a list of recordings": {KindStatus,
		asJSON(`{"CallSid":"c1","RecordingUrlList":["https://recordings.exotel.com/a.mp3",` +
			`"https://recordings.exotel.com/b.mp3"]}`),
		Event{
			CallSID: "c1",
			RecordingURLs: []string{"https://recordings.exotel.com/a.mp3",
				"https://recordings.exotel.com/b.mp3"},
		}},
	"a list in a text": {KindStatus,
		form("CallSid=c1&RecordingUrl=https://recordings.exotel.com/a.mp3,https://recordings.exotel.com/b.mp3"),
		Event{
			CallSID: "c1",
			RecordingURLs: []string{"https://recordings.exotel.com/a.mp3",
				"https://recordings.exotel.com/b.mp3"},
		}},
	"legs as JSON in a form": {KindStatus, form(`CallSid=c1&Legs=[{"Status":"no_answer","Number":"0999"}]`),
		Event{CallSID: "c1", ListedLegs: []ListedLeg{{Status: "no_answer", State: StateNoAnswer, Number: "0999"}}}},
	"legs as XML has them": {KindStatus, asJSON(`{"CallSid":"c1","Legs":{"Leg":[{"OnCallDuration":"00:01:12"},
		{"Status":"USER BUSY","Number":"0999"}]}}`),
		Event{
			CallSID: "c1",
			ListedLegs: []ListedLeg{{OnCallSeconds: 72}, {
				Index:  1,
				Status: "USER BUSY",
				State:  StateBusy,
				Number: "0999",
			}},
		}},
	"one leg as XML has it": {KindStatus, asJSON(`{"CallSid":"c1","Legs":{"Leg":{"Status":"busy"}}}`),
		Event{CallSID: "c1", ListedLegs: []ListedLeg{{Status: "busy", State: StateBusy}}}},
	"legs as XML has them, in a form": {KindStatus,
		form("CallSid=c1&Legs[Leg][0][Status]=busy&Legs[Leg][1][Status]=failed&Legs[2][Leg][Status]=canceled"),
		Event{
			CallSID: "c1",
			ListedLegs: []ListedLeg{{Status: "busy", State: StateBusy},
				{Index: 1, Status: "failed", State: StateFailed}, {Index: 2, Status: "canceled", State: StateCanceled}},
		}},
	"legs in a list without numbers": {KindStatus,
		form("CallSid=c1&Legs[Leg][][Status]=busy&Legs[Leg][][Status]=failed"),
		Event{
			CallSID: "c1",
			ListedLegs: []ListedLeg{{Status: "busy", State: StateBusy},
				{Index: 1, Status: "failed", State: StateFailed}},
		}},
	"a record of Call Details": {KindStatus, asJSON(`{"Call":{"Sid":"c1","Status":"completed","Direction":"inbound",
		"Details":{"ConversationDuration":8,"Leg1Status":"completed","Leg2Status":"no-answer",
		"Legs":[{"Leg":{"Id":2,"OnCallDuration":0}},{"Leg":{"Id":1,"OnCallDuration":21}}]}}}`),
		Event{
			CallSID:             "c1",
			Status:              "completed",
			State:               StateCompleted,
			Direction:           "inbound",
			ConversationSeconds: 8,
			ListedLegs: []ListedLeg{{Status: "completed", State: StateCompleted, OnCallSeconds: 21},
				{Index: 1, Status: "no-answer", State: StateNoAnswer}},
		}},
	"states of legs alone": {KindStatus, form("CallSid=c1&Leg2Status=failed"),
		Event{CallSID: "c1", ListedLegs: []ListedLeg{{Index: 1, Status: "failed", State: StateFailed}}}},
	"plain http to Exotel": {KindStatus, form("CallSid=c1&RecordingUrl=http://recordings.exotel.in:80/a.mp3"),
		Event{CallSID: "c1", RecordingURLs: []string{"https://recordings.exotel.in/a.mp3"}}},
	"no scheme": {KindStatus, form("CallSid=c1&RecordingUrl=recordings.exotel.com/a.mp3"), Event{
		CallSID:       "c1",
		RecordingURLs: []string{"https://recordings.exotel.com/a.mp3"},
	}},
	"a URL that is not one": {KindStatus, form("CallSid=c1&RecordingUrl=soon"), Event{
		CallSID:       "c1",
		RecordingURLs: []string{"soon"},
	}},
	"a Dial-Whom URL as POST": {KindPassthru, asJSON(`{"Call":{"Sid":"c1","From":"0999"}}`), Event{
		CallSID: "c1",
		From:    "0999",
	}},
	"JSON after a byte order mark": {KindStatus, asJSON("\ufeff" + `{"CallSid":"c1"}`), Event{CallSID: "c1"}},
	"multipart without its boundary": {KindStatus, Request{
		ContentType: "multipart/form-data",
		Body:        []byte("--b\r\nContent-Disposition: form-data; name=\"CallSid\"\r\n\r\nc1\r\n--b--\r\n"),
	}, Event{
		CallSID: "c1"}},
}

func TestSpelledEvents(t *testing.T) {
	for name, tc := range spelled {
		t.Run(name, func(t *testing.T) { checkEvent(t, tc.kind, tc.r, tc.want) })
	}
}

func checkEvent(t *testing.T, kind string, r Request, want Event) {
	t.Helper()
	got, err := ParseEvent(kind, r, ist)
	if err != nil {
		t.Fatal(err)
	}
	want.Kind = kind
	if len(want.RecordingURLs) > 0 {
		want.RecordingURL = want.RecordingURLs[0]
	}
	if diff := cmp.Diff(&want, got, cmpopts.IgnoreUnexported(Event{}), ofFacts, cmpopts.EquateApproxTime(0),
		cmpopts.EquateEmpty(),
		cmpopts.SortSlices(func(a, b Unread) bool { return byField(a, b) < 0 })); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

// partial are requests with fields that cannot be read, and what is to be read all the same.
var partial = map[string]struct {
	r    Request
	want Event
}{
	"a broken escape": {get("CallSid=c109&CustomField=50%+off&CallType=completed&" +
		"RecordingUrl=https%3A%2F%2Frecordings.exotel.com%2Fx%2Fc109.mp3"),
		Event{
			CallSID:  "c109",
			CallType: "completed",
			RecordingURLs: []string{
				"https://recordings.exotel.com/x/c109.mp3"},
			Unread: []Unread{{"CustomField", reason.FieldMalformed, ""}},
		}},
	"a semicolon": {form("CallSid=c1&CustomField=a;b&Status=busy"), Event{
		CallSID: "c1",
		Status:  "busy",
		State:   StateBusy,
		Unread:  []Unread{{"CustomField", reason.FieldMalformed, ""}},
	}},
	"a broken name": {form("Call%Sid=x&CallSid=c1"), Event{
		CallSID: "c1",
		Unread: []Unread{{"Call%Sid",
			reason.FieldMalformed, ""}},
	}},
	"invalid UTF-8": {form("CallSid=c1&custom_field=%ff%fe"), Event{
		CallSID: "c1",
		Unread: []Unread{{
			"CustomField", reason.FieldMalformed, ""}},
	}},
	"invalid UTF-8 in JSON": {asJSON("{\"CallSid\":\"c1\",\"From\":\"\xff\",\"To\":\"\ufffd\"}"), Event{
		CallSID: "c1",
		Unread:  []Unread{{"From", reason.FieldMalformed, ""}, {"To", reason.FieldMalformed, ""}},
	}},
	"NUL": {form("CallSid=c1&From=0%00&Status=failed"), Event{
		CallSID: "c1",
		Status:  "failed",
		State:   StateFailed,
		Unread:  []Unread{{"From", reason.FieldMalformed, ""}},
	}},
	"NUL in JSON": {asJSON(`{"CallSid":"c1","To":"a\u0000"}`), Event{
		CallSID: "c1",
		Unread: []Unread{{
			"To", reason.FieldMalformed, ""}},
	}},
	"a long value": {form("CallSid=c1&CustomField=" + strings.Repeat("a", maxValue+1) + "&To=1"), Event{
		CallSID: "c1",
		To:      "1",
		Unread:  []Unread{{"CustomField", reason.FieldTooLarge, ""}},
	}},
	"a long value in parts": {asParts("--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n" +
		strings.Repeat("a", maxValue+1) +
		"\r\n--b\r\nContent-Disposition: form-data; name=\"CallSid\"\r\n\r\nc1\r\n--b--"), Event{
		CallSID: "c1",
		Unread:  []Unread{{"x", reason.FieldTooLarge, ""}},
	}},
	"too many fields": {form("CallSid=c1&" + manyFields(600)), Event{
		CallSID: "c1",
		Unread: []Unread{{
			"(body)", reason.FieldTooLarge, ""}},
	}},
	"a deep value": {asJSON(`{"A":` + strings.Repeat(`[`, 99) + strings.Repeat(`]`, 99) +
		`,"CallSid":"c1"}`), Event{CallSID: "c1", Unread: []Unread{{"A[0][0][0][0][0][0]", reason.FieldTooLarge, ""}}}},
	"cut JSON": {asJSON(`{"CallSid":"c1","Status":"busy","CustomField":"ab`), Event{
		CallSID: "c1",
		Status:  "busy",
		State:   StateBusy,
		Unread:  []Unread{{"(body)", reason.FieldMalformed, ""}},
	}},
	"a broken escape in JSON": {asJSON(`{"CallSid":"c1","CustomField":"50\%"}`), Event{
		CallSID: "c1",
		Unread:  []Unread{{"(body)", reason.FieldMalformed, ""}},
	}},
	"cut multipart": {asParts("--b\r\nContent-Disposition: form-data; " +
		"name=\"CallSid\"\r\n\r\nc1\r\n--b\r\nContent"), Event{
		CallSID: "c1",
		Unread: []Unread{{"(body)", reason.FieldMalformed,
			""}},
	}},
	"a name twice": {form("CallSid=c1&Status=ringing&Status=busy"), Event{
		CallSID: "c1",
		Status:  "busy",
		State:   StateBusy,
		Unread:  []Unread{{"Status", reason.FieldRepeated, ""}},
	}},
	"nonsense in brackets": {form("CallSid=c1&Legs[x][Status]=busy&Legs]0[[=1&[]=2&" +
		"Legs[99999999999][Status]=busy&Legs[=3&[[[[=4"), Event{
		CallSID: "c1",
		Unread: []Unread{{"Legs", reason.FieldMalformed,
			""}},
	}},
	"a body that is not one": {
		Request{
			RawQuery:    "CallSid=c1&Status=busy",
			ContentType: "application/json",
			Body:        []byte("<xml/>"),
		},
		Event{
			CallSID: "c1",
			Status:  "busy",
			State:   StateBusy,
			Unread:  []Unread{{"(body)", reason.FieldMalformed, ""}},
		},
	},
	"a time and numbers": {form("CallSid=c1&StartTime=yesterday&ConversationDuration=soon&RecordingDuration=-1&" +
		"Legs[0][OnCallDuration]=x&EndTime=2024-02-30+00:00:00"),
		Event{
			CallSID:    "c1",
			ListedLegs: []ListedLeg{{}},
			Unread: []Unread{
				{"ConversationDuration", reason.FieldMalformed, ""},
				{"EndTime", reason.FieldMalformed, ""},
				{
					"Legs[OnCallDuration]",
					reason.FieldMalformed,
					"",
				},
				{"RecordingDuration", reason.FieldMalformed, ""},
				{"StartTime", reason.FieldMalformed,
					""},
			},
		}},
	"unknown words": {
		form("CallSid=c1&Status=teleported&EventType=terminal&Direction=sideways&CallType=odd&" +
			"DialCallStatus=odd2&Legs[0][Status]=odd3"),
		Event{
			CallSID:    "c1",
			EventType:  "terminal",
			Terminal:   true,
			Assumed:    true,
			Status:     "teleported",
			State:      StateCompleted,
			CallType:   "odd",
			Dial:       &Dial{Status: "odd2"},
			ListedLegs: []ListedLeg{{Status: "odd3"}},
			Unread: []Unread{
				{"CallType", reason.FieldUnknownValue, "odd"},
				{"DialCallStatus", reason.FieldUnknownValue, "odd2"},
				{"Direction", reason.FieldUnknownValue, "sideways"},
				{"Legs[Status]", reason.FieldUnknownValue, "odd3"},
				{"Status", reason.FieldUnknownValue, "teleported"},
			},
		},
	},
	"an unknown type": {form("CallSid=c1&EventType=transferred"), Event{
		CallSID:   "c1",
		EventType: "transferred",
		Unread:    []Unread{{"EventType", reason.FieldUnknownValue, "transferred"}},
	}},
	"a stream": {form("CallSid=c1&Stream=%7B%22StreamSID%22:%22s"), Event{
		CallSID: "c1",
		Unread: []Unread{{
			"Stream", reason.FieldMalformed, ""}},
	}},
}

func TestPartial(t *testing.T) {
	for name, tc := range partial {
		t.Run(name, func(t *testing.T) { checkEvent(t, KindStatus, tc.r, tc.want) })
	}
}

// TestPartialKey checks that deliveries that differ in a field that cannot be read are two events.
func TestPartialKey(t *testing.T) {
	seen := map[[32]byte]string{}
	for _, q := range []string{"CallSid=c1", "CallSid=c1&digits=%zz1", "CallSid=c1&digits=%zz2",
		"CallSid=c1&digits=1;", "CallSid=c1&digits=%ff", "CallSid=c1&digits=%fe"} {
		event, err := ParseEvent(KindPassthru, get(q), ist)
		if err != nil {
			t.Fatal(err)
		}
		if other, taken := seen[event.DedupKey("a/b")]; taken {
			t.Errorf("%q and %q have one key", q, other)
		}
		seen[event.DedupKey("a/b")] = q
	}
}

func TestRecordingURL(t *testing.T) {
	for raw, want := range map[string]string{
		"None":                                  "",
		"N/A":                                   "",
		"n/a":                                   "",
		"false":                                 "",
		"null":                                  "",
		"-":                                     "",
		"nil":                                   "",
		"":                                      "",
		"NULL":                                  "",
		`"None"`:                                "",
		"undefined":                             "",
		"[]":                                    "",
		"https://recordings.exotel.com/a.mp3":   "https://recordings.exotel.com/a.mp3",
		"http://recordings.exotel.in/a.mp3?x=1": "https://recordings.exotel.in/a.mp3?x=1",
		"http://exotelrecordings.s3.amazonaws.com/a.mp3": "https://exotelrecordings.s3.amazonaws.com/a.mp3",
		"http://s3.amazonaws.com/exotelrecordings/a.mp3": "https://s3.amazonaws.com/exotelrecordings/a.mp3",
		"//recordings.exotel.com/a.mp3":                  "https://recordings.exotel.com/a.mp3",
		"http://other.example/a.mp3":                     "http://other.example/a.mp3",
		"http://evil.s3.ap-south-1.amazonaws.com/a.mp3":  "http://evil.s3.ap-south-1.amazonaws.com/a.mp3",
		"ftp://recordings.exotel.com/a.mp3":              "ftp://recordings.exotel.com/a.mp3",
		"/v1/a.mp3":                                      "/v1/a.mp3",
	} {
		if got := recordingURL(raw); got != want {
			t.Errorf("%q is read as %q, want %q", raw, got, want)
		}
	}
}

// TestTimeOfRequest verifies that a redelivery with another time of the request is the same event, in each spelling of
// that field.
func TestTimeOfRequest(t *testing.T) {
	for _, name := range []string{"CurrentTime", "currentTime", "currenttime"} {
		var keys [2][32]byte
		for i := range keys {
			event, err := ParseEvent(KindPassthru, get(fmt.Sprintf("CallSid=c1&%s=2024-01-15+14:30:4%d", name, i)), ist)
			if err != nil {
				t.Fatal(err)
			}
			keys[i] = event.DedupKey("a/b")
		}
		if keys[0] != keys[1] {
			t.Errorf("%s makes another event of a redelivery", name)
		}
	}
}

func TestSplitURLs(t *testing.T) {
	const a, b, c = "https://recordings.exotel.com/a,1.mp3", "https://recordings.exotel.com/b.mp3",
		"http://c.example/c"
	for list, want := range map[string][]string{
		a:                                       {a},
		a + ", " + b + "," + c:                  {a, b, c},
		`"` + a + `","` + b + `" , "` + c + `"`: {a, b, "http://c.example/c"},
		a + ",":                                 {a + ","},
	} {
		event, err := ParseEvent(KindStatus, Request{
			ContentType: "application/json",
			Body:        []byte(`{"CallSid":"c1","RecordingUrl":` + strconv.Quote(list) + `}`),
		}, ist)
		if err != nil || !slices.Equal(event.RecordingURLs, want) {
			t.Errorf("%q is read as %q, %v; want %q", list, event.RecordingURLs, err, want)
		}
	}
}

// TestManyRecordings verifies that the recordings of one event are bounded, and that the event notes the omission.
func TestManyRecordings(t *testing.T) {
	var list strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&list, ",http://%d", i)
	}
	event, err := ParseEvent(KindStatus, form("CallSid=c1&RecordingUrl="+list.String()[1:]), ist)
	if err != nil || len(event.RecordingURLs) != maxRecordingURLs || !slices.Equal(event.Unread,
		[]Unread{{Field: "RecordingUrl", Reason: reason.FieldTooLarge}}) {
		t.Errorf("%d recordings, without %v, %v", len(event.RecordingURLs), event.Unread, err)
	}
}

// TestTables checks that every field and every word can be found, and that no spelling means two things.
func TestTables(t *testing.T) {
	seen := map[string]field{}
	for f, names := range spellings {
		if len(names) == 0 {
			t.Errorf("field %d has no name", f)
		}
		for _, name := range names {
			folded := foldName(strings.TrimPrefix(name, "*"))
			if other, taken := seen[folded]; taken {
				t.Errorf("%s is a name of the fields %d and %d", name, other, f)
			}
			seen[folded] = field(f) //nolint:gosec // a few
			if _, known := places[folded]; !known {
				t.Errorf("%s is not found", name)
			}
		}
	}
	for f, names := range legSpellings {
		if len(names) == 0 {
			t.Errorf("leg field %d has no name", f)
		}
	}
	for u, want := range map[Unread]string{
		{Field: "Status"}:        "Status",
		{Field: "(body)"}:        "(body)",
		{Field: "Legs[Status]"}:  "Legs[Status]",
		{Field: "Legs[sTa_TuS]"}: "Legs[Status]",
		{Field: "Legs[evil]"}:    "other",
		{Field: "utm"}:           "other",
	} {
		if got := FieldLabel(u.Field); got != want {
			t.Errorf("%+v is counted as %q, want %q", u, got, want)
		}
	}
}

func asParts(s string) Request {
	return Request{Method: "POST", ContentType: "multipart/form-data; boundary=b", Body: []byte(s)}
}
