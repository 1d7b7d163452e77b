package ingest

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

var (
	ist     = time.FixedZone("IST", 5*3600+1800)
	arrived = time.Date(2024, 1, 15, 14, 31, 0, 0, ist)
)

func tenant() *tenantconfig.Tenant {
	return &tenantconfig.Tenant{
		ID:                 "acme/support",
		TimeZone:           "Asia/Kolkata",
		Freshness:          72 * time.Hour,
		AllowedSourceHosts: []string{"recordings.exotel.com"},
	}
}

// delivery of fields in a form.
func delivery(kind, fields string) Delivery {
	const form = "application/x-www-form-urlencoded"
	return Delivery{
		Kind:        kind,
		Source:      SourceWebhook,
		Fields:      exotel.Request{Method: "POST", ContentType: form, Body: []byte(fields)},
		ContentType: form,
		Raw:         []byte(fields),
		ReceivedAt:  arrived,
	}
}

func newRecording(call, url string, available time.Time) store.NewRecording {
	return store.NewRecording{ID: recording.ID(call, url), SourceURL: url, AvailableAt: available}
}

// rejection is the note of a rejected recording.
var rejection = store.Unread{Field: "RecordingUrl", Reason: "rejected"}

func rejected(url, reason string) store.NewRecording {
	return store.NewRecording{ID: recording.ID("c1", url), SourceURL: url, Rejected: reason}
}

const source = "https://recordings.exotel.com/"

// TestBuildAll makes an event of each part of a list, with the part's own text and key.
func TestBuildAll(t *testing.T) {
	const a, b = `{"CallSid":"c1","Status":"busy"}`, `{"CallSid":"c2","Status":"failed"}`
	for name, tc := range map[string]struct {
		body   string
		digest []byte
		whole  bool
		want   []string // call, reason, text
	}{
		"one":           {body: a, want: []string{"c1  " + a}},
		"a list of one": {body: "[" + a + "]", want: []string{"c1  [" + a + "]"}},
		"two":           {body: "[" + a + "," + b + "]", want: []string{"c1  " + a, "c2  " + b}},
		"two, signed":   {body: "[" + a + "," + b + "]", digest: []byte("d"), want: []string{"c1  " + a, "c2  " + b}},
		"one that names no call": {
			body: "[" + a + `,{"Status":"busy"},7]`,
			want: []string{"c1  " + a,
				`unknown missing_call_sid {"Status":"busy"}`, "unknown malformed_body 7"},
		},
		"two that may be of others": {
			body:  "[" + a + "," + b + "]",
			whole: true,
			want:  []string{"unknown malformed_body [" + a + "," + b + "]"},
		},
		"one that is cut": {
			body: "[" + a + "," + b[:9],
			want: []string{"unknown malformed_body [" + a + "," + b[:9]},
		},
		"text after a list": {body: "[" + a + "]x", want: []string{"unknown malformed_body [" + a + "]x"}},
	} {
		d := delivery(exotel.KindStatus, tc.body)
		d.SignedDigest = tc.digest
		d.Whole = tc.whole
		var got []string
		keys := map[[32]byte]bool{}
		for _, e := range BuildAll(tenant(), recording.SourcePolicy{}, d) {
			got = append(got, e.CallSID+" "+e.DeadReason+" "+string(e.Raw))
			keys[e.DedupKey] = true
		}
		if diff := cmp.Diff(tc.want, got); diff != "" || len(keys) != len(tc.want) {
			t.Errorf("%s: %d keys, events (-want +got):\n%s", name, len(keys), diff)
		}
		for _, e := range BuildAll(tenant(), recording.SourcePolicy{}, d) {
			if !keys[e.DedupKey] {
				t.Errorf("%s: a redelivery of %s has another key", name, e.CallSID)
			}
		}
	}
}

func TestBuild(t *testing.T) {
	for name, tc := range map[string]struct {
		kind, fields string
		want         store.Event
	}{
		"a whole call": {exotel.KindStatus,
			"CallSid=c1&EventType=Terminal&Status=completed&Direction=outbound-api&From=0987&To=0912" +
				"&StartTime=2024-01-15+14:25:12" +
				"&EndTime=2024-01-15+14:30:45&ConversationDuration=320&CustomField=order_7" +
				"&RecordingUrl=" + source + "a.mp3",
			store.Event{
				EventType:  "terminal",
				Recordings: []store.NewRecording{newRecording("c1", source+"a.mp3", time.Time{})},
				SaidAt:     time.Date(2024, 1, 15, 14, 30, 45, 0, ist),
				Call: store.Call{
					State:               store.CallCompleted,
					Direction:           "outbound-api",
					From:                "0987",
					To:                  "0912",
					ConversationSeconds: 320,
					CustomField:         "order_7",
					StartedAt:           time.Date(2024, 1, 15, 14, 25, 12, 0, ist),
					EndedAt:             time.Date(2024, 1, 15, 14, 30, 45, 0, ist),
				},
			}},
		"stream and its recording": {exotel.KindPassthru,
			"CallSid=c1&Stream[StreamSID]=s1&Stream[Status]=completed&Stream[Duration]=28&Stream[DisconnectedBy]=bot" +
				"&Stream[RecordingUrl]=" + source + "s1.mp3",
			store.Event{
				Recordings: []store.NewRecording{newRecording("c1", source+"s1.mp3", time.Time{})},
				Stream: &store.Stream{
					SID:            "s1",
					Status:         "completed",
					DisconnectedBy: "bot",
					Seconds:        28,
					RecordingURL:   source + "s1.mp3",
				},
			}},
		"recordings of call and stream": {exotel.KindPassthru,
			"CallSid=c1&RecordingUrl=" + source + "c1.mp3" +
				"&Stream[StreamSID]=s1&Stream[RecordingUrl]=" + source + "s1.mp3",
			store.Event{
				Recordings: []store.NewRecording{
					newRecording("c1", source+"c1.mp3", time.Time{}),
					newRecording("c1", source+"s1.mp3", time.Time{}),
				},
				Stream: &store.Stream{SID: "s1", RecordingURL: source + "s1.mp3"},
			}},
		"one recording named twice": {exotel.KindPassthru,
			"CallSid=c1&RecordingUrl=" + source + "c1.mp3" +
				"&Stream[StreamSID]=s1&Stream[RecordingUrl]=" + source + "c1.mp3?sig=2",
			store.Event{
				Recordings: []store.NewRecording{newRecording("c1", source+"c1.mp3", time.Time{})},
				Stream:     &store.Stream{SID: "s1", RecordingURL: source + "c1.mp3?sig=2"},
			}},
		"stream that was never made": {exotel.KindPassthru,
			"CallSid=c1&Stream[Status]=failed&Stream[DisconnectedBy]=NA&Stream[Error]=3009+failed" +
				"&Stream[DetailedStatus]=throttled",
			store.Event{Stream: &store.Stream{
				SID:            "unknown",
				Status:         "failed",
				DisconnectedBy: "NA",
				Error:          "3009 failed",
				DetailedStatus: "throttled",
			}}},
		"forbidden source": {exotel.KindStatus, "CallSid=c1&Status=busy&RecordingUrl=https://169.254.169.254/x",
			store.Event{
				Call:   store.Call{State: store.CallBusy},
				Unread: []store.Unread{rejection},
				Recordings: []store.NewRecording{rejected("https://169.254.169.254/x",
					"the source address 169.254.169.254 is private: recordings are fetched from public hosts, "+
						"or from ranges that the platform allows (--allowed-source-cidrs)")},
			}},
		"source off the list, and credentials": {exotel.KindStatus,
			"CallSid=c1&RecordingUrl=https://u:p@evil.example/x?sig=1",
			store.Event{
				Unread: []store.Unread{rejection},
				Recordings: []store.NewRecording{
					rejected("https://evil.example/x",
						"the source URL carries credentials: leave them out, the Tenant's Exotel credentials are used")},
			}},
		"a word instead of a URL": {exotel.KindStatus, "CallSid=c1&RecordingUrl=soon", store.Event{
			Unread: []store.Unread{rejection},
			Recordings: []store.NewRecording{rejected("soon",
				"the source URL cannot be read: it must be an absolute URL of at most 2048 bytes")},
		}},
		"one of two recordings rejected": {exotel.KindPassthru, "CallSid=c1&RecordingUrl=" + source +
			"a.mp3&Stream[StreamSID]=s1&Stream[RecordingUrl]=https://evil.example/x",
			store.Event{
				Unread: []store.Unread{rejection},
				Stream: &store.Stream{
					SID:          "s1",
					RecordingURL: "https://evil.example/x",
				},
				Recordings: []store.NewRecording{newRecording("c1", source+"a.mp3", time.Time{}),
					rejected("https://evil.example/x",
						"the source host evil.example is not one that the Tenant allows: add it to "+
							"spec.recordings.allowedSourceHosts")},
			}},
		"plain http to Exotel": {exotel.KindPassthru, "CallSid=c1&RecordingUrl=http://recordings.exotel.com/x",
			store.Event{Recordings: []store.NewRecording{newRecording("c1", source+"x", time.Time{})}}},
		"no recording": {exotel.KindPassthru, "CallSid=c1&RecordingUrl=None&RecordingDuration=9", store.Event{
			Call: store.Call{RecordingSeconds: 9}}},
		"long texts": {exotel.KindStatus, "CallSid=c1&CustomField=" + strings.Repeat("x", maxText+1) + "&To=" +
			strings.Repeat("1", maxNumber+1) + "&From=0123",
			store.Event{
				Call: store.Call{From: "0123"},
				Unread: []store.Unread{{Field: "To", Reason: "too_large"},
					{Field: "CustomField", Reason: "too_large"}},
			}},
		"a broken field": {exotel.KindStatus, "CallSid=c1&CustomField=50%+off&Status=completed",
			store.Event{
				Call: store.Call{State: store.CallCompleted},
				Unread: []store.Unread{{
					Field:  "CustomField",
					Reason: "malformed",
				}},
			}},
		"no call": {exotel.KindStatus, "Status=completed", store.Event{
			CallSID:    "unknown",
			DeadReason: "missing_call_sid",
		}},
		"no id": {exotel.KindStatus, "CallSid=../x", store.Event{CallSID: "unknown", DeadReason: "invalid_call_sid"}},
		"recording that is there later": {exotel.KindPassthru,
			"CallSid=c1&RecordingUrl=" + source + "a.mp3&RecordingAvailableBy=2024-01-15+14:35:00",
			store.Event{Recordings: []store.NewRecording{newRecording("c1", source+"a.mp3",
				time.Date(2024, 1, 15, 14, 35, 0, 0, ist))}}},
		"recording that is there much later": {exotel.KindPassthru,
			"CallSid=c1&RecordingUrl=" + source + "a.mp3&RecordingAvailableBy=2034-01-15+14:35:00",
			store.Event{Recordings: []store.NewRecording{newRecording("c1", source+"a.mp3",
				arrived.Add(2*time.Hour))}}},
		"malformed": {exotel.KindStatus, "{", store.Event{CallSID: "unknown", DeadReason: "malformed_body"}},
		"leg": {exotel.KindLeg,
			`{"event_sid":"ev1","event_name":"leg_ringing","data":{"leg_sid":"c1","state":"ringing"}}`,
			store.Event{EventType: "leg_ringing", Call: store.Call{State: store.CallRinging}}},
		"leg without an id": {exotel.KindLeg, `{"data":{"leg_sid":"c1"}}`, store.Event{Unread: []store.Unread{{
			Field:  "event_sid",
			Reason: "malformed",
		}}}},
	} {
		t.Run(name, func(t *testing.T) {
			d := delivery(tc.kind, tc.fields)
			got := Build(tenant(), recording.SourcePolicy{}, d)
			want := tc.want
			want.Tenant = "acme/support"
			want.Kind = tc.kind
			want.Source = "webhook"
			want.ContentType = d.ContentType
			want.Raw = d.Raw
			want.CoversBody = true
			if want.CallSID == "" {
				want.CallSID = "c1"
			}
			noKey := cmpopts.IgnoreFields(store.Event{}, "DedupKey")
			if diff := cmp.Diff(want, got, noKey, cmpopts.EquateApproxTime(0)); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
			if got.DedupKey == [32]byte{} {
				t.Error("the event has no key")
			}
		})
	}
}

func TestFreshness(t *testing.T) {
	const day = 24 * time.Hour
	at := func(d time.Duration) string { return arrived.Add(d).Format("2006-01-02+15:04:05") }
	for name, tc := range map[string]struct {
		kind, fields string
		window       time.Duration
		zone         string
		wantReason   string
	}{
		"now":               {exotel.KindStatus, "DateUpdated=" + at(0), 3 * day, "", ""},
		"within the window": {exotel.KindStatus, "DateUpdated=" + at(-3*day), 3 * day, "", ""},
		"a second outside": {
			exotel.KindStatus,
			"DateUpdated=" + at(-3*day-time.Second),
			3 * day,
			"",
			"stale",
		},
		"a day ahead":           {exotel.KindStatus, "DateUpdated=" + at(day), 3 * day, "", ""},
		"more than a day ahead": {exotel.KindStatus, "DateUpdated=" + at(day+time.Second), 3 * day, "", "stale"},
		"the tenant's zone": {
			exotel.KindStatus,
			"DateUpdated=" + at(-time.Hour),
			time.Hour,
			"Asia/Kolkata",
			"",
		},
		"another zone": {
			exotel.KindStatus,
			"DateUpdated=" + at(-time.Hour),
			time.Hour,
			"Asia/Karachi",
			"",
		},
		"a zone further east": {
			exotel.KindStatus,
			"DateUpdated=" + at(-time.Hour),
			time.Hour,
			"Asia/Singapore",
			"stale",
		},
		"no time":   {exotel.KindStatus, "Status=completed", time.Hour, "", ""},
		"no window": {exotel.KindStatus, "DateUpdated=2010-01-01+00:00:00", 0, "", ""},
		"call that ended long ago": {
			exotel.KindStatus,
			"EndTime=2010-01-01+00:00:00&DateUpdated=" + at(0),
			time.Hour,
			"",
			"",
		},
		"placeholder": {exotel.KindStatus, "DateUpdated=1970-01-01+05:30:00", time.Hour, "", ""},
		"stale passthru": {
			exotel.KindPassthru,
			"CurrentTime=" + at(-2*time.Hour) + "&Created=" + at(0),
			time.Hour,
			"",
			"stale",
		},
		"passthru of an old call": {
			exotel.KindPassthru,
			"CurrentTime=" + at(0) + "&Created=" + at(-2*time.Hour),
			time.Hour,
			"",
			"",
		},
		"passthru without its time":  {exotel.KindPassthru, "Created=" + at(-2*time.Hour), time.Hour, "", "stale"},
		"stale status as a passthru": {exotel.KindPassthru, "DateUpdated=" + at(-2*time.Hour), time.Hour, "", "stale"},
		"stale passthru as a status": {exotel.KindStatus, "CurrentTime=" + at(-2*time.Hour), time.Hour, "", "stale"},
		"stale end of the call":      {exotel.KindPassthru, "EndTime=" + at(-2*time.Hour), time.Hour, "", "stale"},
		"a long call":                {exotel.KindStatus, "StartTime=" + at(-20*time.Hour), time.Hour, "", ""},
		"a call of two days ago":     {exotel.KindStatus, "StartTime=" + at(-48*time.Hour), time.Hour, "", "stale"},
		"stale with a wrong address": {
			exotel.KindStatus,
			"DateUpdated=" + at(-2*time.Hour) + "&RecordingUrl=http://10.0.0.1/",
			time.Hour,
			"",
			"stale",
		},
	} {
		t.Run(name, func(t *testing.T) {
			tn := tenant()
			tn.Freshness = tc.window
			if tc.zone != "" {
				tn.TimeZone = tc.zone
			}
			got := Build(tn, recording.SourcePolicy{}, delivery(tc.kind, "CallSid=c1&"+tc.fields))
			if got.DeadReason != tc.wantReason {
				t.Errorf("dead for %q, want %q", got.DeadReason, tc.wantReason)
			}
		})
	}
	leg := Delivery{
		Kind:       exotel.KindLeg,
		ReceivedAt: arrived,
		Fields: exotel.Request{
			ContentType: "application/json",
			Body:        []byte(`{"event_sid":"e","event_timestamp":"2024-01-12T08:00:00Z","data":{"leg_sid":"c1"}}`),
		},
	}
	if got := Build(tenant(), recording.SourcePolicy{}, leg); got.DeadReason != "stale" {
		t.Errorf("a stale leg event is dead for %q", got.DeadReason)
	}
}

// TestHostileText verifies that any text of a sender fits its column.
func TestHostileText(t *testing.T) {
	long := strings.Repeat("%C3%A9", 3000)
	fits := func(n int) string { return strings.Repeat("%C3%A9", n/2) }
	d := delivery(exotel.KindPassthru,
		"CallSid=c1&EventType="+long+"&From="+fits(128)+"&To="+fits(128)+"&CustomField="+fits(512)+"&"+
			"Stream[StreamSID]="+long+
			"&Stream[Status]="+long+"&Stream[DisconnectedBy]="+long+"&Stream[Error]="+long+"&"+
			"Stream[DetailedStatus]="+long)
	d.ContentType, d.Query = strings.Repeat("é", 5000)+"\x00\xff", strings.Repeat("é", 50000)+"\x00\xff"
	event := Build(tenant(), recording.SourcePolicy{}, d)
	for name, tc := range map[string]struct {
		text string
		max  int
	}{
		"event type":      {event.EventType, 64},
		"from":            {event.Call.From, 128},
		"to":              {event.Call.To, 128},
		"custom field":    {event.Call.CustomField, 512},
		"content type":    {event.ContentType, 256},
		"query":           {event.Query, 16 << 10},
		"stream":          {event.Stream.SID, 64},
		"stream's status": {event.Stream.Status, 64},
		"stream's end":    {event.Stream.DisconnectedBy, 64},
		"stream's error":  {event.Stream.Error, 512},
		"stream's detail": {event.Stream.DetailedStatus, 512},
	} {
		if len(tc.text) > tc.max || len(tc.text) < tc.max-2 || !utf8.ValidString(tc.text) ||
			strings.ContainsRune(tc.text, 0) {
			t.Errorf("%s: %d bytes %q, want at most %d of text", name, len(tc.text), tc.text[:8], tc.max)
		}
	}
}

// FuzzBuild checks that the event of any request can be written to the database.
func FuzzBuild(f *testing.F) {
	f.Add(
		exotel.KindStatus,
		"application/x-www-form-urlencoded",
		"",
		[]byte("CallSid=c1&Status=completed&RecordingUrl="+source+"a.mp3"),
	)
	f.Add(exotel.KindPassthru, "", "CallSid=c1&Stream[StreamSID]=s&Stream[RecordingUrl]="+source+"s.mp3", []byte{})
	f.Add(
		exotel.KindLeg, "application/json", "", []byte(`{"event_sid":"e","data":{"leg_sid":"c1","state":"completed"}}`),
	)
	f.Add(exotel.KindStatus, "multipart/form-data; boundary=b", "CallSid=%zz", []byte("--b--"))
	f.Add(exotel.KindStatus, "", "CallSid=c1&CustomField=50%+off&RecordingUrl=https://u:p%ff@evil.example/x",
		[]byte("a=b;c"))
	f.Add(exotel.KindStatus, "application/json", "",
		[]byte(`{"call_details":{"sid":"c1","recordings":[{"url":"http://evil.example/x"}]},"A":[[[[[[[[1]]]]]]]]`))
	f.Fuzz(func(t *testing.T, kind, contentType, query string, body []byte) {
		delivery := Delivery{
			Kind:        kind,
			Source:      SourceWebhook,
			ContentType: contentType,
			Query:       query,
			Raw:         body,
			ReceivedAt:  arrived,
			Fields:      exotel.Request{Method: "POST", RawQuery: query, ContentType: contentType, Body: body},
		}
		event := Build(tenant(), recording.SourcePolicy{}, delivery)
		for _, s := range []string{
			event.CallSID, event.EventType, event.ContentType, event.Query, event.Call.From, event.Call.To,
			event.Call.Direction, event.Call.CustomField,
		} {
			if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
				t.Fatalf("no text: %q", s)
			}
		}
		if event.CallSID == "" || len(event.CallSID) > 64 ||
			event.Stream != nil && (event.Stream.SID == "" || len(event.Stream.SID) > 64) {
			t.Fatalf("does not fit its columns: %+v", event)
		}
		for _, r := range event.Recordings {
			if (recording.SourcePolicy{Hosts: tenant().AllowedSourceHosts}).Validate(r.SourceURL) != nil &&
				r.Rejected == "" {
				t.Fatalf("queued a forbidden source %q", r.SourceURL)
			}
			if r.SourceURL == "" && r.Rejected == "" || len(r.SourceURL) > maxURL ||
				!utf8.ValidString(r.SourceURL+r.Rejected) {
				t.Fatalf("does not fit its columns: %+v", r)
			}
		}
	})
}
