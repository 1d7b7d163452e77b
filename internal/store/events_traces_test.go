package store_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// span returns a traceparent whose ids consist of one digit.
func span(digit string) string {
	return "00-" + strings.Repeat(digit, 32) + "-" + strings.Repeat(digit, 16) + "-01"
}

// TestTracesOfRecordings checks which recordings have the span of the event that names them.
func TestTracesOfRecordings(t *testing.T) {
	db := storetest.New(t)
	event := func(tenant, call, traceparent string, urls ...string) store.Event {
		e := store.Event{
			Tenant:      tenant,
			Kind:        "status",
			CallSID:     call,
			Source:      "webhook",
			DedupKey:    [32]byte([]byte(tenant + call + strings.Repeat(" ", 32))[:32]),
			Traceparent: traceparent,
		}
		for _, u := range urls {
			r := store.NewRecording{SourceURL: u, ID: recording.ID(call, u)}
			if strings.HasPrefix(u, "ftp:") {
				r.Rejected = "no https"
			}
			e.Recordings = append(e.Recordings, r)
		}
		return e
	}
	ingest := func(events ...store.Event) {
		t.Helper()
		if _, err := db.Dataplane.IngestBatch(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	again := event("acme/support", "c1", span("9"), "https://x/1")
	again.DedupKey[31] = 1 // another event that names the same recording
	ingest(
		event("acme/support", "c1", span("1"), "https://x/1", "https://x/2", "ftp://x/3"),
		event("acme/support", "c2", "", "https://x/1"),
		event("globex/sales", "c1", span("2"), "https://x/1"),
		event("globex/sales", "c3", span("3")),
	)
	ingest(again)
	ingest(event("acme/support", "c2", span("9"), "https://x/1")) // a duplicate
	key := func(tenant, call, u string) store.RecordingKey {
		return store.RecordingKey{Tenant: tenant, ID: recording.ID(call, u)}
	}
	want := map[store.RecordingKey]string{
		key("acme/support", "c1", "https://x/1"): span("1"),
		key("acme/support", "c1", "https://x/2"): span("1"),
		key("acme/support", "c1", "ftp://x/3"):   "", // failed at once
		key("acme/support", "c2", "https://x/1"): "",
		key("globex/sales", "c1", "https://x/1"): span("2"),
	}
	keys := make([]store.RecordingKey, 0, len(want))
	for k := range want {
		keys = append(keys, k)
	}
	found, err := db.Operator.Recordings(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	got := map[store.RecordingKey]string{}
	for k, r := range found {
		got[k] = r.Traceparent
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the spans of recordings (-want +got):\n%s", diff)
	}
	claimed, err := storetest.OpenUpload(t, db.Operator, "acme/support").Claim(t.Context(), "pod", 10, 60e9)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range claimed {
		if want := want[store.RecordingKey{Tenant: r.Tenant, ID: r.ID}]; r.Traceparent != want {
			t.Errorf("an upload pod gets the recording %s with the span %q, want %q", r.ID, r.Traceparent, want)
		}
	}
	if len(claimed) != 3 {
		t.Errorf("claimed are %d recordings, want 3", len(claimed))
	}
}

// TestTraceRejected checks that an event and its recordings are applied without a trace that PostgreSQL rejects.
func TestTraceRejected(t *testing.T) {
	db := storetest.New(t)
	ingest := func(call, traceparent string) {
		t.Helper()
		e := store.Event{
			Tenant:      "acme/support",
			Kind:        "status",
			CallSID:     call,
			Source:      "webhook",
			Traceparent: traceparent,
		}
		e.DedupKey = [32]byte([]byte(call + strings.Repeat(" ", 32))[:32])
		e.Recordings = []store.NewRecording{{SourceURL: "https://x/1", ID: recording.ID(call, "https://x/1")}}
		outcomes, err := db.Dataplane.IngestBatch(t.Context(), []store.Event{e})
		if diff := cmp.Diff([]store.Outcome{store.Applied}, outcomes); diff != "" || err != nil {
			t.Errorf("the outcome with the span %q: %v (-want +got):\n%s", traceparent, err, diff)
		}
		key := store.RecordingKey{Tenant: e.Tenant, ID: e.Recordings[0].ID}
		found, err := db.Operator.Recordings(t.Context(), []store.RecordingKey{key})
		if got, ok := found[key]; err != nil || !ok || got.Traceparent != "" {
			t.Errorf("the recording with the span %q: found is %t, %q, %v", traceparent, ok, got.Traceparent, err)
		}
	}
	ingest("c1", "x")
	ingest("c2", span("1")+"-more")
	ingest("c3", span("1")[:53]+"00")
	ingest("c4", strings.Repeat("0", 1000))
	db.Exec(t, "REVOKE EXECUTE ON FUNCTION caly_add_traces FROM caly_dataplane")
	ingest("c5", span("1"))
	db.Exec(t, "DROP FUNCTION caly_add_traces")
	ingest("c6", span("1"))
}
