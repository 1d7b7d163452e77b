package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
)

// capture begins one, and returns it.
func (f *fixture) capture(t *testing.T, tenant, id, pod string) store.Capture {
	t.Helper()
	c := store.Capture{
		CaptureRef: store.CaptureRef{Tenant: tenant, ID: id},
		Session:    store.NewID(),
		CallSID:    "c1",
		Pod:        pod,
		Bucket:     "b",
		Key:        tenant + "/" + id + ".wav",
		CreatedAt:  time.Now().Add(-time.Minute).Round(time.Microsecond),
	}
	for range 2 { // a repeat is harmless
		if err := f.Dataplane.BeginCapture(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// TestCaptureLife verifies that a capture belongs to its pod until it ends once. It is a recording of its call all the
// time.
func TestCaptureLife(t *testing.T) {
	fixture := newFixture(t)
	capture := fixture.capture(t, acme, "00000000000000a1", "pod")
	fixture.Exec(t, `INSERT INTO calls (tenant, call_sid) VALUES ($1, 'c1')`, acme)
	seen := func(want store.Recording) {
		t.Helper()
		want.Tenant = acme
		want.ID = capture.ID
		want.CallSID = "c1"
		want.Bucket = "b"
		want.Key = capture.Key
		want.Captured = true
		ignored := cmpopts.IgnoreFields(
			store.Recording{}, "CreatedAt", "FinishedAt", "AvailableAt", "UploadStarted", "HasCallRecording",
		)
		got, err := fixture.Dataplane.RecordingByID(t.Context(), acme, capture.ID)
		if diff := cmp.Diff(want, got, ignored); err != nil || diff != "" {
			t.Errorf("by its id: %v (-want +got):\n%s", err, diff)
		}
		list, _, err := fixture.Dataplane.ListRecordings(t.Context(), acme, store.RecordingFilter{
			State:   want.State,
			CallSID: "c1",
		})
		if diff := cmp.Diff([]store.Recording{want}, list, ignored); err != nil || diff != "" {
			t.Errorf("listed: %v (-want +got):\n%s", err, diff)
		}
		call, err := fixture.Dataplane.CallBySID(t.Context(), acme, "c1")
		if diff := cmp.Diff([]store.Recording{want}, call.Recordings, ignored); err != nil || diff != "" {
			t.Errorf("with its call: %v (-want +got):\n%s", err, diff)
		}
		if _, err := fixture.Dataplane.RecordingByID(t.Context(), globex, capture.ID); !errors.Is(
			err, store.ErrNotFound,
		) {
			t.Errorf("another tenant: %v", err)
		}
	}
	seen(store.Recording{State: store.StateLeased})
	if err := fixture.Dataplane.SetCaptureUpload(t.Context(), capture.CaptureRef, "pod", "upload"); err != nil {
		t.Error(err)
	}
	capture.UploadID = "upload"
	got, err := fixture.Dataplane.OpenCapture(t.Context(), capture.CaptureRef, "pod")
	if diff := cmp.Diff(capture, got, cmpopts.EquateApproxTime(time.Millisecond)); err != nil || diff != "" {
		t.Errorf("opened: %v (-want +got):\n%s", err, diff)
	}
	for name, err := range map[string]error{
		"an upload of another pod": fixture.Dataplane.SetCaptureUpload(t.Context(), capture.CaptureRef, "other", "x"),
		"an end by another pod": fixture.Dataplane.FinishCapture(t.Context(), capture.CaptureRef, "other",
			store.CaptureEnd{Failed: true}),
	} {
		if !errors.Is(err, store.ErrLeaseLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	end := store.CaptureEnd{
		Size:    48,
		SHA256:  strings.Repeat("a", 64),
		Code:    "SpoolFull",
		Message: strings.Repeat("x", 2000),
	}
	if err := fixture.Dataplane.FinishCapture(t.Context(), capture.CaptureRef, "pod", end); err != nil {
		t.Fatal(err)
	}
	seen(store.Recording{
		State:         store.StateUploaded,
		Size:          48,
		SHA256:        end.SHA256,
		LastErrorCode: "SpoolFull",
		LastError:     strings.Repeat("x", 996) + " ...",
	})
	if err := fixture.Dataplane.FinishCapture(t.Context(), capture.CaptureRef, "pod", end); !errors.Is(
		err, store.ErrLeaseLost,
	) {
		t.Errorf("a second end: %v", err)
	}
	if _, err := fixture.Dataplane.OpenCapture(t.Context(), capture.CaptureRef, "pod"); !errors.Is(
		err, store.ErrNotFound,
	) {
		t.Errorf("opened after its end: %v", err)
	}
}

// TestCaptureRetry verifies that a capture cannot be retried in any state, because it has no source to fetch it from
// again.
func TestCaptureRetry(t *testing.T) {
	fixture := newFixture(t)
	capture := fixture.capture(t, acme, "00000000000000a1", "pod")
	refused := store.Capture{
		CaptureRef: store.CaptureRef{Tenant: acme, ID: "00000000000000a2"},
		Session:    store.NewID(),
		Pod:        "pod",
		CreatedAt:  time.Now(),
	}
	if err := fixture.Dataplane.RefuseCapture(t.Context(), refused, "NoRoom", "no room"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{capture.ID, refused.ID} {
		if err := fixture.Operator.Retry(t.Context(), acme, id); !errors.Is(err, store.ErrCapture) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if err := fixture.Operator.Retry(t.Context(), globex, capture.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another tenant's: %v", err)
	}
	if n := fixture.Number(t, `SELECT count(*)::int FROM recordings`); n != 0 {
		t.Errorf("%d are in the queue", n)
	}
	for age, want := range map[string]bool{"1 minute": true, "3 minutes": false} {
		fixture.Exec(t, `UPDATE captures SET last_seen_at = now() - $1::interval`, age)
		if live, err := fixture.Operator.HasLiveCaptures(t.Context(), acme); live != want || err != nil {
			t.Errorf("heard of %s ago: %v, %v", age, live, err)
		}
		if live, err := fixture.Operator.HasLiveCaptures(t.Context(), globex); live || err != nil {
			t.Errorf("another tenant: %v, %v", live, err)
		}
	}
	for tenant, want := range map[string]bool{acme: true, globex: false} {
		if has, err := fixture.Operator.HasUploads(t.Context(), tenant); has != want || err != nil {
			t.Errorf("%s has uploads: %v, %v", tenant, has, err)
		}
	}
	if err := fixture.Operator.DeleteTenant(t.Context(), acme); err != nil ||
		fixture.Number(t, `SELECT count(*)::int FROM captures`) != 0 {
		t.Errorf("a deleted tenant's are there still, %v", err)
	}
}

// TestClaimCaptures checks that another pod gets a silent capture, once, and does not get one with heartbeats.
func TestClaimCaptures(t *testing.T) {
	fixture := newFixture(t)
	gone := fixture.capture(t, acme, "00000000000000a1", "gone")
	alive := fixture.capture(t, acme, "00000000000000a2", "pod")
	foreign := fixture.capture(t, globex, "00000000000000a1", "gone")
	fixture.Exec(t, `UPDATE captures SET last_seen_at = now() - interval '91 s'`)
	held, err := fixture.Dataplane.HeartbeatCaptures(
		t.Context(), "pod",
		[]store.CaptureRef{alive.CaptureRef, gone.CaptureRef, {
			Tenant: acme,
			ID:     "00000000000000ff",
		}},
	)
	if diff := cmp.Diff(map[store.CaptureRef]bool{alive.CaptureRef: true}, held); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for i, tc := range []struct {
		tenants []string
		limit   int
		want    []store.CaptureRef
	}{
		{nil, 10, nil},
		{[]string{acme}, 0, nil},
		{[]string{acme}, 10, []store.CaptureRef{gone.CaptureRef}},
		{[]string{acme, globex}, 10, []store.CaptureRef{foreign.CaptureRef}},
		{[]string{acme, globex}, 10, nil}} {
		list, err := fixture.Dataplane.ClaimCaptures(t.Context(), tc.tenants, "other", 90*time.Second, tc.limit)
		var got []store.CaptureRef
		for _, c := range list {
			got = append(got, c.CaptureRef)
			if c.Pod != "other" || c.Bucket != "b" {
				t.Errorf("claimed %+v", c)
			}
		}
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("step %d: %v (-want +got):\n%s", i, err, diff)
		}
	}
	if err := fixture.Dataplane.ReleaseCaptures(
		t.Context(), "pod", []store.CaptureRef{alive.CaptureRef, gone.CaptureRef},
	); err != nil {
		t.Fatal(err)
	}
	list, err := fixture.Dataplane.ClaimCaptures(t.Context(), []string{acme}, "other", 90*time.Second, 10)
	if err != nil || len(list) != 1 || list[0].CaptureRef != alive.CaptureRef {
		t.Errorf("after a release: %+v, %v", list, err)
	}
	if held, err := fixture.Dataplane.HeartbeatCaptures(t.Context(), "pod", nil); err != nil || len(held) != 0 {
		t.Errorf("none: %v, %v", held, err)
	}
}

// TestSweepCaptures verifies that a capture that no pod can complete fails with a reason.
func TestSweepCaptures(t *testing.T) {
	fixture := newFixture(t)
	old := fixture.capture(t, acme, "00000000000000a1", "gone")
	released := fixture.capture(t, acme, "00000000000000a2", "gone")
	fresh := fixture.capture(t, acme, "00000000000000a3", "pod")
	fixture.Exec(
		t,
		`UPDATE captures SET last_seen_at = now() - interval '25 hours', created_at = now() - interval '25 hours'
			WHERE id = $1`,
		old.ID,
	)
	fixture.Exec(t, `UPDATE captures SET last_seen_at = 'epoch' WHERE id = $1`, released.ID)
	if n, err := fixture.Operator.SweepCaptures(t.Context(), 24*time.Hour, 10); n != 1 || err != nil {
		t.Errorf("%d were swept, %v", n, err)
	}
	for id, want := range map[string]store.RecordingState{
		old.ID:      store.StateFailed,
		released.ID: store.StateLeased,
		fresh.ID:    store.StateLeased,
	} {
		recording, err := fixture.Dataplane.RecordingByID(t.Context(), acme, id)
		if err != nil || recording.State != want ||
			(want == store.StateFailed) != (recording.LastErrorCode == reason.Abandoned) {
			t.Errorf("%s: %+v, %v", id, recording, err)
		}
	}
	if _, err := fixture.Dataplane.ClaimCaptures(t.Context(), []string{"no tenant"}, "pod", 0, 1); err == nil {
		t.Error("an invalid tenant id was accepted")
	}
}

// TestLostCaptures checks that a captured stream that ends as an orphan before its capture has a row gets a failed
// one, in every way to end. Other ends write no row, and an existing row stays.
func TestLostCaptures(t *testing.T) {
	const id = "00000000000000a1"
	end := func(reason string) func(*fixture, store.StreamRef) error {
		return func(f *fixture, ref store.StreamRef) error {
			_, err := f.Dataplane.EndStreams(t.Context(), []store.StreamEnd{{StreamRef: ref, Reason: reason}})
			return err
		}
	}
	reap := func(f *fixture, _ store.StreamRef) error {
		_, _, err := f.Dataplane.ReapStreams(t.Context(), []string{acme}, 45*time.Second, 10)
		return err
	}
	for name, tc := range map[string]struct {
		captureID string
		begun     bool
		end       func(*fixture, store.StreamRef) error
		want      map[string]int // rows by state and code
	}{
		"its pod is gone":          {id, false, reap, map[string]int{"failed PodLost": 1}},
		"its container is another": {id, false, end(reason.StreamOrphaned), map[string]int{"failed PodLost": 1}},
		"its tenant is nobody's": {id, false, func(f *fixture, _ store.StreamRef) error {
			_, err := f.Operator.SweepStreams(t.Context(), time.Hour, 10)
			return err
		}, map[string]int{"failed PodLost": 1}},
		"its capture has a row":        {id, true, reap, map[string]int{"recording ": 1}},
		"it was not captured":          {"", false, reap, map[string]int{}},
		"its call ended without a row": {id, false, end("call_ended"), map[string]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			ref := store.StreamRef{Tenant: acme, ID: store.NewID()}
			if err := f.Dataplane.AdmitStream(t.Context(), acme, store.NewStream{
				ID:        ref.ID,
				CallSID:   "c1",
				Pod:       "gone",
				CaptureID: tc.captureID,
			}, 10); err != nil {
				t.Fatal(err)
			}
			f.Exec(t, `UPDATE stream_sessions SET last_seen_at = now() - interval '2 hours'`)
			if tc.begun {
				f.capture(t, acme, id, "gone")
			}
			for range 2 { // an end that is repeated changes nothing
				if err := tc.end(f, ref); err != nil {
					t.Fatal(err)
				}
			}
			got := map[string]int{}
			for _, row := range query[string](t, f.AdminDSN, `SELECT state || ' ' || error_code FROM captures
				WHERE tenant = 'acme/support' AND id = '00000000000000a1'`) {
				got[row]++
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if n := f.Number(
				t, `SELECT count(*)::int FROM captures WHERE session <> $1::uuid AND NOT $2`, ref.ID, tc.begun,
			); n != 0 {
				t.Errorf("%d rows are of another stream", n)
			}
		})
	}
}

// TestLostCaptureBeginsAgain verifies that a live pod takes its capture back after the capture was reported lost. This
// works until an object is in the bucket, and for no other pod.
func TestLostCaptureBeginsAgain(t *testing.T) {
	fixture := newFixture(t)
	capture := store.Capture{
		CaptureRef: store.CaptureRef{Tenant: acme, ID: "00000000000000a1"},
		Session:    store.NewID(),
		CallSID:    "c1",
		Pod:        "silent",
		Bucket:     "b",
		Key:        "k",
		CreatedAt:  time.Now(),
	}
	if err := fixture.Dataplane.AdmitStream(t.Context(), acme, store.NewStream{
		ID:        capture.Session,
		Pod:       capture.Pod,
		CaptureID: capture.ID,
	}, 10); err != nil {
		t.Fatal(err)
	}
	if n, _, err := fixture.Dataplane.ReapStreams(t.Context(), []string{acme}, 0, 10); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	lost, err := fixture.Dataplane.RecordingByID(t.Context(), acme, capture.ID)
	if err != nil || lost.State != store.StateFailed || lost.LastErrorCode != reason.PodLost ||
		lost.LastError == "" ||
		!lost.Captured {
		t.Errorf("lost: %+v, %v", lost, err)
	}
	for _, pod := range []string{"another", "silent", "silent"} {
		capture.Pod = pod
		if err := fixture.Dataplane.BeginCapture(t.Context(), capture); err != nil {
			t.Fatal(err)
		}
		if _, err := fixture.Dataplane.OpenCapture(
			t.Context(), capture.CaptureRef, pod,
		); (pod == "another") != errors.Is(err, store.ErrNotFound) ||
			pod == "silent" && err != nil {
			t.Errorf("pod %s has it: %v", pod, err)
		}
	}
	if n := fixture.Number(t, `SELECT count(*)::int FROM captures WHERE state = 'recording' AND call_sid = 'c1'
			AND error_code || error = '' AND object_key = 'k'`); n != 1 {
		t.Error("it is not what it would have been")
	}
	if err := fixture.Dataplane.FinishCapture(t.Context(), capture.CaptureRef, capture.Pod, store.CaptureEnd{
		Failed: true,
		Code:   reason.PodLost,
	}); err != nil {
		t.Fatal(err)
	}
	if err := fixture.Dataplane.BeginCapture(t.Context(), capture); err != nil {
		t.Fatal(err)
	}
	if n := fixture.Number(t, `SELECT count(*)::int FROM captures WHERE state = 'failed'`); n != 1 {
		t.Error("one that has ended for good began again")
	}
}
