package webhook_test

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// TestSeveralEvents sends lists of events to the real handler and database: each event has a row with its own part of
// the body, however often the list comes.
func TestSeveralEvents(t *testing.T) {
	_, db, look := realStore(t)
	handler := handlerWith(t, webhook.Options{Store: db})
	const list = `[{"CallSid":"c1","Status":"busy"},{"CallSid":"c2","Status":"failed","StartTime":"soon"},` +
		`{"CallSid":"c1","Status":"completed","EventType":"terminal"},{"Status":"busy"}]`
	for range 2 {
		if recorder := post(handler, statusPath, sign(signingSecret, list), list); recorder.Code != http.StatusOK {
			t.Fatalf("answered %d %s", recorder.Code, recorder.Body)
		}
	}
	got := look(`SELECT string_agg(concat_ws(' ', call_sid, dead_reason, convert_from(raw, 'UTF8')), E'\n'
		ORDER BY call_sid, raw)
		FROM call_events`)
	want := strings.Join([]string{`c1 {"CallSid":"c1","Status":"busy"}`,
		`c1 {"CallSid":"c1","Status":"completed","EventType":"terminal"}`,
		`c2 {"CallSid":"c2","Status":"failed","StartTime":"soon"}`,
		`unknown missing_call_sid {"Status":"busy"}`}, "\n")
	if d := gocmp.Diff(want, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	got = look(`SELECT string_agg(call_sid || ' ' || state, ' ' ORDER BY call_sid) FROM calls`)
	if got != "c1 4 c2 7" {
		t.Errorf("calls %s", got)
	}
}

// TestWholeLists stores a list that cannot be separated as one dead event, with all of its text, and applies nothing.
func TestWholeLists(t *testing.T) {
	const event = `{"CallSid":"c1","Status":"busy"}`
	for name, tc := range map[string]struct{ query, body string }{
		"more than 64 events": {"", "[" + strings.Repeat(event+",", 64) + event + "]"},
		"one that is cut":     {"", "[" + event + `,{"CallSid":"c2","Sta`},
		"text after it":       {"", "[" + event + "," + event + "]x"},
		"next to a call":      {"?CallSid=c3", "[" + event + "," + event + ",]"},
	} {
		t.Run(name, func(t *testing.T) {
			_, db, look := realStore(t)
			handler := handlerWith(t, webhook.Options{Store: db})
			if recorder := post(
				handler, statusPath+tc.query, sign(signingSecret, tc.body), tc.body,
			); recorder.Code != http.StatusOK {
				t.Fatalf("answered %d %s", recorder.Code, recorder.Body)
			}
			got := look(`SELECT string_agg(concat_ws(' ', call_sid, dead_reason, convert_from(raw, 'UTF8')), E'\n')
				FROM call_events`)
			if d := gocmp.Diff("unknown malformed_body "+tc.body, got); d != "" {
				t.Errorf("events (-want +got):\n%s", d)
			}
			if got := look(`SELECT count(*)::text FROM calls`); got != "0" {
				t.Errorf("%s calls", got)
			}
		})
	}
}

// TestListsOfOthers sends lists to the path without a tenant. Each event must lead to the tenant that has signed the
// list. Otherwise nothing is applied: an event of another tenant would be stored under this one.
func TestListsOfOthers(t *testing.T) {
	const acme, acmeNumber = `{"CallSid":"c1","AccountSid":"acme1"}`, `{"CallSid":"c2","To":"08047491899"}`
	const globex, globexCare = `{"CallSid":"c3","AccountSid":"globex1","To":"08047490001"}`,
		`{"CallSid":"c4","AccountSid":"globex1","To":"08047490002"}`
	const nameless, stranger = `{"CallSid":"c5"}`, `{"CallSid":"c5","AccountSid":"x"}`
	const globexKey = "a signing secret of globex"
	payload := func(text string) string { return "payload=" + url.QueryEscape(text) }
	list := func(events ...string) string { return "[" + strings.Join(events, ",") + "]" }
	dead := func(tenant string, events ...string) []string {
		return []string{tenant + " unknown malformed_body " + list(events...)}
	}
	for name, tc := range map[string]struct {
		path, query, body, key string
		wantCode               int
		want                   []string // tenant, call, reason, text
	}{
		"of one tenant": {
			body: list(acme, acmeNumber),
			want: []string{"acme/support c1  " + acme,
				"acme/support c2  " + acmeNumber},
		},
		"of two accounts":             {body: list(acme, globex), want: dead("acme/support", acme, globex)},
		"of two, signed by the other": {body: list(globex, acme), wantCode: 401},
		"of two of one account": {
			body: list(globex, globexCare),
			key:  globexKey,
			want: dead("globex/sales", globex, globexCare),
		},
		"of nobody":       {body: list(acme, stranger), want: dead("acme/support", acme, stranger)},
		"without a claim": {body: list(acme, nameless), want: dead("acme/support", acme, nameless)},
		"first without":   {body: list(nameless, acme), wantCode: 401},
		"account in the query": {
			query: "AccountSid=acme1",
			body:  list(nameless),
			want:  []string{"acme/support c5  " + list(nameless)},
		},
		"accounts of the query": {
			query: "AccountSid=acme1",
			body:  list(nameless, acme),
			want:  []string{"acme/support c5  " + nameless, "acme/support c1  " + acme},
		},
		"call in an unsigned query": {
			query: "AccountSid=acme1&CallSid=c6",
			body:  payload(list(acme, globex)),
			want:  []string{"acme/support unknown malformed_body " + payload(list(acme, globex))},
		},
		"payload": {body: payload(acme), want: []string{"acme/support c1  " + payload(acme)}},
		"the tenant's own path": {
			path: "acme/support/",
			body: list(acme, globex),
			want: []string{"acme/support c1  " + acme, "acme/support c3  " + globex},
		},
		"one, its own path":       {path: "acme/support/", body: globex, want: []string{"acme/support c3  " + globex}},
		"another tenant's secret": {body: list(acme, acmeNumber), key: globexKey, wantCode: 401},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{outcome: store.Applied}
			handler := handlerWith(t, webhook.Options{Tenants: routed, Store: f})
			path := webhook.PathPrefix + tc.path + "status?" + tc.query
			key := cmp.Or(tc.key, signingSecret)
			recorder := post(handler, path, sign(key, tc.body), tc.body)
			if recorder.Code != cmp.Or(tc.wantCode, http.StatusOK) {
				t.Fatalf("answered %d %s", recorder.Code, recorder.Body)
			}
			var got []string
			for _, e := range f.got {
				got = append(got, e.Tenant+" "+e.CallSID+" "+e.DeadReason+" "+string(e.Raw))
			}
			if d := gocmp.Diff(tc.want, got); d != "" {
				t.Errorf("events (-want +got):\n%s", d)
			}
		})
	}
}

// TestListWithoutTenantConfigs asks the sender to retry while the pod lacks tenant configs: one of them may have the
// tenant of an event.
func TestListWithoutTenantConfigs(t *testing.T) {
	acme, _ := routed().Tenant("acme/support")
	handler := handlerWith(t, webhook.Options{
		Store: &fake{outcome: store.Applied},
		Tenants: func() *tenantconfig.Snapshot {
			return tenantconfig.NewIncompleteSnapshot(acme)
		},
	})
	for body, want := range map[string]int{
		`[{"CallSid":"c1","AccountSid":"acme1"},{"AccountSid":"acme1"}]`:   http.StatusOK,
		`[{"CallSid":"c1","AccountSid":"acme1"},{"AccountSid":"globex1"}]`: http.StatusServiceUnavailable,
	} {
		if recorder := post(
			handler, webhook.PathPrefix+"status", sign(signingSecret, body), body,
		); recorder.Code != want {
			t.Errorf("%s: answered %d %s, want %d", body, recorder.Code, recorder.Body, want)
		}
	}
}

// failing fails to store a call's events until it is told not to.
type failing struct {
	webhook.Ingester
	call string
	stop atomic.Bool
}

func (f *failing) IngestBatch(ctx context.Context, events []store.Event) ([]store.Outcome, error) {
	for i := range events {
		if events[i].CallSID == f.call && !f.stop.Load() {
			return nil, errors.New("the connection is lost")
		}
	}
	return f.Ingester.IngestBatch(ctx, events)
}

// TestSeveralEventsOrRetry answers 200 only after every event of a list is stored. The sender's retry adds what is
// missing.
func TestSeveralEventsOrRetry(t *testing.T) {
	_, db, look := realStore(t)
	f := &failing{Ingester: db, call: "c2"}
	handler := handlerWith(t, webhook.Options{Store: f})
	const list = `[{"CallSid":"c1","Status":"busy"},{"CallSid":"c2","Status":"busy"},{"CallSid":"c3","Status":"busy"}]`
	if recorder := post(
		handler, statusPath, sign(signingSecret, list), list,
	); recorder.Code != http.StatusServiceUnavailable {
		t.Fatalf("answered %d %s", recorder.Code, recorder.Body)
	}
	f.stop.Store(true)
	if recorder := post(handler, statusPath, sign(signingSecret, list), list); recorder.Code != http.StatusOK {
		t.Fatalf("answered %d %s", recorder.Code, recorder.Body)
	}
	if got := look(`SELECT string_agg(call_sid, ' ' ORDER BY call_sid) FROM call_events`); got != "c1 c2 c3" {
		t.Errorf("events of %s", got)
	}
}
