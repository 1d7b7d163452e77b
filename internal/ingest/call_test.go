package ingest_test

import (
	"bytes"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
	"github.com/caly-dev/caly/internal/ingest"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// acme is a tenant whose account is in Kolkata.
var acme = &tenantconfig.Tenant{
	ID:                 "acme/support",
	AccountSID:         "acme1",
	TimeZone:           "Asia/Kolkata",
	AllowedSourceHosts: tenantconfig.DefaultSourceHosts,
}

const recordingURL = "https://recordings.exotel.com/exotelrecordings/acme1/c1.mp3"

func fromCall(t testing.TB, raw string) store.Event {
	t.Helper()
	call, err := calldetails.Decode([]byte(raw), calldetails.IST)
	if err != nil {
		t.Fatal(err)
	}
	event, err := ingest.FromCall(acme, recording.SourcePolicy{}, &call, call.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return event
}

// details is a call's record with some fields changed or added.
func details(changes ...string) string {
	fields := []string{
		`"Sid":"c1"`,
		`"AccountSid":"acme1"`,
		`"DateUpdated":"2026-10-01 10:05:00"`,
		`"From":"09876543210"`,
		`"To":"08047491899"`,
		`"Status":"completed"`,
		`"StartTime":"2026-10-01 10:00:00"`,
		`"EndTime":"2026-10-01 10:01:17"`,
		`"Direction":"outbound-api"`,
		`"RecordingUrl":"` + recordingURL + `"`,
		`"Details":{"ConversationDuration":8,"Leg2Status":"no-answer"}`,
	}
	for _, change := range changes {
		name, _, _ := strings.Cut(change, ":")
		fields = slices.DeleteFunc(fields, func(f string) bool { return strings.HasPrefix(f, name+":") })
	}
	return "{" + strings.Join(append(fields, changes...), ",") + "}"
}

func TestFromCall(t *testing.T) {
	started := time.Date(2026, 10, 1, 4, 30, 0, 0, time.UTC) // 10:00 in Kolkata
	call := store.Call{
		State:               store.CallCompleted,
		Direction:           "outbound-api",
		From:                "09876543210",
		To:                  "08047491899",
		StartedAt:           started,
		EndedAt:             started.Add(77 * time.Second),
		ConversationSeconds: 8,
	}
	with := func(f func(*store.Call)) store.Call { c := call; f(&c); return c }
	queued := []store.NewRecording{{ID: recording.ID("c1", recordingURL), SourceURL: recordingURL}}
	for name, tc := range map[string]struct {
		raw  string
		want store.Event
	}{
		"plain": {details(), store.Event{EventType: "terminal", Call: call, Recordings: queued}},
		"inbound, nobody took it": {details(`"Direction":"incoming"`), store.Event{
			EventType:  "terminal",
			Recordings: queued,
			Call: with(func(c *store.Call) {
				c.State = store.CallNoAnswer
				c.Direction = "inbound"
			}),
		}},
		"empty details": {details(`"Details":{}`), store.Event{
			EventType:  "terminal",
			Recordings: queued,
			Call:       with(func(c *store.Call) { c.ConversationSeconds = 0 }),
		}},
		"no recording": {details(`"RecordingUrl":null`), store.Event{EventType: "terminal", Call: call}},
		"going on": {details(`"Status":"in-progress"`, `"EndTime":"1970-01-01 05:30:00"`, `"RecordingUrl":""`),
			store.Event{Call: with(func(c *store.Call) {
				c.State = store.CallInProgress
				c.EndedAt = time.Time{}
			})}},
		"a source that is not allowed": {details(`"RecordingUrl":"https://evil.example/c1.mp3"`),
			store.Event{
				EventType: "terminal",
				Call:      call,
				Unread: []store.Unread{{
					Field:  "RecordingUrl",
					Reason: "rejected",
				}},
				Recordings: []store.NewRecording{{
					ID:        recording.ID("c1", "https://evil.example/c1.mp3"),
					SourceURL: "https://evil.example/c1.mp3",
					Rejected: "the source host evil.example is not one that the Tenant allows: add it to " +
						"spec.recordings.allowedSourceHosts",
				}},
			}},
		"a NUL in a number": {details(`"From":"09876\u0000543210"`), store.Event{
			EventType:  "terminal",
			Recordings: queued,
			Call:       with(func(c *store.Call) { c.From = "" }),
			Unread: []store.Unread{{
				Field:  "From",
				Reason: "malformed",
			}},
		}},
		"a word for no recording": {details(`"RecordingUrl":"None"`), store.Event{EventType: "terminal", Call: call}},
		"plain http": {details(`"RecordingUrl":"` + strings.Replace(recordingURL, "https", "http", 1) +
			`"`), store.Event{EventType: "terminal", Call: call, Recordings: queued}},
		"a recording of a leg": {details(`"RecordingUrl":null`,
			`"Details":{"ConversationDuration":8,"Legs":[{"Leg":{"Id":1,"RecordingUrl":"`+recordingURL+`"}}]}`),
			store.Event{EventType: "terminal", Call: call, Recordings: queued}},
		"Url of a leg, and a length": {details(`"RecordingUrl":null`, `"RecordingDuration":"9"`,
			`"Legs":[{"Url":"`+recordingURL+`"}]`),
			store.Event{
				EventType:  "terminal",
				Call:       with(func(c *store.Call) { c.RecordingSeconds = 9 }),
				Recordings: queued,
			}},
		"an unknown status": {details(`"Status":"teleported"`), store.Event{
			Call:       with(func(c *store.Call) { c.State = store.CallUnknown }),
			Recordings: queued,
			Unread: []store.Unread{{
				Field:  "Status",
				Reason: "unknown_value",
				Value:  "teleported",
			}},
		}},
		"no_answer": {details(`"Status":"no_answer"`), store.Event{
			EventType:  "terminal",
			Call:       with(func(c *store.Call) { c.State = store.CallNoAnswer }),
			Recordings: queued,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := fromCall(t, tc.raw)
			tc.want.Tenant = acme.ID
			tc.want.Kind = exotel.KindStatus
			tc.want.Source = "backfill"
			tc.want.CallSID = "c1"
			tc.want.ContentType, tc.want.Raw = "application/json", []byte(tc.raw)
			tc.want.SaidAt = started.Add(5 * time.Minute)
			others := cmpopts.IgnoreFields(store.Event{}, "DedupKey", "Legs")
			if d := cmp.Diff(tc.want, got, others, cmpopts.EquateApproxTime(0)); d != "" {
				t.Errorf("event (-want +got):\n%s", d)
			}
		})
	}
}

func TestFromCallLegs(t *testing.T) {
	at := time.Date(2026, 10, 1, 4, 35, 0, 0, time.UTC)
	leg := func(key, number string, s store.CallState, called bool, seconds int) store.Leg {
		return store.Leg{
			Kind:    store.LegListed,
			Key:     key,
			Number:  number,
			State:   s,
			Called:  called,
			Seconds: seconds,
			At:      at,
		}
	}
	for name, tc := range map[string]struct {
		details, direction string
		want               []store.Leg
	}{
		"both " +
			"talked": {`{"ConversationDuration":8,"Leg1Status":"completed","Leg2Status":"completed",
			"Legs":[{"Leg":{"Id":1,"OnCallDuration":21}},{"Leg":{"Id":2,"OnCallDuration":8}}]}`,
			"outbound-api", []store.Leg{leg("leg:0", "09876543210", store.CallCompleted, false, 21), leg("leg:1",
				"08047491899", store.CallCompleted, true, 8)}},
		"an incoming call is answered by nobody known": {`{"Leg2Status":"busy"}`, "incoming", []store.Leg{leg("leg:1",
			"", store.CallBusy, true, 0)}},
		"a third leg without a status": {`{"Legs":[{"Id":3,"OnCallDuration":5}]}`, "outbound-api",
			[]store.Leg{leg("leg:2", "", store.CallCompleted, true, 5)}},
		"a leg without an ID": {`{"Legs":[{"OnCallDuration":5}]}`, "outbound-api",
			[]store.Leg{leg("leg:0", "09876543210", store.CallCompleted, false, 5)}},
		"legs in another order": {`{"Legs":[{"Id":2,"OnCallDuration":5},{"Id":1,"OnCallDuration":9}]}`, "outbound-api",
			[]store.Leg{leg("leg:0", "09876543210", store.CallCompleted, false, 9), leg("leg:1", "08047491899",
				store.CallCompleted, true, 5)}},
	} {
		got := fromCall(t, details(`"Details":`+tc.details, `"Direction":"`+tc.direction+`"`)).Legs
		if d := cmp.Diff(tc.want, got, cmpopts.EquateApproxTime(0)); d != "" {
			t.Errorf("%s: legs (-want +got):\n%s", name, d)
		}
	}
}

func TestFromCallOfAnotherAccount(t *testing.T) {
	call, err := calldetails.Decode([]byte(details(`"AccountSid":"globex1"`)), calldetails.IST)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ingest.FromCall(acme, recording.SourcePolicy{}, &call, call.Raw); err == nil ||
		!strings.Contains(err.Error(), "spec.exotel.accountSID") {
		t.Errorf("got %v, want it refused", err)
	}
}

// TestFromCallTwice checks that a repeated record is a duplicate, also if it has fields without a meaning here, and
// that a new record is not.
func TestFromCallTwice(t *testing.T) {
	first := fromCall(t, details())
	for name, tc := range map[string]struct {
		raw  string
		want bool // the same event
	}{
		"the same":          {details(), true},
		"updated":           {details(`"DateUpdated":"2026-10-01 11:00:00"`), false},
		"a price":           {details(`"Price":"1.500"`), true},
		"another signature": {details(`"RecordingUrl":"` + recordingURL + `?X-Amz-Signature=f00"`), true},
		"presigned": {
			details(`"PreSignedRecordingUrl":"https://s3.ap-south-1.amazonaws.com/x?X-Amz-Signature=f00"`),
			true,
		},
		"another outcome": {details(`"Status":"busy"`), false},
		"an end":          {details(`"EndTime":"2026-10-01 10:01:18"`), false},
		"another recording": {
			details(`"RecordingUrl":"https://recordings.exotel.com/exotelrecordings/acme1/other.mp3"`),
			false,
		},
		"talked longer":         {details(`"Details":{"ConversationDuration":9}`), false},
		"another call":          {details(`"Sid":"c2"`), false},
		"fields that run over":  {details(`"From":"09876543210\" \"08047491899"`, `"To":""`), false},
		"no recording any more": {details(`"RecordingUrl":null`), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fromCall(t, tc.raw).DedupKey == first.DedupKey; got != tc.want {
				t.Errorf("the same key: %v, want %v", got, tc.want)
			}
		})
	}
	presigned := fromCall(t, details(`"preSignedRecordingUrl":"https://s3/x?X-Amz-Signature=f00"`))
	if bytes.Contains(presigned.Raw, []byte("f00")) || !bytes.Contains(presigned.Raw, []byte(recordingURL)) {
		t.Errorf("kept %s, want all but the presigned URL", presigned.Raw)
	}
	if theirs := *acme; true {
		theirs.ID = "globex/sales"
		call, _ := calldetails.Decode([]byte(details()), calldetails.IST)
		if event, err := ingest.FromCall(&theirs, recording.SourcePolicy{}, &call, call.Raw); err != nil ||
			event.DedupKey == first.DedupKey {
			t.Errorf("%v, another tenant's event has the same key: %v", err, event.DedupKey == first.DedupKey)
		}
	}
}

// TestFromCallIsTheWebhook verifies that a record of an outbound call makes the same event as its terminal
// StatusCallback.
func TestFromCallIsTheWebhook(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		word := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(r, name) }
		status := word("status", "completed", "busy", "no-answer", "failed", "canceled", "cancelled")
		from := word("from", "09876543210", "sip:bob", "")
		to := word("to", "08047491899", "+6561234567")
		direction := word("direction", "outbound-api", "outbound-dial")
		source := word("recording", "", recordingURL, recordingURL+"?a=b")
		midnight := time.Date(2026, 10, 1, 0, 0, 0, 0, calldetails.IST)
		started := midnight.Add(
			time.Duration(rapid.IntRange(0, 2*86400).Draw(r, "start")) * time.Second,
		).Format("2006-01-02 15:04:05")
		talked := word("talked", "0", "8", "3600")
		fields := url.Values{
			"CallSid":              {"c1"},
			"EventType":            {"terminal"},
			"Status":               {status},
			"Direction":            {direction},
			"From":                 {from},
			"To":                   {to},
			"StartTime":            {started},
			"EndTime":              {started},
			"ConversationDuration": {talked},
			"RecordingUrl":         {source},
		}
		raw := `{"Sid":"c1","AccountSid":"acme1","Status":"` + status + `","Direction":"` + direction +
			`","From":"` + from + `","To":"` + to + `","StartTime":"` + started + `","EndTime":"` + started +
			`","RecordingUrl":"` + source + `","Details":{"ConversationDuration":` + talked + `}}`
		delivered := ingest.Build(acme, recording.SourcePolicy{}, ingest.Delivery{
			Kind:       exotel.KindStatus,
			Source:     ingest.SourceWebhook,
			Fields:     exotel.Request{RawQuery: fields.Encode()},
			ReceivedAt: time.Now(),
		})
		ignored := cmpopts.IgnoreFields(store.Event{}, "Source", "DedupKey", "Raw", "ContentType", "Query",
			"CoversQuery", "CoversBody")
		if d := cmp.Diff(delivered, fromCall(t, raw), ignored, cmpopts.EquateApproxTime(0)); d != "" {
			r.Errorf("event (-delivered +told):\n%s", d)
		}
	})
}
