package webhook_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/dataplane/server"
	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// row is an event as the database has it.
type row struct{ CallSID, DeadReason, Query, Raw, Unread string }

// database is a real store, and a look at what it holds.
func database(t *testing.T) (*store.Dataplane, func() []row) {
	t.Helper()
	pg := pgtest.New(t)
	db, err := store.OpenDataplane(t.Context(), pg.DataplaneDSN, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	conn, err := pgx.Connect(t.Context(), pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return db, func() []row {
		rows, err := conn.Query(t.Context(), `
			SELECT call_sid, coalesce(dead_reason, ''), query, convert_from(raw, 'LATIN1'),
				coalesce((SELECT string_agg(u->>'field' || ' ' || (u->>'reason'), ', ' ORDER BY u->>'field')
					FROM jsonb_array_elements(unread) u), '')
			FROM call_events ORDER BY id`)
		if err != nil {
			t.Fatal(err)
		}
		events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
		if err != nil {
			t.Fatal(err)
		}
		return events
	}
}

// TestHostileEventsAreKept verifies that each event of an authenticated sender is answered 200 and stored. It is
// applied, or has the reason why not.
func TestHostileEventsAreKept(t *testing.T) {
	const recording = "&RecordingUrl=https://recordings.exotel.com/"
	for name, body := range map[string]struct{ body, wantCall, wantReason, wantUnread string }{
		"broken escape": {"CallSid=%zz", "unknown", "missing_call_sid", ""},
		"private source": {"CallSid=c1&Status=completed&RecordingUrl=https://169.254.169.254/x", "c1", "",
			"RecordingUrl rejected"},
		"NUL in the source":       {"CallSid=c1" + recording + "%00.mp3", "c1", "", "RecordingUrl malformed"},
		"source that is not text": {"CallSid=c1" + recording + "%FF.mp3", "c1", "", "RecordingUrl malformed"},
		"no number as a duration": {"CallSid=c1&ConversationDuration=NaN", "c1", "", "ConversationDuration malformed"},
		"endless duration": {"CallSid=c1&ConversationDuration=Infinity", "c1", "",
			"ConversationDuration malformed"},
		"fields that are not text": {"CallSid=c1&From=%00%FF&To=%FE&CustomField=%C3%28&EventType=%FF", "c1", "",
			"CustomField malformed, EventType malformed, From malformed, To malformed"},
		"times without end": {"CallSid=c1&StartTime=9999-12-31+23:59:59&EndTime=2024-01-15T14:25:10%2B24:00",
			"c1", "", "EndTime malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			db, events := database(t)
			srv := newServer(t, db)
			for range 2 { // the second is a duplicate
				if status, answer, _ := do(
					t, "POST", srv.URL+statusPath, sign(signingSecret, body.body), body.body,
				); status != 200 {
					t.Fatalf("answered %d %s", status, answer)
				}
			}
			if d := cmp.Diff([]row{{body.wantCall, body.wantReason, "", body.body, body.wantUnread}},
				events()); d != "" {
				t.Errorf("events (-want +got):\n%s", d)
			}
		})
	}
}

// TestSeventeenthRecording checks that the event of a call's 17th recording is applied without it.
func TestSeventeenthRecording(t *testing.T) {
	db, events := database(t)
	handler := newHandler(t, db, 0)
	for i := range 17 {
		body := fmt.Sprintf("CallSid=c1&RecordingUrl=https://recordings.exotel.com/%d.mp3", i)
		if recorder := post(handler, statusPath, sign(signingSecret, body), body); recorder.Code != http.StatusOK {
			t.Fatalf("recording %d: answered %d %s", i, recorder.Code, recorder.Body)
		}
	}
	if got := events(); len(got) != 17 || got[15].DeadReason != "" || got[16].DeadReason != "" ||
		got[16].Unread != "RecordingUrl too_many_recordings" {
		t.Errorf("events: %+v", got)
	}
}

// TestSenderHangsUp verifies that the event of a sender that disconnects before its answer is stored.
func TestSenderHangsUp(t *testing.T) {
	db, events := database(t)
	handler := newHandler(t, db, 0)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		<-r.Context().Done() // the sender has hung up
		r.Body = io.NopCloser(bytes.NewReader(body))
		handler.ServeHTTP(w, r)
	}))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(
		conn,
		"POST %s HTTP/1.1\r\nHost: x\r\nX-Exotel-Signature: %s\r\nContent-Type: "+
			"application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
		statusPath, sign(signingSecret, statusBody), len(statusBody), statusBody,
	)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	eventually.Within(10*time.Second).Holds(t, "the event is stored", func() bool { return len(events()) > 0 })
}

// TestSecretsLeaveNoTrace verifies that secrets of a query are neither in the row nor in the log.
func TestSecretsLeaveNoTrace(t *testing.T) {
	db, events := database(t)
	var logged bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	handler := server.Middleware(handlerWith(t, webhook.Options{Store: db, Log: log}), log)
	const query = "CallSid=c1&token=topsecret1&Token=topsecret2&API_KEY=topsecret3&password=topsecret4" +
		"&Signature=topsecret5&Status=completed"
	for _, key := range []string{signingSecret, "a wrong one, topsecret6"} {
		req := httptest.NewRequest(http.MethodGet, "/webhooks/exotel/acme/support/passthru?"+query, nil)
		req.Header.Set("X-Exotel-Signature", sign(key, query))
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, req)
		if strings.Contains(recorder.Body.String(), "topsecret") {
			t.Errorf("answered %s", recorder.Body)
		}
	}
	got := events()
	if len(got) != 1 || strings.Contains(fmt.Sprint(got), "topsecret") ||
		!strings.Contains(got[0].Query, "CallSid=c1") {
		t.Errorf("kept: %+v", got)
	}
	if s := logged.String(); strings.Contains(s, "topsecret") || !strings.Contains(s, "wrong_signature") {
		t.Errorf("logged: %s", s)
	}
}
