package calldetails

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/reason"
)

// documented is the sample of Exotel's documentation, as shared/reference/exotel.md has it.
const documented = `{"Call":{"Sid":"b6cfaf5f5cef3ca0fc937749ef96d245","ParentCallSid":null,"DateCreated":"2017-03-03 10:48:33",
"DateUpdated":"2017-03-03 10:53:33","AccountSid":"acme1","To":"0XXXXX38847","From":"0XXXXX30240","PhoneNumberSid":"0XXXXXX4890",
"Status":"completed","StartTime":"2017-03-03 10:48:33","EndTime":"2017-03-03 10:49:50","Duration":"17","Price":"1.500",
"Direction":"outbound-api","AnsweredBy":null,"ForwardedFrom":null,"CallerName":null,"Uri":"/v1/Accounts/Exotel/Calls.json/b6cf",
"RecordingUrl":"https://h/recording.mp3","Details":{"ConversationDuration":8,"Leg1Status":"completed","Leg2Status":"completed",
"Legs":[{"Leg":{"Id":1,"OnCallDuration":21}},{"Leg":{"Id":2,"OnCallDuration":8}}]}}}`

func ist(hour, minute, second int) time.Time {
	return time.Date(2017, 3, 3, hour, minute, second, 0, IST)
}

func TestDecodeDocumented(t *testing.T) {
	got, err := decodeSingle([]byte(documented), IST)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Call{
		SID:          "b6cfaf5f5cef3ca0fc937749ef96d245",
		AccountSID:   "acme1",
		CreatedAt:    ist(10, 48, 33),
		UpdatedAt:    ist(10, 53, 33),
		StartedAt:    ist(10, 48, 33),
		EndedAt:      ist(10, 49, 50),
		From:         "0XXXXX30240",
		To:           "0XXXXX38847",
		PhoneNumber:  "0XXXXXX4890",
		Status:       "completed",
		State:        exotel.StateCompleted,
		Direction:    "outbound-api",
		Seconds:      17,
		Price:        "1.500",
		RecordingURL: "https://h/recording.mp3",
		Details: &Details{
			ConversationSeconds: 8,
			Leg2:                exotel.StateCompleted,
			Legs: []exotel.Leg{
				exotel.WholeLeg(0, "0XXXXX30240", exotel.StateCompleted, 21),
				exotel.WholeLeg(1, "0XXXXX38847", exotel.StateCompleted, 8)},
		},
	}, got, withoutRaw); d != "" {
		t.Errorf("call (-want +got):\n%s", d)
	}
	again, err := Decode(got.Raw, IST)
	if d := cmp.Diff(got, again); d != "" || err != nil {
		t.Errorf("%v, read again from its raw record (-first +again):\n%s", err, d)
	}
}

// TestDecodeFields decodes a record that holds an id and the given fields.
func TestDecodeFields(t *testing.T) {
	for name, tc := range map[string]struct {
		fields string
		want   Call
	}{
		"nothing":        {`"To":null`, Call{}},
		"nulls in words": {`"To":"null","From":" NULL ","RecordingUrl":"","AnsweredBy":"NA"`, Call{AnsweredBy: "NA"}},
		"numbers": {`"Duration":17,"Price":1.5,"From":9876543210`, Call{
			Seconds: 17,
			Price:   "1.5",
			From:    "9876543210",
		}},
		"quoted":               {`"Duration":"\"17\"","Price":"NA"`, Call{Seconds: 17}},
		"fractions":            {`"Duration":"4.39","Price":"0.25"`, Call{Seconds: 4, Price: "0.25"}},
		"nonsense numbers":     {`"Duration":"-5","Price":"free"`, Call{}},
		"not a number":         {`"Duration":"NaN","Price":"NaN"`, Call{}},
		"infinite":             {`"Duration":"Inf","Price":"-Infinity"`, Call{}},
		"in hexadecimal":       {`"Duration":1e99,"Price":"0x1p-2"`, Call{}},
		"a refund":             {`"Price":"-1.500"`, Call{Price: "-1.500"}},
		"nothing, as PHP does": {`"Details":[],"AnsweredBy":[],"ForwardedFrom":{},"RecordingUrl":[]`, Call{}},
		"details are null":     {`"Details":null`, Call{}},
		"empty details":        {`"Details":{}`, Call{Details: &Details{}}},
		"details as words": {`"Details":{"ConversationDuration":"8","Leg1Status":"CANCELLED","Leg2Status":"null",` +
			`"Legs":null}`,
			Call{Details: &Details{
				ConversationSeconds: 8,
				Legs:                []exotel.Leg{exotel.WholeLeg(0, "", exotel.StateCanceled, 0)},
			}}},
		"legs without a wrapper": {`"Details":{"Legs":[{"Id":"1","OnCallDuration":"21"},7,null,{"Leg":null}]}`,
			Call{Details: &Details{Legs: []exotel.Leg{exotel.WholeLeg(0, "", "", 21)}}}},
		"legs as XML has them": {`"Details":{"Leg2Status":"busy",
			"Legs":{"Leg":[{"Id":1,"OnCallDuration":"00:00:21"},{"Id":2}]}}`,
			Call{Details: &Details{
				Leg2: exotel.StateBusy,
				Legs: []exotel.Leg{exotel.WholeLeg(0, "", "", 21),
					exotel.WholeLeg(1, "", exotel.StateBusy, 0)},
			}}},
		"one leg as XML has it": {`"Details":{"Legs":{"Leg":{"Id":2,"OnCallDuration":21,"Status":"completed"}}}`,
			Call{Details: &Details{
				Leg2: exotel.StateCompleted,
				Legs: []exotel.Leg{exotel.WholeLeg(1, "", exotel.StateCompleted, 21)},
			}}},
		"legs as an object": {`"Details":{"Legs":{"0":{}}}`, Call{Details: &Details{}}},
		"cancelled":         {`"Status":"cancelled"`, Call{Status: "cancelled", State: exotel.StateCanceled}},
		"upper case": {`"Status":"No-Answer","Direction":"INCOMING"`, Call{
			Status:    "No-Answer",
			State:     exotel.StateNoAnswer,
			Direction: "inbound",
		}},
		"a new status":       {`"Status":"teleported","Direction":"sideways"`, Call{Status: "teleported"}},
		"a boolean":          {`"AnsweredBy":true`, Call{AnsweredBy: "true"}},
		"the other ExoPhone": {`"PhoneNumber":"0804"`, Call{PhoneNumber: "0804"}},
		"both ExoPhones":     {`"PhoneNumber":"0804","PhoneNumberSid":"0805"`, Call{PhoneNumber: "0805"}},
		"presigned": {
			`"PreSignedRecordingUrl":"https://s3/x?y=z"`,
			Call{PreSignedRecordingURL: "https://s3/x?y=z"},
		},
		"a browser's leg":   {`"From":"sip:bob"`, Call{From: "sip:bob"}},
		"epoch":             {`"EndTime":"1970-01-01 05:30:00"`, Call{}},
		"epoch with a zone": {`"EndTime":"1970-01-01 05:30:00+05:30"`, Call{}},
		"year nought":       {`"EndTime":"0000-00-00 00:00:00","StartTime":"0001-01-01T00:00:00Z"`, Call{}},
		"no time":           {`"EndTime":"soon","StartTime":12`, Call{}},
		"a time with a zone": {
			`"EndTime":"2017-03-03 10:49:50+00:00"`,
			Call{EndedAt: time.Date(2017, 3, 3, 10, 49, 50, 0, time.UTC)},
		},
		"RFC 3339": {
			`"EndTime":"2017-03-03T10:49:50.529Z"`,
			Call{EndedAt: time.Date(2017, 3, 3, 10, 49, 50, 529e6, time.UTC)},
		},
		"RFC 3339 without zone": {`"EndTime":"2017-03-03T10:49:50"`, Call{EndedAt: ist(10, 49, 50)}},
		"RFC 1123":              {`"EndTime":"Fri, 03 Mar 2017 10:49:50 +0530"`, Call{EndedAt: ist(10, 49, 50)}},
		"too long":              {`"From":"` + strings.Repeat("1", maxText) + `"`, Call{}},
		"other case":            {`"status":"busy"`, Call{Status: "busy", State: exotel.StateBusy}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decodeCall([]byte(`{"Sid":"c1",`+tc.fields+`}`), IST)
			if err != nil {
				t.Fatal(err)
			}
			tc.want.SID = "c1"
			if d := cmp.Diff(tc.want, got, withoutRaw); d != "" {
				t.Errorf("call (-want +got):\n%s", d)
			}
		})
	}
}

// TestLegsAreBounded verifies that a record with too many legs keeps the first of them, or none, and that the record
// notes it.
func TestLegsAreBounded(t *testing.T) {
	for legs, want := range map[int]struct {
		legs   int
		unread exotel.Unread
	}{
		100:    {64, exotel.Unread{Field: "Legs", Reason: reason.FieldTooLarge}},
		10_000: {0, exotel.Unread{Field: "(body)", Reason: reason.FieldTooLarge}},
	} {
		list := strings.Repeat(`{"Leg":{"OnCallDuration":1}},`, legs) + `{}`
		got, err := decodeCall([]byte(`{"Sid":"c1","Details":{"Legs":[`+list+`]}}`), IST)
		if err != nil || len(got.Details.Legs) != want.legs {
			t.Errorf("%d legs, %v; want %d", len(got.Details.Legs), err, want.legs)
		}
		if d := cmp.Diff([]exotel.Unread{want.unread}, got.Unread); d != "" {
			t.Errorf("unread (-want +got):\n%s", d)
		}
	}
}

// TestAnotherZone verifies that the wall clock of a record is read in the account's time zone, such as Singapore's.
func TestAnotherZone(t *testing.T) {
	got, err := decodeCall([]byte(`{"Sid":"c1","StartTime":"2017-03-03 10:48:33"}`), time.FixedZone("SGT", 8*3600))
	if want := time.Date(2017, 3, 3, 2, 48, 33, 0, time.UTC); err != nil || !got.StartedAt.Equal(want) {
		t.Errorf("%s, %v; want %s", got.StartedAt, err, want)
	}
}

func TestDecodeErrors(t *testing.T) {
	for name, tc := range map[string]struct{ body, wantErr string }{
		"no id":           {`{"From":"0987"}`, "the record has no Sid, or an invalid one"},
		"a path as id":    {`{"Sid":"../x"}`, "the record has no Sid, or an invalid one"},
		"a list":          {`[]`, "the record is not a JSON object: field \"\" has another type"},
		"cut":             {`{"Sid":"c1`, "the record is not a JSON object: broken at byte 10"},
		"a broken escape": {`{"Sid":"\x"}`, "the record is not a JSON object: broken at byte 10"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := decodeCall([]byte(tc.body), IST); fmt.Sprint(err) != tc.wantErr {
				t.Errorf("got %v, %v; want %s", got, err, tc.wantErr)
			}
		})
	}
}

func TestDecodePage(t *testing.T) {
	for name, tc := range map[string]struct {
		body, wantNext string
		wantRecords    int
		wantErr        string
	}{
		"documented": {
			`{"Metadata":{"Total":1027,"PageSize":20,"NextPageUri":"/v1/x?After=xyz"},"Calls":[{},{}]}`,
			"/v1/x?After=xyz",
			2,
			"",
		},
		"the end":       {`{"Metadata":{"NextPageUri":""},"Calls":[{}]}`, "", 1, ""},
		"the end, null": {`{"Metadata":{"NextPageUri":null},"Calls":[]}`, "", 0, ""},
		"null calls":    {`{"Metadata":{},"Calls":null}`, "", 0, ""},
		"no metadata":   {`{"Calls":[{}]}`, "", 0, "the answer has no Metadata"},
		"calls a record": {
			`{"Metadata":{},"Calls":{"Sid":"c1"}}`,
			"",
			0,
			`the answer is not the documented JSON: field "Calls" has another type`,
		},
		"HTML":   {"\n <html>", "", 0, "the answer is a page or XML instead of JSON"},
		"a word": {"moment", "", 0, "the answer is not the documented JSON: broken at byte 1"},
	} {
		t.Run(name, func(t *testing.T) {
			page, err := decodePage([]byte(tc.body))
			if page.next != tc.wantNext || len(page.records) != tc.wantRecords || (err == nil) != (tc.wantErr == "") ||
				err != nil && err.Error() != tc.wantErr {
				t.Errorf(
					"%d records, next %q, %v; want %d, %q, %q",
					len(page.records),
					page.next,
					err,
					tc.wantRecords,
					tc.wantNext,
					tc.wantErr,
				)
			}
		})
	}
}

func TestOutcomeAndSettled(t *testing.T) {
	ended := ist(10, 0, 0)
	for name, tc := range map[string]struct {
		call        Call
		wantOutcome exotel.State
		wantSettled bool
	}{
		"completed":         {Call{State: exotel.StateCompleted, EndedAt: ended}, exotel.StateCompleted, true},
		"completed, no end": {Call{State: exotel.StateCompleted}, exotel.StateCompleted, false},
		"going on":          {Call{State: exotel.StateInProgress, EndedAt: ended}, exotel.StateInProgress, false},
		"an unknown state":  {Call{EndedAt: ended}, exotel.StateUnknown, false},
		"missed": {Call{
			State:     exotel.StateCompleted,
			EndedAt:   ended,
			Direction: "inbound",
			Details:   &Details{Leg2: exotel.StateNoAnswer},
		}, exotel.StateNoAnswer, true},
		"inbound, no details": {Call{
			State:     exotel.StateCompleted,
			EndedAt:   ended,
			Direction: "inbound",
		}, exotel.StateCompleted, true},
		"inbound, no leg": {Call{
			State:     exotel.StateBusy,
			EndedAt:   ended,
			Direction: "inbound",
			Details:   &Details{},
		}, exotel.StateBusy, true},
		"inbound, odd leg": {Call{
			State:     exotel.StateCompleted,
			EndedAt:   ended,
			Direction: "inbound",
			Details:   &Details{Leg2: exotel.StateRinging},
		}, exotel.StateCompleted, true},
		"outbound": {Call{
			State:     exotel.StateFailed,
			EndedAt:   ended,
			Direction: "outbound-api",
			Details:   &Details{Leg2: exotel.StateNoAnswer},
		}, exotel.StateFailed, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.call.Outcome(); got != tc.wantOutcome || tc.call.Settled() != tc.wantSettled {
				t.Errorf("%s, settled %v; want %s, %v", got, tc.call.Settled(), tc.wantOutcome, tc.wantSettled)
			}
		})
	}
}

// FuzzDecode verifies that the decoder does not panic for any answer, and that each decoded call is within its bounds.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{documented,
		`{"Metadata":{"NextPageUri":"/x"},"Calls":[{"Sid":"c1","Duration":"1e9"},null]}`,
		`{"Call":{"Sid":"c1","Details":[]}}`,
		`{"Call":{"Sid":"c1","Details":{"Legs":[{"Leg":{"Id":-1}}]}}}`, "<TwilioResponse/>",
		`{"Call":{"Sid":"c1","EndTime":"9999-12-31 23:59:59"}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if call, err := decodeSingle(body, IST); err == nil {
			checkBounds(t, call)
		} else if strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("the error %q is not one line", err)
		}
		page, err := decodePage(body)
		if err != nil {
			return
		}
		for _, r := range page.records {
			if call, err := decodeCall(r, IST); err == nil {
				checkBounds(t, call)
			}
		}
	})
}

func checkBounds(t *testing.T, c Call) {
	t.Helper()
	const maxSeconds = 7 * 24 * 3600
	if !sidPattern.MatchString(c.SID) || c.Seconds < 0 || c.Seconds > maxSeconds || len(c.From) > maxText {
		t.Errorf("out of bounds: %+v", c)
	}
	if c.Settled() && c.EndedAt.Year() <= 1970 {
		t.Errorf("settled in %d", c.EndedAt.Year())
	}
	if c.Details != nil && (len(c.Details.Legs) > 64 || c.Details.ConversationSeconds > maxSeconds) {
		t.Errorf("details out of bounds: %+v", c.Details)
	}
	if _, err := json.Marshal(c); err != nil {
		t.Errorf("cannot be stored: %v", err)
	}
}
