package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/store"
)

// TestSeveralEvents sends lists of events to the real handler and database: each event has a row with its own part of
// the body, however often the list comes.
func TestSeveralEvents(t *testing.T) {
	_, db, look := realStore(t)
	h := handlerWith(t, webhook.Options{Store: db})
	const list = `[{"CallSid":"c1","Status":"busy"},{"CallSid":"c2","Status":"failed","StartTime":"soon"},` +
		`{"CallSid":"c1","Status":"completed","EventType":"terminal"},{"Status":"busy"}]`
	for range 2 {
		if w := post(h, statusPath, sign(signingSecret, list), list); w.Code != http.StatusOK {
			t.Fatalf("answered %d %s", w.Code, w.Body)
		}
	}
	got := look(`SELECT string_agg(concat_ws(' ', call_sid, dead_reason, convert_from(raw, 'UTF8')), E'\n'
		ORDER BY call_sid, raw)
		FROM call_events`)
	want := strings.Join([]string{`c1 {"CallSid":"c1","Status":"busy"}`,
		`c1 {"CallSid":"c1","Status":"completed","EventType":"terminal"}`,
		`c2 {"CallSid":"c2","Status":"failed","StartTime":"soon"}`,
		`unknown missing_call_sid {"Status":"busy"}`}, "\n")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	got = look(`SELECT string_agg(call_sid || ' ' || state, ' ' ORDER BY call_sid) FROM calls`)
	if got != "c1 4 c2 7" {
		t.Errorf("calls %s", got)
	}
}

// TestManyEvents stores what follows the 64th event of a list as one event, which is partial.
func TestManyEvents(t *testing.T) {
	_, db, look := realStore(t)
	h := handlerWith(t, webhook.Options{Store: db})
	events := make([]string, 70)
	for i := range events {
		events[i] = fmt.Sprintf(`{"CallSid":"c%02d","Status":"busy"}`, i)
	}
	list := "[" + strings.Join(events, ",") + "]"
	if w := post(h, statusPath, sign(signingSecret, list), list); w.Code != http.StatusOK {
		t.Fatalf("answered %d %s", w.Code, w.Body)
	}
	if got := look(`SELECT count(*)::text FROM call_events WHERE dead_reason IS NULL`); got != "65" {
		t.Errorf("%s events, want 65", got)
	}
	got := look(`SELECT concat_ws(' ', call_sid, unread #>> '{0,field}', unread #>> '{0,reason}', length(raw))
		FROM call_events WHERE unread IS NOT NULL`)
	if want := fmt.Sprintf("c64 (body) too_large %d", len("[")+6*len(events[0])+len(",,,,,]")); got != want {
		t.Errorf("the rest is %q, want %q", got, want)
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
	h := handlerWith(t, webhook.Options{Store: f})
	const list = `[{"CallSid":"c1","Status":"busy"},{"CallSid":"c2","Status":"busy"},{"CallSid":"c3","Status":"busy"}]`
	if w := post(h, statusPath, sign(signingSecret, list), list); w.Code != http.StatusServiceUnavailable {
		t.Fatalf("answered %d %s", w.Code, w.Body)
	}
	f.stop.Store(true)
	if w := post(h, statusPath, sign(signingSecret, list), list); w.Code != http.StatusOK {
		t.Fatalf("answered %d %s", w.Code, w.Body)
	}
	if got := look(`SELECT string_agg(call_sid, ' ' ORDER BY call_sid) FROM call_events`); got != "c1 c2 c3" {
		t.Errorf("events of %s", got)
	}
}
