package exotel

import (
	"strings"
	"testing"
	"time"
)

// TestSloppySenders reads requests as clients send them that pass Exotel's on.
func TestSloppySenders(t *testing.T) {
	busy := Event{CallSID: "c1", Status: "busy", State: StateBusy}
	recording := Event{CallSID: "c1", RecordingURLs: []string{recordingA}}
	escaped := strings.ReplaceAll(recordingA, "/", `\/`)
	for name, tc := range map[string]struct {
		r    Request
		want Event
	}{
		"quotes":         {form(`CallSid="c1"&Status="busy"`), busy},
		"a form as JSON": {Request{ContentType: "application/json", Body: []byte("CallSid=c1&Status=busy")}, busy},
		"a form as parts": {Request{
			ContentType: "multipart/form-data",
			Body:        []byte("CallSid=c1&Status=busy"),
		}, busy},
		"a second ?":           {get("?CallSid=c1&Status=busy"), busy},
		"a line break":         {form("CallSid=c1&Status=busy\r\n"), busy},
		"capitals and blanks":  {form("CALLSID=c1&STATUS=+busy+"), busy},
		"objects with dots":    {form("CallSid=c1&Status=busy&Legs.0.Number="), busy},
		"escaped slashes":      {form("CallSid=c1&RecordingUrl=" + escaped), recording},
		"single quotes":        {form("CallSid=c1&RecordingUrl='" + recordingA + "'"), recording},
		"capitals of a scheme": {form("CallSid=c1&RecordingUrl=HTTPS" + recordingA[len("https"):]), recording},
		"not a number":         {form("CallSid=c1&Status=busy&RecordingUrl=nan"), busy},
		"quotes around a time": {form(`CallSid=c1&StartTime="2024-01-15 14:25:12"`),
			Event{CallSID: "c1", StartedAt: time.Date(2024, 1, 15, 14, 25, 12, 0, ist)}},
		"quotes that are meant": {form(`CallSid=c1&CustomField="a"`), Event{CallSID: "c1", CustomField: `"a"`}},
	} {
		t.Run(name, func(t *testing.T) { checkEvent(t, KindStatus, tc.r, tc.want) })
	}
}

// TestOtherProducts reads requests of products that the samples elsewhere do not cover.
func TestOtherProducts(t *testing.T) {
	at := func(hour, minute, second int) time.Time {
		return time.Date(2024, 6, 15, hour, minute, second, 0, time.UTC)
	}
	for name, tc := range map[string]struct {
		r    Request
		want Event
	}{
		// https://developer.exotel.com/docs/campaigns/api-reference/webhooks
		"a call of a campaign": {asJSON(`{"campaign_sid":"camp1","call_sid":"c1",
			"date_created":"2024-06-15T09:05:00+05:30",
			"date_updated":"2024-06-15T09:05:47+05:30","number":"+919876543210","status":"no-answer"}`),
			Event{CallSID: "c1", Status: "no-answer", State: StateNoAnswer, To: "+919876543210", At: at(3, 35, 47)}},
		// https://developer.exotel.com/docs/ip-pstn-webrtc/api-reference/call-notifications
		"an incoming call of WebRTC": {asJSON(`{"event":"incoming_call","call_sid":"c1",
			"direction":"inbound","from":"+919876543210",
			"to":"sip:agent_001@app.exotel.com","app_id":"app1","user_id":"agent_001","exophone":"+911234567890",
			"timestamp":"2024-06-15T10:30:00.000Z","caller_info":{"name":"John","custom_field":"CRM1"}}`),
			Event{
				CallSID:   "c1",
				EventType: "incoming_call",
				Direction: "inbound",
				From:      "+919876543210",
				To:        "sip:agent_001@app.exotel.com",
				At:        at(10, 30, 0),
			}},
		"a ringing call of WebRTC": {asJSON(`{"event":"call_ringing","call_sid":"c1","status":"ringing",
			"timestamp":"2024-06-15T10:30:01Z"}`),
			Event{
				CallSID:   "c1",
				EventType: "call_ringing",
				Status:    "ringing",
				State:     StateRinging,
				At: at(10, 30,
					1),
			}},
		"an answered call of WebRTC": {asJSON(`{"event":"call_answered","call_sid":"c1","answered_by":"a",
			"device":"sip","timestamp":"2024-06-15T10:30:05Z"}`),
			Event{CallSID: "c1", EventType: "call_answered", State: StateInProgress, At: at(10, 30, 5)}},
		"a completed call of WebRTC": {asJSON(`{"event":"call_completed","call_sid":"c1","status":"completed",
			"timestamp":"2024-06-15T10:31:05Z"}`),
			Event{
				CallSID:   "c1",
				EventType: "call_completed",
				Status:    "completed",
				State:     StateCompleted,
				At: at(10,
					31, 5),
			}},
		"a time and a number of the address": {form("CallSid=c1&Status=ringing&timestamp=1764500000&number=7&event=x"),
			Event{CallSID: "c1", Status: "ringing", State: StateRinging}},
		"several of the address": {form("CallSid=c1&timestamp=1&timestamp=2&number=3&number=4&event=a&event=b"),
			Event{CallSID: "c1"}},
		"names of a flow":          {form("CallSid=c1&numbers=1&campaign_id=2&timestamps=3"), Event{CallSID: "c1"}},
		"another To of a campaign": {form("CallSid=c1&campaign_sid=x&number=3&To=4"), Event{CallSID: "c1", To: "4"}},
		"a number of a notification": {form("CallSid=c1&event=incoming_call&number=3"), Event{
			CallSID:   "c1",
			EventType: "incoming_call",
		}},
		"an event of the address": {form("CallSid=c1&event=terminal&Status=ringing"),
			Event{CallSID: "c1", Status: "ringing", State: StateRinging}},
		// https://developer.exotel.com/api/receive-inbound-call-notification
		"a released agent of WebRTC": {asJSON(`{"CustomerId":"4","AppId":"3","CallSid":"c1",
			"ExotelAccountSid":"exotel535",
			"DialWhomNumber":"sip:victor58e267c1","AppUserID":"92","VirtualNumber":"080486","Direction":"incoming",
			"CallStatus":"free",
			"CallState":"","ToNumber":"0803","FromNumber":"0777","TotalDuration":0,"CallRecordings":"",
			"AccountDomain":"Mumbai"}`),
			Event{
				CallSID:    "c1",
				AccountSID: "exotel535",
				Direction:  "inbound",
				From:       "0777",
				To:         "0803",
				Agent:      &Agent{Presence: "free"},
			}},
	} {
		t.Run(name, func(t *testing.T) { checkEvent(t, KindStatus, tc.r, tc.want) })
	}
}
