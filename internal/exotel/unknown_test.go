package exotel

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/reason"
)

// TestUnknownFields checks that names that Exotel is likely to have made are noted, unlike the variables of a flow.
func TestUnknownFields(t *testing.T) {
	for name, tc := range map[string]struct {
		r    Request
		want []string
	}{
		"a new spelling":      {form("CallSid=c1&RecordingUri=https://r/a.mp3"), []string{"RecordingUri"}},
		"two letters of many": {form("CallSid=c1&ConversationDurationMs=4"), []string{"ConversationDurationMs"}},
		"in another case":     {form("CallSid=c1&dial_call_statuss=busy"), []string{"dial_call_statuss"}},
		"in an object": {asJSON(`{"call_details":{"sid":"c1","hangup_cause":"x"}}`),
			[]string{"call_details[hangup_cause]"}},
		"of a leg": {form("CallSid=c1&Legs[0][TalkSeconds]=4&Legs[1][TalkSeconds]=5"),
			[]string{"Legs[TalkSeconds]"}},
		"of a leg in an object": {
			asJSON(`{"call_details":{"sid":"c1","legs":[{"leg":{"talk_s":1}},{"leg":{"talk_s":2}}]}}`),
			[]string{"call_details[legs][leg][talk_s]"}},
		"of a stream": {get("CallSid=c1&Stream[AudioUrl]=https://r/a.mp3"), []string{"Stream[AudioUrl]"}},
		"in JSON in a string": {get(`CallSid=c1&Stream={"StreamSID":"s","Codec":"x"}`),
			[]string{"Stream[Codec]"}},
		"without a value": {form("CallSid=c1&RecordingUri=&CallStatuss=null"), nil},
		"variables of a flow": {get("CallSid=c1&order=7&utm_source=x&name=b&state_code=KA&city=Pune" +
			"&customer_id=9&lang=hi&attempt=2&campaign=x"), nil},
		"another product's object": {form("CallSid=c1&metadata[foo]=1&Digits2[0]=1"), nil},
		"too many to compare":      {form("CallSid=c1&" + manyFields(400)), nil},
		"a long name":              {form("CallSid=c1&" + strings.Repeat("CallStatus", 9) + "=1"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			event, err := ParseEvent(KindStatus, tc.r, ist)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, u := range event.Unread {
				if u.Reason != reason.FieldUnknown || FieldLabel(u.Field) != "other" {
					t.Errorf("unread %+v, label %s", u, FieldLabel(u.Field))
				}
				got = append(got, u.Field)
			}
			slices.Sort(got)
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("unknown fields (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUnknownFieldsNextToValues checks that unknown names leave room for what else cannot be read.
func TestUnknownFieldsNextToValues(t *testing.T) {
	fields := "CallSid=c1&Status=teleported&Direction=sideways"
	for i := range maxListedLegs {
		fields += fmt.Sprintf("&Legs[%d][Talk%d]=1&Legs[%d][Status]=beamed", i, i, i)
	}
	event, err := ParseEvent(KindStatus, form(fields), ist)
	if err != nil {
		t.Fatal(err)
	}
	unknown := 0
	var got []Unread
	for _, u := range event.Unread {
		if u.Reason == reason.FieldUnknown {
			unknown++
		} else {
			got = append(got, u)
		}
	}
	want := []Unread{
		{"Direction", reason.FieldUnknownValue, "sideways"},
		{"Legs[Status]", reason.FieldUnknownValue, "beamed"},
		{"Status", reason.FieldUnknownValue, "teleported"},
	}
	slices.SortFunc(got, byField)
	if diff := cmp.Diff(want, got); diff != "" || unknown != maxUnknown {
		t.Errorf("%d unknown fields, others (-want +got):\n%s", unknown, diff)
	}
}

// TestDocumentedFields checks that no field of a documented request is noted as unknown.
func TestDocumentedFields(t *testing.T) {
	for name, tc := range spelled {
		event, err := ParseEvent(tc.kind, tc.r, ist)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range event.Unread {
			if u.Reason == reason.FieldUnknown {
				t.Errorf("%s: %s is noted", name, u.Field)
			}
		}
	}
}

func TestDistance(t *testing.T) {
	for pair, want := range map[[2]string]int{
		{"status", "status"}:             0,
		{"statuss", "status"}:            1,
		{"statu", "status"}:              1,
		{"stetus", "status"}:             1,
		{"recordinguri", "recordingurl"}: 1,
		{"abc", "xyz"}:                   3,
		{"", "ab"}:                       2,
		{"callsid", "calltype"}:          4,
	} {
		if got := distance([]byte(pair[0]), pair[1]); got != want {
			t.Errorf("%q and %q differ by %d, want %d", pair[0], pair[1], got, want)
		}
	}
}
