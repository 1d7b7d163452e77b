package store_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
)

// TestOneKeyOfSeveralKinds checks that a key is one event of a tenant, and that another kind under it is a replay,
// alone and in a batch.
func TestOneKeyOfSeveralKinds(t *testing.T) {
	fixture := newFixture(t)
	event := func(tenant, kind string, key byte) store.Event {
		e := newEvent(tenant, "c1", kind, store.CallCompleted, "")
		e.Kind = kind
		e.DedupKey = [32]byte{key}
		return e
	}
	for i, tc := range []struct {
		events []store.Event
		want   []store.Outcome
	}{
		{[]store.Event{event(acme, "status", 1)}, []store.Outcome{store.Applied}},
		{[]store.Event{event(acme, "status", 1)}, []store.Outcome{store.Duplicate}},
		{[]store.Event{event(acme, "passthru", 1)}, []store.Outcome{store.Replayed}},
		{[]store.Event{event(globex, "passthru", 1)}, []store.Outcome{store.Applied}},
		{
			[]store.Event{event(acme, "leg", 1), event(acme, "status", 1), event(acme, "leg", 2), event(acme, "leg", 2),
				event(acme, "status", 2)},
			[]store.Outcome{store.Replayed, store.Replayed, store.Applied, store.Duplicate, store.Replayed},
		},
	} {
		got, err := fixture.Dataplane.IngestBatch(t.Context(), tc.events)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
	if n := fixture.Number(t, `SELECT count(*) FROM call_events`); n != 3 {
		t.Errorf("%d events, want 3", n)
	}
}

// TestIngestOfPreviousVersion checks that pods of the previous version, whose statement has a digest of the content and
// one of signed bytes, still store events.
func TestIngestOfPreviousVersion(t *testing.T) {
	fixture := newFixture(t)
	empty := strings.Repeat(", '{}'", 12)
	statement := func(kind, key string) string {
		return `SELECT (caly_ingest_batch('{` + acme + `}', '{c1}', '{` + kind + `}', '{}'::text[] || ''::text,
			ARRAY[sha256('` + key + `')], ARRAY[sha256('c')],
			'{webhook}', '{""}', '{""}', ARRAY[''::bytea], '{""}', '{0}', '{4}', '{""}', '{""}', '{""}', 
			ARRAY[NULL::timestamptz], ARRAY[NULL::timestamptz], '{0}', '{""}'` + empty + `, ARRAY[sha256('signed')]))[1]`
	}
	for i, step := range []struct {
		kind, key string
		want      int
	}{{"status", "k", 1}, {"status", "k", 2}, {"passthru", "l", 5}} {
		if got := fixture.Number(t, statement(step.kind, step.key)); got != step.want {
			t.Errorf("delivery %d: outcome %d, want %d", i, got, step.want)
		}
	}
}
