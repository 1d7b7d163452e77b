package ingest

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

var received = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// kept is the event as the store would keep it.
func kept(e store.Event) store.KeptEvent {
	return store.KeptEvent{
		Tenant:      e.Tenant,
		CallSID:     e.CallSID,
		Kind:        e.Kind,
		EventType:   e.EventType,
		Source:      e.Source,
		Reason:      e.DeadReason,
		ReceivedAt:  received,
		ContentType: e.ContentType,
		Query:       e.Query,
		CoversQuery: e.CoversQuery,
		CoversBody:  e.CoversBody,
		Size:        len(e.Raw),
		Raw:         e.Raw,
	}
}

// TestAgain builds deliveries that are dead at first, and then again, by what the tenant says then.
func TestAgain(t *testing.T) {
	const form, found = "application/x-www-form-urlencoded", "https://media.example.com/c1.mp3"
	terminal := "CallSid=c1&EventType=terminal&Status=completed&DateUpdated=2026-03-01+17%3A20%3A00&RecordingUrl=" + url.QueryEscape(
		found,
	)
	old := strings.Replace(terminal, "2026-03", "2025-03", 1)
	rec := []store.NewRecording{{ID: recording.ID("c1", found), SourceURL: found}}
	body := func(s string) Delivery {
		return Delivery{
			Kind:        exotel.KindStatus,
			ContentType: form,
			Raw:         []byte(s),
			Fields:      exotel.Request{ContentType: form, Body: []byte(s)},
		}
	}
	query := func(read, kept string) Delivery {
		return Delivery{Kind: exotel.KindPassthru, Query: kept, Fields: exotel.Request{RawQuery: read}}
	}
	brokenJSON := Delivery{
		Kind:        exotel.KindStatus,
		ContentType: "application/json",
		Raw:         []byte("{"),
		Fields:      exotel.Request{ContentType: "application/json", Body: []byte("{")},
	}
	long := terminal + "&x=" + strings.Repeat("y", maxQuery)
	uncovered := body(terminal)
	uncovered.Query = "To=forged&Stream[RecordingUrl]=https%3A%2F%2Fevil.example.com%2Fx"
	refused := func(host string) []store.NewRecording {
		return []store.NewRecording{{
			ID:        rec[0].ID,
			SourceURL: found,
			Rejected: "the source host " + host +
				" is not one that the Tenant allows: add it to spec.recordings.allowedSourceHosts",
		}}
	}("media.example.com")
	note := func(reason string) []store.Unread { return []store.Unread{{Field: "(query)", Reason: reason}} }
	for name, tc := range map[string]struct {
		delivery    Delivery
		hosts       []string // that are allowed by then
		reason      string   // for which an earlier version stored it as dead
		first, want string
		wantRecs    []store.NewRecording
		wantUnread  []store.Unread
	}{
		"host allowed by now": {delivery: body(terminal), hosts: []string{"media.example.com"}, wantRecs: rec},
		"host still rejected": {
			delivery:   body(terminal),
			hosts:      []string{"other.example.com"},
			wantRecs:   refused,
			wantUnread: []store.Unread{rejection},
		},
		"dead for its source": {
			delivery: body(terminal),
			hosts:    []string{"media.example.com"},
			reason:   "source_refused",
			wantRecs: rec,
		},
		"too old when it came": {
			delivery: body(old),
			hosts:    []string{"media.example.com"},
			first:    reason.DeadStale,
			wantRecs: rec,
		},
		"query": {
			delivery: query(terminal, terminal+"&token=redacted"),
			hosts: []string{
				"media.example.com"},
			wantRecs: rec,
		},
		"query that was not verified": {
			delivery: uncovered,
			hosts:    []string{"media.example.com", "evil.example.com"},
			wantRecs: rec,
		},
		"still not readable": {delivery: brokenJSON, first: "malformed_body", want: "malformed_body"},
		"query stored in part": {
			delivery:   query(terminal+"&x=%zz", terminal),
			hosts:      []string{"media.example.com"},
			reason:     "malformed_query",
			wantRecs:   rec,
			wantUnread: note("malformed"),
		},
		"long query": {
			delivery:   query(long, long),
			hosts:      []string{"media.example.com"},
			wantRecs:   rec,
			wantUnread: note("too_large"),
		},
		"query of one long pair": {
			delivery: query("x="+strings.Repeat("y", maxQuery), "x="+strings.Repeat("y",
				maxQuery)),
			first:      "missing_call_sid",
			want:       "missing_call_sid",
			wantUnread: note("too_large"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := &tenantconfig.Tenant{
				ID:                 "acme/support",
				AccountSID:         "acme1",
				TimeZone:           "Asia/Kolkata",
				Freshness:          time.Hour,
				AllowedSourceHosts: []string{"recordings.exotel.com"},
			}
			tc.delivery.Source = SourceWebhook
			tc.delivery.ReceivedAt = received
			first := Build(tenant, recording.SourcePolicy{}, tc.delivery)
			if first.DeadReason != tc.first {
				t.Fatalf("at first it is dead for %q; want %q", first.DeadReason, tc.first)
			}
			tenant.AllowedSourceHosts = tc.hosts
			k := kept(first)
			if tc.reason != "" {
				k.Reason = tc.reason
			}
			event, err := Again(tenant, recording.SourcePolicy{}, k)
			if err != nil || event.DeadReason != tc.want || event.Tenant != tenant.ID {
				t.Fatalf("again it is dead for %q, %v; want %q", event.DeadReason, err, tc.want)
			}
			for i := range event.Recordings {
				event.Recordings[i].AvailableAt = time.Time{}
			}
			if d := cmp.Diff(tc.wantRecs, event.Recordings); d != "" {
				t.Errorf("recordings (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tc.wantUnread, event.Unread); d != "" {
				t.Errorf("unread fields (-want +got):\n%s", d)
			}
			if tc.want == "" && event.Call.State != store.CallCompleted {
				t.Errorf("it is another event: %+v, at first %+v", event, first)
			}
			if tenant.Freshness != time.Hour {
				t.Error("the tenant was changed")
			}
		})
	}
}

// TestAgainOfBackfill checks that an event from Call Details is not read as a webhook.
func TestAgainOfBackfill(t *testing.T) {
	const record = `{"Sid":"c1","AccountSid":"acme1","Status":"completed","StartTime":"2026-03-01 17:00:00","EndTime":"2026-03-01 17:20:00",
		"RecordingUrl":"https://media.example.com/c1.mp3"}`
	k := store.KeptEvent{
		Tenant:     "acme/support",
		CallSID:    "c1",
		Kind:       exotel.KindStatus,
		Source:     SourceBackfill,
		Reason:     "source_refused",
		ReceivedAt: received,
		CoversBody: true,
		Raw:        []byte(record),
	}
	tenant := &tenantconfig.Tenant{
		ID:                 "acme/support",
		AccountSID:         "acme1",
		TimeZone:           "Asia/Kolkata",
		AllowedSourceHosts: []string{"media.example.com"},
	}
	event, err := Again(tenant, recording.SourcePolicy{}, k)
	if err != nil || event.DeadReason != "" || len(event.Recordings) != 1 || event.Call.State != store.CallCompleted ||
		event.Call.EndedAt.IsZero() ||
		event.Source != SourceBackfill {
		t.Errorf("%+v, %v", event, err)
	}
	for name, raw := range map[string]string{
		"another account's": strings.Replace(record, "acme1", "other1", 1),
		"no JSON":           "CallSid=c1",
	} {
		k.Raw = []byte(raw)
		if event, err := Again(tenant, recording.SourcePolicy{}, k); err == nil {
			t.Errorf("%s: %+v", name, event)
		}
	}
}

// TestAgainOfAList leaves a stored list of events as it is, whether it is dead or an earlier version applied its first
// event: one row has one event.
func TestAgainOfAList(t *testing.T) {
	const list = `[{"CallSid":"c1","Status":"busy"},{"CallSid":"c2","Status":"failed"}]`
	for name, raw := range map[string]string{
		"a list":              list,
		"a list in a payload": "payload=" + url.QueryEscape(list),
	} {
		for _, reason := range []string{"malformed_body", ""} {
			event, err := Again(tenant(), recording.SourcePolicy{}, store.KeptEvent{
				Tenant:     "acme/support",
				CallSID:    "c1",
				Kind:       exotel.KindStatus,
				Source:     SourceWebhook,
				Reason:     reason,
				CoversBody: true,
				Raw:        []byte(raw),
			})
			if err == nil || !strings.Contains(err.Error(), "list of events") {
				t.Errorf("%s, dead for %q: %+v, %v", name, reason, event, err)
			}
		}
	}
}
