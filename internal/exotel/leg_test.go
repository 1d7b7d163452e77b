package exotel

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/reason"
)

const legSample = `{"event_sid":"ev1","event_type":"leg_action_event","event_name":"leg_answered",
 "event_timestamp":"2026-01-15T10:30:00.529Z","action_sid":"ac1",
 "action_custom_parameter":"order_7","event_data":{"data":{}},"data":{"leg_sid":"leg1","account_sid":"acme1",
 "contact_uri":"+919876543210","exophone":"+918047491899",
 "state":"in-progress","start_time":"2026-01-15T10:29:58.001Z","end_time":null,
 "date_created":"2026-01-15T10:29:57Z","date_updated":"2026-01-15T10:30:00Z"}}`

func leg(body, header string) Request {
	return Request{Method: "POST", ContentType: "application/json", Body: []byte(body), EventSID: header}
}

func TestParseLeg(t *testing.T) {
	want := func(change func(*Event)) *Event {
		event := &Event{
			Kind:        KindLeg,
			CallSID:     "leg1",
			EventSID:    "ev1",
			EventType:   "leg_answered",
			Status:      "in-progress",
			State:       StateInProgress,
			AccountSID:  "acme1",
			CustomField: "order_7",
			At:          time.Date(2026, 1, 15, 10, 30, 0, 529e6, time.UTC),
			StartedAt:   time.Date(2026, 1, 15, 10, 29, 58, 1e6, time.UTC),
		}
		if change != nil {
			change(event)
		}
		return event
	}
	replace := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(legSample) }
	for name, tc := range map[string]struct {
		req  Request
		want *Event
	}{
		"as documented":      {leg(legSample, "ev1"), want(nil)},
		"without the header": {leg(legSample, ""), want(nil)},
		"data within event_data": {leg(`{"event_sid":"ev1","event_name":"leg_ringing",`+
			`"event_data":{"data":{"leg_sid":"leg1","state":"ringing"}}}`, ""),
			&Event{
				Kind:      KindLeg,
				CallSID:   "leg1",
				EventSID:  "ev1",
				EventType: "leg_ringing",
				Status:    "ringing",
				State:     StateRinging,
			}},
		"it ended": {leg(replace(`"leg_answered"`, `"leg_completed"`, `"in-progress"`, `"completed"`, `"end_time":null`,
			`"end_time":"2026-01-15T10:31:00Z"`), ""),
			want(func(e *Event) {
				e.EventType, e.Terminal, e.Status, e.State, e.EndedAt = "leg_completed", true, "completed",
					StateCompleted, time.Date(2026, 1, 15, 10, 31, 0, 0, time.UTC)
			})},
		"outbound": {leg(replace(`"contact_uri"`, `"direction":"outbound-api","contact_uri"`), ""),
			want(func(e *Event) {
				e.Direction = "outbound-api"
				e.From = "+918047491899"
				e.To = "+919876543210"
			})},
		"incoming": {leg(replace(`"contact_uri"`, `"direction":"incoming","contact_uri"`), ""),
			want(func(e *Event) {
				e.Direction = "inbound"
				e.From = "+919876543210"
				e.To = "+918047491899"
			})},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseEvent(KindLeg, tc.req, ist)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.IgnoreUnexported(Event{}), ofFacts,
				cmpopts.EquateApproxTime(0)); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLegState(t *testing.T) {
	for name, tc := range map[string]struct {
		state, event string
		want         State
	}{
		"the state":               {"ringing", "leg_answered", StateRinging},
		"state of a leg's own":    {"Answered", "", StateInProgress},
		"connecting":              {"", "leg_connecting", StateQueued},
		"ringing":                 {"", "leg_ringing", StateRinging},
		"answered":                {"", "leg_answered", StateInProgress},
		"no answer":               {"", "leg_no_answer", StateNoAnswer},
		"cancelled":               {"", "leg_cancelled", StateCanceled},
		"terminated":              {"", "leg_terminated", StateCompleted},
		"unknown state":           {"teleported", "leg_busy", StateBusy},
		"played to the end":       {"", "play_completed", StateUnknown},
		"stream on a live leg":    {"in-progress", "stream_started", StateInProgress},
		"neither":                 {"", "", StateUnknown},
		"name that is only a leg": {"", "leg_", StateUnknown},
	} {
		if got := legState(tc.state, tc.event); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestParseLegRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		req  Request
		code string
	}{
		"no leg":        {leg(`{"event_sid":"ev1","data":{}}`, "ev1"), "missing_call_sid"},
		"leg is a path": {leg(`{"event_sid":"ev1","data":{"leg_sid":"../x"}}`, "ev1"), "invalid_call_sid"},
		"not JSON":      {leg(`{"event_sid":`, "ev1"), "malformed_body"},
	} {
		_, err := ParseEvent(KindLeg, tc.req, ist)
		var p *ParseError
		if !errors.As(err, &p) || p.Code != tc.code {
			t.Errorf("%s: got %v, want code %s", name, err, tc.code)
		}
	}
}

// TestLegWithoutID checks that an id that is missing or not believed loses only itself.
func TestLegWithoutID(t *testing.T) {
	for name, tc := range map[string]struct {
		req    Request
		reason string
	}{
		"no id": {leg(strings.Replace(legSample, `"ev1"`, "null", 1), "ev1"), reason.FieldMalformed},
		"id too long": {
			leg(strings.Replace(legSample, "ev1", strings.Repeat("e", maxEventSID+1), 1), ""),
			reason.FieldTooLarge,
		},
		"another header": {leg(legSample, "ev2"), reason.FieldMalformed},
	} {
		want := []Unread{{Field: "event_sid", Reason: tc.reason}}
		event, err := ParseEvent(KindLeg, tc.req, ist)
		if err != nil || event.EventSID != "" || event.State != StateInProgress || event.CallSID != "leg1" ||
			!cmp.Equal(event.Unread,
				want) {
			t.Errorf("%s: %+v, %v", name, event, err)
		}
	}
}

// TestLegKey checks that the event's id alone makes the key.
func TestLegKey(t *testing.T) {
	parse := func(body string) *Event {
		event, err := ParseEvent(KindLeg, leg(body, ""), ist)
		if err != nil {
			t.Fatal(err)
		}
		return event
	}
	base := parse(legSample)
	changed := parse(strings.Replace(legSample, "order_7", "order_8", 1))
	if base.DedupKey("a/b") != changed.DedupKey("a/b") {
		t.Error("a changed delivery has another key")
	}
	if base.DedupKey("a/b") == parse(strings.Replace(legSample, "ev1", "ev2", 1)).DedupKey("a/b") {
		t.Error("two events have one key")
	}
	if base.DedupKey("a/b") == base.DedupKey("a/c") {
		t.Error("two tenants have one key")
	}
}

func TestStream(t *testing.T) {
	want := &Stream{
		SID:            "62x",
		Status:         "cancelled",
		DisconnectedBy: "user",
		Error:          "3009 failed to establish ws conn",
		DetailedStatus: "Streaming_call_throttled",
		StreamURL:      "wss://bot.example/a",
		RecordingURL:   "https://r/62x.mp3?sig=1",
		Seconds:        28,
	}
	const rest = `"Duration":"28","RecordingUrl":"https://r/62x.mp3?sig=1",` +
		`"StreamUrl":"wss://KEY:TOKEN@bot.example/a?token=x","DisconnectedBy":"user",` +
		`"Error":"3009 failed to establish ws conn","DetailedStatus":"Streaming_call_throttled"}`
	upper := `{"StreamSID":"62x","Status":"cancelled",` + rest
	camel := `{"StreamSid":"62x","Status":"canceled",` + strings.Replace(rest, `"28"`, `28.4`, 1)
	quoted := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"` }
	for name, r := range map[string]Request{
		"brackets": {
			Method: "GET",
			RawQuery: "CallSid=c1&Stream%5BStreamSID%5D=62x&Stream%5BStatus%5D=cancelled&Stream%5BDuration%5D=28" +
				"&Stream%5BRecordingUrl%5D=https://r/62x.mp3%3Fsig=1" +
				"&Stream%5BStreamUrl%5D=wss://KEY:TOKEN@bot.example/a%3Ftoken=x&Stream%5BDisconnectedBy%5D=user" +
				"&Stream%5BError%5D=3009+failed+to+establish+ws+conn" +
				"&Stream%5BDetailedStatus%5D=Streaming_call_throttled",
		},
		"nested JSON": {
			ContentType: "application/json",
			Body:        []byte(`{"CallSid":"c1","Stream":` + upper + `}`),
		},
		"JSON in a string": {
			ContentType: "application/json",
			Body:        []byte(`{"CallSid":"c1","Stream":` + quoted(upper) + `}`),
		},
		"JSON in a string, camel": {
			ContentType: "application/json",
			Body:        []byte(`{"CallSid":"c1","Stream":` + quoted(camel) + `}`),
		},
		"JSON in a field of a form": multi(t, "CallSid", "c1", "Stream", upper),
		"nested JSON in other cases": {
			ContentType: "application/json",
			Body:        []byte(`{"CallSid":"c1","Stream":` + camel + `}`),
		},
	} {
		event, err := ParseEvent(KindPassthru, r, ist)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, event.Stream); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for name, stream := range map[string]string{
		"broken":       `{"StreamSID":`,
		"a word":       "none",
		"empty":        "",
		"another type": "[]",
	} {
		event, err := ParseEvent(KindPassthru, multi(t, "CallSid", "c1", "Stream", stream), ist)
		if err != nil || event.Stream != nil {
			t.Errorf("%s: %+v, %v; want an event without a stream", name, event, err)
		}
	}
}
