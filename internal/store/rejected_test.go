package store_test

import (
	"testing"

	"github.com/caly-dev/caly/internal/store"
)

// TestRejectedRecordingIsNotQueued checks that of two recordings of an event only the one of an allowed host is
// fetched.
func TestRejectedRecordingIsNotQueued(t *testing.T) {
	f := newFixture(t)
	e := newEvent(acme, "c1", "terminal", store.CallCompleted, "https://recordings.exotel.com/a.mp3")
	e.Recordings = append(e.Recordings, store.NewRecording{
		ID: "rejected", SourceURL: "https://evil.example/b.mp3", Rejected: "the host is not allowed"})
	if outcome, err := f.dataplane.Ingest(t.Context(), e); err != nil || outcome != store.Applied {
		t.Fatalf("%v, %v", outcome, err)
	}
	if n := f.one(t, `SELECT count(*) FROM recordings`); n != 1 {
		t.Errorf("%d recordings are queued, want 1", n)
	}
	if n := f.one(t, `SELECT count(*) FROM recordings WHERE source_url LIKE '%evil%'`); n != 0 {
		t.Error("the rejected recording is queued")
	}
}
