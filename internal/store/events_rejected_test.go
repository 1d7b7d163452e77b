package store_test

import (
	"fmt"
	"testing"

	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
)

// TestRejectedRecordingIsNotQueued checks that of two recordings of an event only the one of an allowed host is
// fetched.
func TestRejectedRecordingIsNotQueued(t *testing.T) {
	fixture := newFixture(t)
	event := newEvent(acme, "c1", "terminal", store.CallCompleted, "https://recordings.exotel.com/a.mp3")
	event.Recordings = append(event.Recordings, store.NewRecording{
		ID:        "rejected",
		SourceURL: "https://evil.example/b.mp3",
		Rejected:  "the host is not allowed",
	})
	if outcome, err := fixture.Dataplane.Ingest(t.Context(), event); err != nil || outcome != store.Applied {
		t.Fatalf("%v, %v", outcome, err)
	}
	if n := fixture.Number(t, `SELECT count(*) FROM recordings`); n != 1 {
		t.Errorf("%d recordings are queued, want 1", n)
	}
	if n := fixture.Number(t, `SELECT count(*) FROM recordings WHERE source_url LIKE '%evil%'`); n != 0 {
		t.Error("the rejected recording is queued")
	}
}

func rejectedRecording(i int) store.NewRecording {
	url := fmt.Sprintf("https://host.example/%d.mp3", i)
	id := recording.ID("c1", url)
	return store.NewRecording{ID: id, SourceURL: url, Rejected: "the host is not allowed"}
}

// TestReplayOfManyRejected replays an event that named more rejected recordings than a call may have, once their host
// is allowed: those with a place are queued, and no call comes to have more than 16.
func TestReplayOfManyRejected(t *testing.T) {
	fixture := newFixture(t)
	event := newEvent(acme, "c1", "terminal", store.CallCompleted, "")
	event.Recordings = nil
	event.Unread = []store.Unread{{Field: "RecordingUrl", Reason: "rejected"}}
	for i := range 20 {
		event.Recordings = append(event.Recordings, rejectedRecording(i))
	}
	if outcome, err := fixture.Dataplane.Ingest(t.Context(), event); err != nil || outcome != store.Applied {
		t.Fatalf("%v, %v", outcome, err)
	}
	id := int64(fixture.Number(t, `SELECT id FROM call_events`))
	for i := range event.Recordings {
		event.Recordings[i].Rejected = ""
	}
	event.Unread = nil
	if replay, err := fixture.Operator.Replay(t.Context(), id, event, false); err != nil ||
		replay.Outcome != store.Applied {
		t.Fatalf("%+v, %v", replay, err)
	}
	const want = 16
	if n := fixture.Number(t, `SELECT count(*) FROM recordings`); n != want {
		t.Errorf("%d recordings are queued, want %d", n, want)
	}
	if n := fixture.Number(t, `SELECT cardinality(recording_ids) FROM calls`); n != want {
		t.Errorf("the call has %d recordings, want %d", n, want)
	}
	n := fixture.Number(t, `SELECT count(*) FROM recordings r JOIN calls c USING (tenant, call_sid)
		WHERE r.id = ANY (c.recording_ids)`)
	if n != want {
		t.Errorf("the call has %d of the queued recordings, want all %d", n, want)
	}
}

// TestRejectedThatLostItsPlace names a recording again that was rejected and gave its place to another one. It is not
// queued: its end could not be stored together with its row in the history.
func TestRejectedThatLostItsPlace(t *testing.T) {
	fixture := newFixture(t)
	rejected := newEvent(acme, "c1", "first", store.CallCompleted, "")
	rejected.Recordings = nil
	for i := range 16 {
		rejected.Recordings = append(rejected.Recordings, rejectedRecording(i))
	}
	good := newEvent(acme, "c1", "second", store.CallCompleted, "")
	good.Recordings = []store.NewRecording{rejectedRecording(16)}
	good.Recordings[0].Rejected = ""
	again := newEvent(acme, "c1", "third", store.CallCompleted, "")
	for i := range 16 { // one of them lost its place
		newRecording := rejectedRecording(i)
		newRecording.Rejected = ""
		again.Recordings = append(again.Recordings, newRecording)
	}
	for _, e := range []store.Event{rejected, good, again} {
		if outcome, err := fixture.Dataplane.Ingest(t.Context(), e); err != nil || outcome != store.Applied {
			t.Fatalf("%v, %v", outcome, err)
		}
	}
	if n := fixture.Number(t, `SELECT count(*) FROM recordings r JOIN recording_history h USING (tenant, id)`); n != 0 {
		t.Errorf("%d recordings are in the queue and in the history", n)
	}
	if n := fixture.Number(t, `SELECT count(*) FROM recordings`); n != 1 {
		t.Errorf("%d recordings are queued, want the one that may be fetched", n)
	}
}
