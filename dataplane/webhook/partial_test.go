package webhook_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/ingest"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// looked is what is stored of one call: its state, numbers, custom field and times, the recordings, and the notes of
// its
// events.
const looked = `
	SELECT coalesce((SELECT concat_ws(' ', c.state, nullif(c.direction, ''), nullif(c.from_number, ''),
				nullif(c.to_number, ''), nullif(c.custom_field, ''),
				to_char(c.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), nullif(c.conversation_seconds, 0),
				nullif('rec ' || c.recording_seconds, 'rec 0'))
			FROM calls c WHERE c.call_sid = $call), 'no call')
		|| coalesce((SELECT E'\nqueued ' || string_agg(source_url, ' ' ORDER BY source_url)
			FROM recordings WHERE call_sid = $call), '')
		|| coalesce((SELECT E'\nfailed ' || string_agg(source_url || ': ' || last_error_code, ' ' ORDER BY source_url)
			FROM recording_history WHERE call_sid = $call), '')
		|| coalesce((SELECT E'\nwithout ' || string_agg(concat_ws(' ', u->>'field', u->>'reason', u->>'value'), ', '
				ORDER BY u->>'field')
			FROM call_events e, jsonb_array_elements(e.unread) u WHERE e.call_sid = $call), '')
		|| coalesce((SELECT E'\ndead ' || string_agg(dead_reason, ' ')
			FROM call_events WHERE call_sid = $call AND dead_reason IS NOT NULL), '')`

// tokenTenant is found by its account or number on the path without a tenant.
func tokenTenant() *tenantconfig.Tenant {
	return &tenantconfig.Tenant{
		ID:                 "acme/support",
		AccountSID:         "acme1",
		PhoneNumbers:       []string{"+918000000100"},
		TimeZone:           "Asia/Kolkata",
		AllowedSourceHosts: tenantconfig.DefaultSourceHosts,
		Webhooks: &tenantconfig.Webhooks{
			Token: &tenantconfig.Token{Secrets: []secret.Sensitive{"a token of acme"}}},
	}
}

const (
	tokenPair  = "token=a%20token%20of%20acme"
	inForm     = "application/x-www-form-urlencoded"
	inJSON     = "application/json"
	recordings = "https://recordings.exotel.com/x/"
)

// TestPartialEvents sends what products and clients really send to the real handler and database.
func TestPartialEvents(t *testing.T) {
	pg, db, look := realStore(t)
	registry := prometheus.NewRegistry()
	all := tenantconfig.NewSnapshot(tokenTenant())
	handler := handlerWith(t, webhook.Options{
		Store:   db,
		Metrics: registry,
		Tenants: func() *tenantconfig.Snapshot { return all },
	})
	for call, tc := range map[string]struct{ path, query, contentType, body, want string }{
		// A field that cannot be read.
		"c109": {
			path: "acme/support/passthru",
			query: "CallSid=c109&CustomField=50%+off&CallType=completed&" +
				"RecordingUrl=https%3A%2F%2Frecordings.exotel.com%2Fx%2Fc109.mp3",
			want: "4\nqueued " + recordings + "c109.mp3\nwithout CustomField malformed",
		},
		"c110": {
			path:        "acme/support/status",
			contentType: inForm,
			body:        "CallSid=c110&CustomField=a;b&EventType=terminal&Status=completed",
			want:        "4\nwithout CustomField malformed",
		},
		"c111": {
			path:  "passthru",
			query: "CallSid=c111&CallTo=0918000000100&CustomField=50%+off&CallStatus=busy",
			want:  "5 0918000000100\nwithout CustomField malformed",
		},
		"c112": {
			path:        "status",
			contentType: inForm,
			body:        "CallSid=c112&AccountSid=acme1&CustomField=a;b&Status=no-answer",
			want:        "6\nwithout CustomField malformed",
		},
		"c113": {
			path:        "acme/support/status",
			contentType: inJSON,
			body:        `{"CallSid":"c113","Status":"failed","X":[[[[[[[[1]]]]]]]],"To":"` + strings.Repeat("1", 200) + `"}`,
			want:        "7\nwithout To too_large, X[0][0][0][0][0][0] too_large",
		},
		"c114": {
			path:        "acme/support/status",
			contentType: inJSON,
			body:        `{"CallSid":"c114","Status":"canceled","CustomField":"cut`,
			want:        "8\nwithout (body) malformed",
		},
		"c115": {
			path:        "acme/support/leg",
			contentType: inJSON,
			body:        `{"event_name":"leg_answered","data":{"leg_sid":"c115"}}`,
			want:        "3\nwithout event_sid malformed",
		},
		// A recording that is rejected, or none.
		"c120": {
			path:        "acme/support/status",
			contentType: inForm,
			body:        "CallSid=c120&EventType=terminal&Status=completed&RecordingUrl=None",
			want:        "4",
		},
		"c121": {
			path:        "acme/support/status",
			contentType: inForm,
			body:        "CallSid=c121&EventType=terminal&Status=completed&RecordingUrl=N/A",
			want:        "4",
		},
		"c122": {
			path:        "acme/support/status",
			contentType: inForm,
			body:        "CallSid=c122&EventType=terminal&Status=completed&RecordingUrl=false",
			want:        "4",
		},
		"c123": {
			path:        "acme/support/status",
			contentType: inForm,
			body:        "CallSid=c123&Status=completed&RecordingUrl=http://recordings.exotel.in/x/c123.mp3",
			want:        "4\nqueued https://recordings.exotel.in/x/c123.mp3",
		},
		"c124": {
			path:        "acme/support/status",
			contentType: inForm,
			body: "CallSid=c124&Status=completed&" +
				"RecordingUrl=https://exotelrecordings.s3.ap-south-1.amazonaws.com/x/c124.mp3",
			want: "4\nqueued https://exotelrecordings.s3.ap-south-1.amazonaws.com/x/c124.mp3",
		},
		"c125": {
			path:        "acme/support/status",
			contentType: inForm,
			body: "CallSid=c125&Status=completed&" +
				"RecordingUrl=https://u:secret@evil.s3.ap-south-1.amazonaws.com/x.mp3?X-Amz-Signature=1",
			want: "4\nfailed https://evil.s3.ap-south-1.amazonaws.com/x.mp3: source_rejected\nwithout " +
				"RecordingUrl rejected",
		},
		"c126": {
			path:        "acme/support/status",
			contentType: inForm,
			body: "CallSid=c126&Status=completed&RecordingUrl=http://169.254.169.254/x&Legs[0][RecordingUrl]=" +
				recordings + "l.mp3",
			want: "4\nqueued " + recordings +
				"l.mp3\nfailed http://169.254.169.254/x: source_rejected\nwithout RecordingUrl rejected",
		},
		// Spellings of other products.
		"c106": {
			path:        "acme/support/status",
			contentType: inJSON,
			body: `{"CallSid":"c106","FromNumber":"+919800000001","Direction":"outbound","CallState":"terminal",` +
				`"CallStatus":"to_leg_unanswered","CallRecordings":"https://recordings.exotel.com/x/c106.mp3"}`,
			want: "6 outbound-api +919800000001\nqueued " + recordings + "c106.mp3",
		},
		"c107": {
			path:        "acme/support/status",
			contentType: inJSON,
			body: `{"call_details":{"sid":"c107","state":"terminal","status":"completed","total_talk_time":7},` +
				`"event_details":{"event_type":"terminal"}}`,
			want: "4 7",
		},
		"c130": {
			path:        "status",
			contentType: inJSON,
			body:        `{"call_details":{"sid":"c130","virtual_number":"918000000100","status":"from_leg_cancelled"}}`,
			want:        "8",
		},
		"c131": {
			path:        "acme/support/status",
			contentType: inForm,
			body:        "CallSid=c131&EventType=terminal&Status=no_answer&StartTime=Wed,+23+Feb+2022+12:37:25",
			want:        "6 2022-02-23 07:07:25",
		},
		"c132": {
			path:        "acme/support/status",
			contentType: inForm,
			body:        "CallSid=c132&EventType=terminal&Status=teleported&RecordingDuration=61",
			want:        "4 rec 61\nwithout Status unknown_value teleported",
		},
		"c133": {
			path:        "acme/support/status",
			contentType: inForm,
			body:        "callsid=c133&status=BUSY&direction=sideways",
			want:        "5\nwithout Direction unknown_value sideways",
		},
	} {
		t.Run(call, func(t *testing.T) {
			method := http.MethodPost
			if tc.body == "" {
				method = http.MethodGet
			}
			for range 2 { // the second is a duplicate
				req := httptest.NewRequest(method, "/webhooks/exotel/"+tc.path+"?"+tc.query+"&"+tokenPair,
					strings.NewReader(tc.body))
				req.Header.Set("Content-Type", tc.contentType)
				recorder := httptest.NewRecorder()
				handler.ServeHTTP(recorder, req)
				if recorder.Code != http.StatusOK {
					t.Fatalf("answered %d %s", recorder.Code, recorder.Body)
				}
			}
			if diff := cmp.Diff(tc.want, look(strings.ReplaceAll(looked, "$call", "'"+call+"'"))); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
		})
	}
	if n := look(`SELECT count(*)::text FROM call_events WHERE query LIKE '%50\%+off%'`); n != "2" {
		t.Errorf("%s queries are stored with the field that cannot be read, want 2", n)
	}
	if n := look(`SELECT count(*)::text FROM recording_history WHERE source_url LIKE '%secret%' OR last_error ` +
		`LIKE '%secret%'`); n != "0" {
		t.Error("credentials of a rejected URL are stored with the recording")
	}
	for _, want := range [][2]string{{"CustomField", "malformed"}, {"Status", "unknown_value"}, {"RecordingUrl",
		"rejected"}, {"other", "too_large"}} {
		if unreadCount(t, registry, want[0], want[1]) == 0 {
			t.Errorf("%v is not counted", want)
		}
	}
	oper, err := store.OpenOperator(t.Context(), pg.OperatorDSN, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer oper.Close()
	list, err := oper.Events(t.Context(), store.EventFilter{Which: store.PartialEvents, Reason: "unknown_value"})
	if err != nil || len(list) != 2 {
		t.Errorf("%d events have unknown values (%v), want 2", len(list), err)
	}
	if n, err := oper.PartialEvents(t.Context(), []string{"acme/support", "globex/sales"}, time.Now().Add(-time.Hour),
		9); err != nil || n["acme/support"] != 9 || n["globex/sales"] != 0 {
		t.Errorf("partial events: %v, %v", n, err)
	}
}

// unreadCount returns how often a field was left out for a reason.
func unreadCount(t *testing.T, registry *prometheus.Registry, field, reason string) (n float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "caly_webhook_unread_fields_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == field && m.GetLabel()[1].GetValue() == reason {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// TestReplayOfPartialEvents checks that a stored event is read again by what the reader and the tenant know by then.
func TestReplayOfPartialEvents(t *testing.T) {
	pg, db, look := realStore(t)
	tenant := tokenTenant()
	all := tenantconfig.NewSnapshot(tenant)
	handler := handlerWith(t, webhook.Options{Store: db, Tenants: func() *tenantconfig.Snapshot { return all }})
	for _, body := range []string{"CallSid=c1&Status=completed&RecordingUrl=https://media.example.com/c1.mp3",
		"Status=completed&AccountSid=acme1"} {
		req := httptest.NewRequest(http.MethodPost, "/webhooks/exotel/status?AccountSid=acme1&"+tokenPair,
			strings.NewReader(body))
		req.Header.Set("Content-Type", inForm)
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, req)
		if recorder.Code != http.StatusOK {
			t.Fatalf("answered %d %s", recorder.Code, recorder.Body)
		}
	}
	if got := look(`SELECT string_agg(call_sid || ' ' || coalesce(dead_reason, 'applied'), ', ' ORDER BY id) ` +
		`FROM call_events`); got != "c1 applied, unknown missing_call_sid" {
		t.Fatal(got)
	}
	oper, err := store.OpenOperator(t.Context(), pg.OperatorDSN, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer oper.Close()
	// What a newer reader finds in the second one.
	look(`WITH u AS (UPDATE call_events SET raw = convert_to('CallSid=c2&Status=completed', 'UTF8') WHERE ` +
		`call_sid = 'unknown' RETURNING 1) SELECT count(*)::text FROM u`)
	tenant.AllowedSourceHosts = []string{"media.example.com"}
	for range 2 {
		for _, which := range []store.Which{store.PartialEvents, store.DeadEvents} {
			list, err := oper.Events(t.Context(), store.EventFilter{Which: which})
			if err != nil {
				t.Fatal(err)
			}
			for _, listed := range list {
				kept, err := oper.Event(t.Context(), listed.ID)
				if err != nil {
					t.Fatal(err)
				}
				event, err := ingest.Again(tenant, recording.SourcePolicy{}, kept)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := oper.Replay(t.Context(), listed.ID, event, false); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	want := "c1 applied -, c2 applied -"
	if got := look(`SELECT string_agg(call_sid || ' ' || coalesce(dead_reason, 'applied') || ' ' || ` +
		`coalesce(unread::text, '-'), ', ' ORDER BY id) FROM call_events`); got != want {
		t.Errorf("events: %s, want %s", got, want)
	}
	if got := look(`SELECT (SELECT string_agg(source_url, ' ') FROM recordings) || ' ' || (SELECT count(*) FROM ` +
		`recording_history)`); got != "https://media.example.com/c1.mp3 0" {
		t.Errorf("recordings: %s", got)
	}
	if got := look(`SELECT string_agg(call_sid || state, ' ' ORDER BY call_sid) FROM calls`); got != "c14 c24" {
		t.Errorf("calls: %s", got)
	}
}
