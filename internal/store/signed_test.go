package store_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
)

// TestSignedBytesOfSeveralKinds checks that signed bytes are one event of a tenant, alone and in a batch, and those
// of repeats too.
func TestSignedBytesOfSeveralKinds(t *testing.T) {
	f := newFixture(t)
	event := func(tenant, kind string, digest byte) store.Event {
		e := newEvent(tenant, "c1", kind, store.CallCompleted, "")
		e.Kind = kind
		if digest != 0 {
			e.SignedDigest = slices.Repeat([]byte{digest}, 32)
		}
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
		{[]store.Event{event(acme, "status", 2)}, []store.Outcome{store.Duplicate}},
		{[]store.Event{event(acme, "passthru", 2)}, []store.Outcome{store.Replayed}},
		{[]store.Event{event(acme, "leg", 2), event(acme, "status", 1), event(globex, "status", 3), event(globex, "leg", 3)},
			[]store.Outcome{store.Replayed, store.Duplicate, 0, 0}},
		{[]store.Event{event(acme, "passthru", 0), event(acme, "leg", 0)}, []store.Outcome{store.Applied, store.Applied}},
	} {
		got, err := f.dataplane.IngestBatch(t.Context(), tc.events)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 4 { // either of the two may be the first
			if !slices.Contains(got[2:], store.Applied) || !slices.Contains(got[2:], store.Replayed) {
				t.Errorf("step %d: equal bytes in one batch are %v", i, got[2:])
			}
			got[2], got[3] = 0, 0
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
	if n := f.one(t, `SELECT count(*) FROM call_events`); n != 5 {
		t.Errorf("%d events, want 5", n)
	}
}

// TestIngestOfPreviousVersion checks that pods of the previous version, whose statement has no digest, still store
// events.
func TestIngestOfPreviousVersion(t *testing.T) {
	f := newFixture(t)
	empty := strings.Repeat(", '{}'", 12)
	statement := `SELECT (caly_ingest_batch('{` + acme +
		`}', '{c1}', '{status}', '{}'::text[] || ''::text, ARRAY[sha256('k')], ARRAY[sha256('c')],
		'{webhook}', '{""}', '{""}', ARRAY[''::bytea], '{""}', '{0}', '{4}', '{""}', '{""}', '{""}', ARRAY[NULL::timestamptz],
		ARRAY[NULL::timestamptz], '{0}', '{""}'` + empty + `))[1]`
	for i, want := range []int{1, 2} {
		if got := f.one(t, statement); got != want {
			t.Errorf("delivery %d: outcome %d, want %d", i, got, want)
		}
	}
}
