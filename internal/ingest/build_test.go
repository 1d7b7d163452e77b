package ingest

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

var (
	ist     = time.FixedZone("IST", 5*3600+1800)
	arrived = time.Date(2024, 1, 15, 14, 31, 0, 0, ist)
)

func tenant() *tenantconfig.Tenant {
	return &tenantconfig.Tenant{ID: "acme/support", TimeZone: "Asia/Kolkata", Freshness: 72 * time.Hour, AllowedSourceHosts: []string{"recordings.exotel.com"}}
}

// delivery of fields in a form.
func delivery(kind, fields string) Delivery {
	const form = "application/x-www-form-urlencoded"
	return Delivery{Kind: kind, Source: SourceWebhook, Fields: exotel.Request{Method: "POST", ContentType: form, Body: []byte(fields)},
		ContentType: form, Raw: []byte(fields), ReceivedAt: arrived}
}

func recording(call, url string, available time.Time) store.NewRecording {
	return store.NewRecording{ID: tenantconfig.RecordingID(call, url), SourceURL: url, AvailableAt: available}
}

const source = "https://recordings.exotel.com/"

func TestBuild(t *testing.T) {
	for name, tc := range map[string]struct {
		kind, fields string
		want         store.Event
	}{
		"a whole call": {exotel.KindStatus, "CallSid=c1&EventType=Terminal&Status=completed&Direction=outbound-api&From=0987&To=0912&StartTime=2024-01-15+14:25:12" +
			"&EndTime=2024-01-15+14:30:45&ConversationDuration=320&CustomField=order_7&RecordingUrl=" + source + "a.mp3",
			store.Event{EventType: "terminal", Recordings: []store.NewRecording{recording("c1", source+"a.mp3", time.Time{})},
				Call: store.Call{State: store.CallCompleted, Direction: "outbound-api", From: "0987", To: "0912", ConversationSeconds: 320, CustomField: "order_7",
					StartedAt: time.Date(2024, 1, 15, 14, 25, 12, 0, ist), EndedAt: time.Date(2024, 1, 15, 14, 30, 45, 0, ist)}}},
		"stream and its recording": {exotel.KindPassthru, "CallSid=c1&Stream[StreamSID]=s1&Stream[Status]=completed&Stream[Duration]=28&Stream[DisconnectedBy]=bot" +
			"&Stream[RecordingUrl]=" + source + "s1.mp3",
			store.Event{Recordings: []store.NewRecording{recording("c1", source+"s1.mp3", time.Time{})},
				Stream: &store.Stream{SID: "s1", Status: "completed", DisconnectedBy: "bot", Seconds: 28, RecordingURL: source + "s1.mp3"}}},
		"recordings of call and stream": {exotel.KindPassthru, "CallSid=c1&RecordingUrl=" + source + "c1.mp3&Stream[StreamSID]=s1&Stream[RecordingUrl]=" + source + "s1.mp3",
			store.Event{Recordings: []store.NewRecording{recording("c1", source+"c1.mp3", time.Time{}), recording("c1", source+"s1.mp3", time.Time{})},
				Stream: &store.Stream{SID: "s1", RecordingURL: source + "s1.mp3"}}},
		"one recording named twice": {exotel.KindPassthru, "CallSid=c1&RecordingUrl=" + source + "c1.mp3&Stream[StreamSID]=s1&Stream[RecordingUrl]=" + source + "c1.mp3?sig=2",
			store.Event{Recordings: []store.NewRecording{recording("c1", source+"c1.mp3", time.Time{})}, Stream: &store.Stream{SID: "s1", RecordingURL: source + "c1.mp3?sig=2"}}},
		"stream that was never made": {exotel.KindPassthru, "CallSid=c1&Stream[Status]=failed&Stream[DisconnectedBy]=NA&Stream[Error]=3009+failed&Stream[DetailedStatus]=throttled",
			store.Event{Stream: &store.Stream{SID: "unknown", Status: "failed", DisconnectedBy: "NA", Error: "3009 failed", DetailedStatus: "throttled"}}},
		"forbidden source":    {exotel.KindStatus, "CallSid=c1&RecordingUrl=https://169.254.169.254/x", store.Event{DeadReason: "source_refused"}},
		"source off the list": {exotel.KindStatus, "CallSid=c1&RecordingUrl=https://evil.example/x", store.Event{DeadReason: "source_refused"}},
		"stream's source off the list": {exotel.KindPassthru, "CallSid=c1&RecordingUrl=" + source + "a.mp3&Stream[StreamSID]=s1&Stream[RecordingUrl]=http://recordings.exotel.com/x",
			store.Event{DeadReason: "source_refused", Stream: &store.Stream{SID: "s1", RecordingURL: "http://recordings.exotel.com/x"}}},
		"recording that is there later": {exotel.KindPassthru, "CallSid=c1&RecordingUrl=" + source + "a.mp3&RecordingAvailableBy=2024-01-15+14:35:00",
			store.Event{Recordings: []store.NewRecording{recording("c1", source+"a.mp3", time.Date(2024, 1, 15, 14, 35, 0, 0, ist))}}},
		"recording that is there much later": {exotel.KindPassthru, "CallSid=c1&RecordingUrl=" + source + "a.mp3&RecordingAvailableBy=2034-01-15+14:35:00",
			store.Event{Recordings: []store.NewRecording{recording("c1", source+"a.mp3", arrived.Add(2*time.Hour))}}},
		"malformed": {exotel.KindStatus, "CallSid=%zz", store.Event{CallSID: "unknown", DeadReason: "malformed_body"}},
		"leg": {exotel.KindLeg, `{"event_sid":"ev1","event_name":"leg_ringing","data":{"leg_sid":"c1","state":"ringing"}}`,
			store.Event{EventType: "leg_ringing", Call: store.Call{State: store.CallRinging}}},
		"leg without an id": {exotel.KindLeg, `{"data":{"leg_sid":"c1"}}`, store.Event{CallSID: "unknown", DeadReason: "missing_event_sid"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := delivery(tc.kind, tc.fields)
			got, err := Build(tenant(), tenantconfig.SourcePolicy{}, d)
			if err != nil {
				t.Fatal(err)
			}
			want := tc.want
			want.Tenant, want.Kind, want.Source, want.ContentType, want.Raw, want.CoversBody = "acme/support", tc.kind, "webhook", d.ContentType, d.Raw, true
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

// TestBuildNamesNoCall : what names no call is nobody's event.
func TestBuildNamesNoCall(t *testing.T) {
	for name, fields := range map[string]string{"none": "Status=completed", "no id": "CallSid=../x"} {
		got, err := Build(tenant(), tenantconfig.SourcePolicy{}, delivery(exotel.KindStatus, fields))
		var refused *exotel.ParseError
		if !errors.As(err, &refused) || !cmp.Equal(got, store.Event{}) {
			t.Errorf("%s: %+v, %v; want a ParseError alone", name, got, err)
		}
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
		"now":                        {exotel.KindStatus, "DateUpdated=" + at(0), 3 * day, "", ""},
		"within the window":          {exotel.KindStatus, "DateUpdated=" + at(-3*day), 3 * day, "", ""},
		"a second outside":           {exotel.KindStatus, "DateUpdated=" + at(-3*day-time.Second), 3 * day, "", "stale"},
		"a day ahead":                {exotel.KindStatus, "DateUpdated=" + at(day), 3 * day, "", ""},
		"more than a day ahead":      {exotel.KindStatus, "DateUpdated=" + at(day+time.Second), 3 * day, "", "stale"},
		"the tenant's zone":          {exotel.KindStatus, "DateUpdated=" + at(-time.Hour), time.Hour, "Asia/Kolkata", ""},
		"another zone":               {exotel.KindStatus, "DateUpdated=" + at(-time.Hour), time.Hour, "Asia/Karachi", ""},
		"a zone further east":        {exotel.KindStatus, "DateUpdated=" + at(-time.Hour), time.Hour, "Asia/Singapore", "stale"},
		"no time":                    {exotel.KindStatus, "Status=completed", time.Hour, "", ""},
		"no window":                  {exotel.KindStatus, "DateUpdated=2010-01-01+00:00:00", 0, "", ""},
		"call that ended long ago":   {exotel.KindStatus, "EndTime=2010-01-01+00:00:00&DateUpdated=" + at(0), time.Hour, "", ""},
		"placeholder":                {exotel.KindStatus, "DateUpdated=1970-01-01+05:30:00", time.Hour, "", ""},
		"stale passthru":             {exotel.KindPassthru, "CurrentTime=" + at(-2*time.Hour) + "&Created=" + at(0), time.Hour, "", "stale"},
		"passthru of an old call":    {exotel.KindPassthru, "CurrentTime=" + at(0) + "&Created=" + at(-2*time.Hour), time.Hour, "", ""},
		"passthru without its time":  {exotel.KindPassthru, "Created=" + at(-2*time.Hour), time.Hour, "", "stale"},
		"stale status as a passthru": {exotel.KindPassthru, "DateUpdated=" + at(-2*time.Hour), time.Hour, "", "stale"},
		"stale passthru as a status": {exotel.KindStatus, "CurrentTime=" + at(-2*time.Hour), time.Hour, "", "stale"},
		"stale end of the call":      {exotel.KindPassthru, "EndTime=" + at(-2*time.Hour), time.Hour, "", "stale"},
		"a long call":                {exotel.KindStatus, "StartTime=" + at(-20*time.Hour), time.Hour, "", ""},
		"a call of two days ago":     {exotel.KindStatus, "StartTime=" + at(-48*time.Hour), time.Hour, "", "stale"},
		"stale with a wrong address": {exotel.KindStatus, "DateUpdated=" + at(-2*time.Hour) + "&RecordingUrl=http://10.0.0.1/", time.Hour, "", "stale"},
	} {
		t.Run(name, func(t *testing.T) {
			tn := tenant()
			tn.Freshness = tc.window
			if tc.zone != "" {
				tn.TimeZone = tc.zone
			}
			got, err := Build(tn, tenantconfig.SourcePolicy{}, delivery(tc.kind, "CallSid=c1&"+tc.fields))
			if err != nil || got.DeadReason != tc.wantReason {
				t.Errorf("dead for %q (%v), want %q", got.DeadReason, err, tc.wantReason)
			}
		})
	}
	leg := Delivery{Kind: exotel.KindLeg, ReceivedAt: arrived, Fields: exotel.Request{ContentType: "application/json",
		Body: []byte(`{"event_sid":"e","event_timestamp":"2024-01-12T08:00:00Z","data":{"leg_sid":"c1"}}`)}}
	if got, err := Build(tenant(), tenantconfig.SourcePolicy{}, leg); err != nil || got.DeadReason != "stale" {
		t.Errorf("a stale leg event is dead for %q (%v)", got.DeadReason, err)
	}
}

// TestHostileText : whatever a sender writes fits its column.
func TestHostileText(t *testing.T) {
	long := strings.Repeat("%C3%A9", 3000) + "%00%FF"
	d := delivery(exotel.KindPassthru, "CallSid=c1&EventType="+long+"&From="+long+"&To="+long+"&CustomField="+long+"&Stream[StreamSID]="+long+
		"&Stream[Status]="+long+"&Stream[DisconnectedBy]="+long+"&Stream[Error]="+long+"&Stream[DetailedStatus]="+long)
	d.ContentType, d.Query = strings.Repeat("é", 5000)+"\x00\xff", strings.Repeat("é", 50000)+"\x00\xff"
	e, err := Build(tenant(), tenantconfig.SourcePolicy{}, d)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		text string
		max  int
	}{
		"event type": {e.EventType, 64}, "from": {e.Call.From, 128}, "to": {e.Call.To, 128}, "custom field": {e.Call.CustomField, 512},
		"content type": {e.ContentType, 256}, "query": {e.Query, 16 << 10}, "stream": {e.Stream.SID, 64}, "stream's status": {e.Stream.Status, 64},
		"stream's end": {e.Stream.DisconnectedBy, 64}, "stream's error": {e.Stream.Error, 512}, "stream's detail": {e.Stream.DetailedStatus, 512},
	} {
		if len(tc.text) > tc.max || len(tc.text) < tc.max-2 || !utf8.ValidString(tc.text) || strings.ContainsRune(tc.text, 0) {
			t.Errorf("%s: %d bytes %q, want at most %d of text", name, len(tc.text), tc.text[:8], tc.max)
		}
	}
}

// FuzzBuild : whatever comes, the event can be written to the database, or there is a ParseError.
func FuzzBuild(f *testing.F) {
	f.Add(exotel.KindStatus, "application/x-www-form-urlencoded", "", []byte("CallSid=c1&Status=completed&RecordingUrl="+source+"a.mp3"))
	f.Add(exotel.KindPassthru, "", "CallSid=c1&Stream[StreamSID]=s&Stream[RecordingUrl]="+source+"s.mp3", []byte{})
	f.Add(exotel.KindLeg, "application/json", "", []byte(`{"event_sid":"e","data":{"leg_sid":"c1","state":"completed"}}`))
	f.Add(exotel.KindStatus, "multipart/form-data; boundary=b", "CallSid=%zz", []byte("--b--"))
	f.Fuzz(func(t *testing.T, kind, contentType, query string, body []byte) {
		d := Delivery{Kind: kind, Source: SourceWebhook, ContentType: contentType, Query: query, Raw: body, ReceivedAt: arrived,
			Fields: exotel.Request{Method: "POST", RawQuery: query, ContentType: contentType, Body: body}}
		e, err := Build(tenant(), tenantconfig.SourcePolicy{}, d)
		if err != nil {
			var refused *exotel.ParseError
			if !errors.As(err, &refused) {
				t.Fatalf("%v is no ParseError", err)
			}
			return
		}
		for _, s := range []string{e.CallSID, e.EventType, e.ContentType, e.Query, e.Call.From, e.Call.To, e.Call.Direction, e.Call.CustomField} {
			if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
				t.Fatalf("no text: %q", s)
			}
		}
		if e.CallSID == "" || len(e.CallSID) > 64 || e.Stream != nil && (e.Stream.SID == "" || len(e.Stream.SID) > 64) || len(e.Recordings) > 2 {
			t.Fatalf("does not fit its columns: %+v", e)
		}
		for _, r := range e.Recordings {
			if (tenantconfig.SourcePolicy{Hosts: tenant().AllowedSourceHosts}).Validate(r.SourceURL) != nil {
				t.Fatalf("queued a forbidden source %q", r.SourceURL)
			}
		}
	})
}
