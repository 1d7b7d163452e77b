package store_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
)

// histories is how many calls the property is tried on, each in two orders.
const histories = 2000

// events draws what Exotel might say of one call: fields missing, contradicting each other, times in any order.
func events(r *rapid.T) []store.Event {
	word := func(name string, of ...string) string { return rapid.SampledFrom(append(of, "")).Draw(r, name) }
	at := func(name string) time.Time {
		if n := rapid.IntRange(0, 5).Draw(r, name); n > 0 {
			return time.Unix(1_790_000_000+int64(n), 0).UTC()
		}
		return time.Time{}
	}
	list := make([]store.Event, rapid.IntRange(1, 6).Draw(r, "events"))
	for i := range list {
		event := store.Event{
			Tenant:    acme,
			Kind:      "status",
			EventType: fmt.Sprint("e", i),
			Source:    "webhook",
			Raw:       []byte("raw"),
		}
		event.Call = store.Call{
			State:               store.CallState(rapid.IntRange(0, 8).Draw(r, "state")),
			Direction:           word("direction", "inbound", "outbound-api"),
			From:                word("from", "0987", "+9198", "sip:a"),
			To:                  word("to", "0912", "0913"),
			StartedAt:           at("started"),
			EndedAt:             at("ended"),
			ConversationSeconds: rapid.IntRange(0, 3).Draw(r, "seconds"),
			CustomField:         word("custom", "a", "b", "ä, {}"),
		}
		if u := word("recording", "a.mp3", "b.mp3"); u != "" {
			event.Recordings = []store.NewRecording{{SourceURL: "https://recordings.exotel.com/x/" + u}}
		}
		if sid := word("stream", "s1", "s2"); sid != "" {
			event.Stream = &store.Stream{
				SID:            sid,
				Status:         word("status", "completed", "failed"),
				Seconds:        rapid.IntRange(0, 9).Draw(r, "length"),
				DisconnectedBy: word("by", "user", "bot"),
			}
		}
		list[i] = event
	}
	return list
}

// of makes the events those of one call.
func of(list []store.Event, sid string) []store.Event {
	list = slices.Clone(list)
	for i := range list {
		event := &list[i]
		event.CallSID, event.DedupKey = sid, sha256.Sum256([]byte(sid+event.EventType))
		event.Recordings = slices.Clone(event.Recordings)
		for j := range event.Recordings {
			event.Recordings[j].ID = recording.ID(sid, event.Recordings[j].SourceURL)
		}
	}
	return list
}

// TestOrderDoesNotMatter verifies that the events of a call lead to the same rows in any order, with repetitions and in
// any batches.
func TestOrderDoesNotMatter(t *testing.T) {
	fixture := newFixture(t)
	admin, err := pgxpool.New(t.Context(), fixture.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	n := 0
	check := func(r *rapid.T) {
		n++
		one := fmt.Sprint("one", n)
		other := fmt.Sprint("other", n)
		history := events(r)
		for _, e := range of(history, one) {
			if _, err := fixture.Dataplane.Ingest(t.Context(), e); err != nil {
				r.Fatal(err)
			}
		}
		shuffled := rapid.Permutation(
			append(slices.Clone(history), rapid.SliceOfN(rapid.SampledFrom(history), 0, 4).Draw(r, "again")...),
		).Draw(r, "order")
		for rest := of(shuffled, other); len(rest) > 0; {
			size := rapid.IntRange(1, len(rest)).Draw(r, "batch")
			if _, err := fixture.Dataplane.IngestBatch(t.Context(), rest[:size]); err != nil {
				r.Fatal(err)
			}
			rest = rest[size:]
		}
		if diff := cmp.Diff(rowsOf(r, admin, one), rowsOf(r, admin, other)); diff != "" {
			r.Fatalf("rows after %v and after %v differ:\n%s", history, shuffled, diff)
		}
	}
	for n < histories {
		rapid.Check(t, check)
		if t.Failed() {
			return
		}
	}
}

// rowsOf is all that is kept of a call, but for times of our own.
func rowsOf(t interface{ Fatal(...any) }, db *pgxpool.Pool, sid string) (rows []string) {
	for _, sql := range []string{
		`SELECT (state, direction, from_number, to_number, started_at, ended_at, conversation_seconds, ` +
			`custom_field)::text FROM calls WHERE call_sid = $1`,
		`SELECT (stream_sid, status, duration_seconds, disconnected_by)::text FROM call_streams WHERE call_sid = $1
			ORDER BY stream_sid`,
		`SELECT source_url FROM recordings WHERE call_sid = $1 ORDER BY source_url`,
		`SELECT event_type FROM call_events WHERE call_sid = $1 ORDER BY event_type`,
	} {
		var list []string
		err := db.QueryRow(
			context.Background(), `SELECT coalesce(array_agg(x), '{}') FROM (`+sql+`) q(x)`, sid,
		).Scan(&list)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, list...)
	}
	return rows
}

func TestTerminalGivesWayToNothingEarlier(t *testing.T) {
	call := func(s store.CallState, from, custom string) store.Event {
		return store.Event{
			Tenant:    acme,
			CallSID:   "c",
			Kind:      "status",
			EventType: fmt.Sprint(s, from, custom),
			Source:    "webhook",
			DedupKey:  sha256.Sum256([]byte(fmt.Sprint(s, from, custom))),
			Call:      store.Call{State: s, From: from, CustomField: custom},
		}
	}
	for name, tc := range map[string]struct {
		events []store.Event
		want   string
	}{
		"late answered": {
			[]store.Event{call(store.CallCompleted, "0987", ""), call(store.CallInProgress, "9999", "")},
			"(4,0987,\"\")",
		},
		"late answered fills": {
			[]store.Event{call(store.CallCompleted, "0987", ""), call(store.CallInProgress, "9999", "x")},
			"(4,0987,x)",
		},
		"terminal corrects": {
			[]store.Event{call(store.CallInProgress, "9999", "x"), call(store.CallCompleted, "0987", "")},
			"(4,0987,x)",
		},
		"unknown status": {
			[]store.Event{call(store.CallUnknown, "0987", "x"), call(store.CallUnknown, "", "")},
			"(0,0987,x)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			fixture := newFixture(t)
			for _, e := range tc.events {
				if _, err := fixture.Dataplane.Ingest(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			if n := fixture.Number(
				t, `SELECT count(*)::int FROM calls WHERE (state, from_number, custom_field)::text = $1`, tc.want,
			); n != 1 {
				t.Errorf("the call is not %s", tc.want)
			}
		})
	}
}
