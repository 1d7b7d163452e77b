package store_test

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/outcome"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// oldIngest is the statement of pods of the previous version, which say a state and not of whom.
func (f *fixture) oldIngest(t *testing.T, sid, word string, state store.CallState, seconds int) {
	t.Helper()
	key := sha256.Sum256([]byte(sid + word))
	got := pgtest.Value[[]int16](
		t, f.Server,
		`SELECT caly_ingest_batch(ARRAY[$1], ARRAY[$2], '{status}', '{""}', ARRAY[$3::bytea],
		'{webhook}', '{""}', '{""}', '{""}', '{""}', '{0}',
		ARRAY[$4::smallint], '{inbound}', '{0987}', '{0912}', '{NULL}', '{NULL}', ARRAY[$5::integer], '{""}', '{}',
			'{}', '{}', '{}',
		'{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')`,
		acme, sid, key[:], int16(state), seconds,
	)
	if len(got) != 1 || got[0] != 1 {
		t.Fatalf("outcomes %v", got)
	}
}

// TestOldWeight verifies that the database reads the state of an older version as package outcome does.
func TestOldWeight(t *testing.T) {
	fixture := newFixture(t)
	for state := range outcome.Canceled + 1 {
		for _, seconds := range []int{0, 40} {
			got := pgtest.Value[int64](t, fixture.Server, `SELECT caly_old_weight($1, $2)`, int16(state), seconds)
			if want := outcome.Old(state, seconds > 0); outcome.Weight(got) != want {
				t.Errorf("state %s with %d s of talk weighs %d, want %d", state, seconds, got, want)
			}
		}
	}
}

// TestRowsOfOlderVersions verifies that a state that an older version stored yields to an event that knows more.
func TestRowsOfOlderVersions(t *testing.T) {
	terminal := func(sid string, s store.CallState) store.Event {
		event := newEvent(acme, sid, "terminal", s, "")
		event.SaidAt = time.Unix(1_790_000_000, 0)
		return event
	}
	dial := func(sid string, s store.CallState, seconds int) store.Event {
		event := newEvent(acme, sid, "dial", store.CallUnknown, "")
		event.Legs = []store.Leg{{Kind: store.LegDial, Key: "dial:7/1", State: s, Called: true, Seconds: seconds}}
		return event
	}
	for name, tc := range map[string]struct {
		stored  store.CallState
		seconds int
		then    func(sid string) store.Event
		want    store.CallState
	}{
		"busy for ever, and then Call Details": {store.CallBusy, 0,
			func(sid string) store.Event { return terminal(sid, store.CallCompleted) }, store.CallCompleted},
		"no-answer for ever, and then talk": {store.CallNoAnswer, 0,
			func(sid string) store.Event { return dial(sid, store.CallCompleted, 40) }, store.CallCompleted},
		"no-answer that has talk": {store.CallNoAnswer, 40,
			func(sid string) store.Event { return dial(sid, store.CallBusy, 0) }, store.CallCompleted},
		"completed, and then a late dial": {store.CallCompleted, 0,
			func(sid string) store.Event { return dial(sid, store.CallNoAnswer, 0) }, store.CallCompleted},
		"completed, and then a late answered": {store.CallCompleted, 0,
			func(sid string) store.Event { return terminal(sid, store.CallInProgress) }, store.CallCompleted},
		"in progress, and then an unanswered one": {store.CallInProgress, 0,
			func(sid string) store.Event { return dial(sid, store.CallNoAnswer, 0) }, store.CallNoAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			fixture := newFixture(t)
			fixture.Exec(t, fmt.Sprintf(`INSERT INTO calls (tenant, call_sid, state, conversation_seconds) VALUES
				('%s', 'row', %d, %d)`, acme, tc.stored, tc.seconds))
			fixture.oldIngest(t, "sent", "first", tc.stored, tc.seconds)
			for _, sid := range []string{"row", "sent"} {
				fixture.ingest(t, tc.then(sid))
				if got := fixture.Number(t, `SELECT state FROM calls WHERE call_sid = $1`, sid); got != int(tc.want) {
					t.Errorf("%s: the state is %d, want %d", sid, got, tc.want)
				}
			}
			// An old pod that comes last changes nothing that is known better.
			fixture.oldIngest(t, "row", "last", store.CallFailed, 0)
			if got := fixture.Number(
				t, `SELECT state FROM calls WHERE call_sid = 'row'`,
			); tc.want == store.CallCompleted &&
				tc.stored != store.CallCompleted &&
				got != int(tc.want) {
				t.Errorf("after an old pod's event the state is %d, want %d", got, tc.want)
			}
		})
	}
}

// TestLegsAreKept verifies that each leg has an entry, and that the weightier of two reports of a leg stays.
func TestLegsAreKept(t *testing.T) {
	fixture := newFixture(t)
	at := time.Date(2026, 10, 1, 4, 30, 0, 0, time.UTC)
	event := func(word string, legs ...store.Leg) store.Event {
		e := newEvent(acme, "c1", word, store.CallUnknown, "")
		e.Legs = legs
		return e
	}
	first := store.Leg{
		Kind:   store.LegDial,
		Key:    "dial:7/1",
		Number: "0911",
		State:  store.CallNoAnswer,
		Called: true,
		At:     at,
	}
	answered := store.Leg{
		Kind:    store.LegDial,
		Key:     "dial:8/1",
		Number:  "0912",
		State:   store.CallCompleted,
		Called:  true,
		Seconds: 40,
		At:      at.Add(time.Minute),
	}
	agent := store.Leg{Kind: store.LegAgent, Key: "agent:a", Agent: "a@acme.example", Presence: store.PresenceBusy}
	free := agent
	free.Presence = store.PresenceFree
	ringing := first
	ringing.State = store.CallRinging
	fixture.ingest(t, event("a", free, first), event("b", agent), event("c", ringing, answered))
	facts, err := fixture.Operator.CallFacts(t.Context(), acme, "c1")
	if err != nil {
		t.Fatal(err)
	}
	want := store.CallFacts{Outcome: store.CallCompleted, Legs: []store.Leg{free, first, answered}}
	if d := cmp.Diff(want, facts, cmpopts.EquateApproxTime(0)); d != "" {
		t.Errorf("facts (-want +got):\n%s", d)
	}
	if facts, err = fixture.Operator.CallFacts(t.Context(), acme, "nobody"); err != nil ||
		facts.Outcome != store.CallUnknown ||
		facts.Legs != nil {
		t.Errorf("an unknown call has %+v, %v", facts, err)
	}
}

// TestLegsAreBounded verifies that a sender that invents legs fills a call with 64 of them. The order of events does
// not matter.
func TestLegsAreBounded(t *testing.T) {
	fixture := newFixture(t)
	events := func(sid string, order func(int) int) (list []store.Event) {
		for i := range 10 {
			event := newEvent(acme, sid, fmt.Sprint(i), store.CallUnknown, "")
			for j := range 16 {
				event.Legs = append(event.Legs, store.Leg{
					Kind:   store.LegDial,
					Key:    fmt.Sprintf("dial:%03d", 16*order(i)+j),
					Called: true,
					State:  store.CallBusy,
				})
			}
			list = append(list, event)
		}
		return list
	}
	fixture.ingest(t, events("up", func(i int) int { return i })...)
	fixture.ingest(t, events("down", func(i int) int { return 9 - i })[:5]...)
	fixture.ingest(t, events("down", func(i int) int { return 9 - i })[5:]...)
	if n := fixture.Number(
		t, `SELECT count(*)::int FROM calls, jsonb_object_keys(legs) WHERE call_sid = 'up'`,
	); n != 64 {
		t.Errorf("%d legs, want 64", n)
	}
	if n := fixture.Number(t, `SELECT count(DISTINCT legs)::int FROM calls`); n != 1 {
		t.Error("the order of events decides which legs stay")
	}
}

// TestStreamOrder verifies which of two statements on a stream stays: its end, then the later one, then the more exact
// one.
func TestStreamOrder(t *testing.T) {
	said := func(status, by string, at int64) store.Event {
		event := newEvent(acme, "c", status+by+fmt.Sprint(at), store.CallUnknown, "")
		event.Stream = &store.Stream{SID: "s", Status: status, DisconnectedBy: by, Seconds: int(at)}
		if at > 0 {
			event.SaidAt = time.Unix(1_790_000_000+at, 0)
		}
		return event
	}
	fixture := newFixture(t)
	n := 0
	for name, tc := range map[string]struct {
		events []store.Event
		want   string
	}{
		"a start after the end": {[]store.Event{said("completed", "bot", 1), said("started", "", 5)},
			"completed bot 5"},
		"a word that nobody knows": {[]store.Event{said("cancelled", "user", 1), said("zombie", "", 5)},
			"cancelled user 5"},
		"the later of two ends": {[]store.Event{said("failed", "NA", 1), said("completed", "bot", 5)},
			"completed bot 5"},
		"the more exact of two ends": {[]store.Event{said("completed", "user", 0), said("failed", "NA", 0)},
			"failed NA 0"},
		"a block stays in one piece": {[]store.Event{said("completed", "user", 2), said("completed", "", 3)},
			"completed  3"},
		"an end over one without time": {[]store.Event{said("cancelled", "user", 0), said("completed", "bot", 1)},
			"completed bot 1"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, turned := range []bool{false, true} {
				for _, together := range []bool{false, true} {
					a := tc.events[0]
					b := tc.events[1]
					n++
					for _, e := range []*store.Event{&a, &b} {
						e.CallSID = fmt.Sprint("c", n)
						e.DedupKey = sha256.Sum256([]byte(e.CallSID + e.EventType))
					}
					if turned {
						a, b = b, a
					}
					if together {
						fixture.ingest(t, a, b)
					} else {
						fixture.ingest(t, a)
						fixture.ingest(t, b)
					}
					got := pgtest.Value[string](t, fixture.Server, `SELECT concat_ws(' ', status, disconnected_by,
						duration_seconds) FROM call_streams WHERE call_sid = $1`, a.CallSID)
					if got != tc.want {
						t.Errorf("turned %v, together %v: %q, want %q", turned, together, got, tc.want)
					}
				}
			}
		})
	}
}
