package callrecording

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// TestDatabaseGoesAway verifies that CallRecordings report a database outage and recover. It stops the server of all
// tests, so it runs before the parallel ones.
func TestDatabaseGoesAway(t *testing.T) {
	rig := newSubject(t)
	rig.Tenant(t, "support")
	pods := rig.pods(t)
	done := rig.apply(t, "done", func(o *v1alpha1.CallRecording) { o.Spec.CallSID = "call-2" })
	rig.reconcile(t, done)
	pods.upload(t)
	rig.reconcile(t, done)
	waits := rig.apply(t, "waits")
	rig.reconcile(t, waits)

	rig.PG.Stop(t)
	away := true
	defer func() {
		if away {
			rig.PG.Start(t)
		}
	}()
	_, err := rig.rec.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(waits)})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Reconcile: %v, want an error, so that it is tried again", err)
	}
	rig.start(t)
	late := rig.apply(t, "late", func(o *v1alpha1.CallRecording) { o.Spec.CallSID = "call-3" })
	rig.waitFor(t, late, "", v1alpha1.ReasonUnavailable)
	if got := reasonOf(rig.read(t, waits)); got != v1alpha1.ReasonUnavailable {
		t.Errorf("the one that waits says %s", got)
	}
	if now := rig.read(t, done); reasonOf(now) != v1alpha1.ReasonUploaded {
		t.Errorf("the one that is uploaded says %s", reasonOf(now))
	}
	rig.PG.Start(t)
	away = false
	rig.waitFor(t, waits, v1alpha1.RecordingPhasePending, v1alpha1.ReasonQueued)
	rig.waitFor(t, late, v1alpha1.RecordingPhasePending, v1alpha1.ReasonQueued)
}

func TestJourney(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.Tenant(t, "support")
	rig.start(t)
	pods := rig.pods(t)
	callRecording := rig.apply(t, "by-hand")
	rig.waitFor(t, callRecording, v1alpha1.RecordingPhasePending, v1alpha1.ReasonQueued)
	id := pods.claim(t)
	rig.waitFor(t, callRecording, v1alpha1.RecordingPhaseUploading, v1alpha1.ReasonUploading)
	due := time.Now().Add(time.Hour).Truncate(time.Second)
	pods.later(t, id, due)
	waits := rig.waitFor(t, callRecording, v1alpha1.RecordingPhaseWaiting, v1alpha1.ReasonWaiting)
	if !waits.Status.NextAttemptTime.Time.Equal(due) || waits.Status.LastError != "the source says 503" ||
		*waits.Status.Attempts != 1 {
		t.Errorf("it waits: %+v, want the next attempt at %s", waits.Status, due)
	}
	rig.annotate(t, waits, "now")
	eventually.Succeeds(t, func(context.Context) error {
		if row, _ := rig.row(t, callRecording); time.Until(row.AvailableAt) > 0 {
			return errors.New("the retry has no effect")
		}
		return nil
	})
	pods.upload(t)
	done := rig.waitFor(t, callRecording, v1alpha1.RecordingPhaseUploaded, v1alpha1.ReasonUploaded)
	size := int64(7)
	if diff := cmp.Diff(&v1alpha1.ObjectStatus{
		Bucket: "acme",
		Key:    "k",
		Size:   &size,
		SHA256: sha256,
	}, done.Status.Object); diff != "" {
		t.Errorf("object (-want +got):\n%s", diff)
	}
	if s := done.Status; s.ObservedGeneration != 1 || s.FinishedTime == nil || s.NextAttemptTime != nil ||
		s.LastError != "" ||
		s.RecordingID != id ||
		s.LastHandledRetry != "now" {
		t.Errorf("it ends as %+v", s)
	}
	var told []string
	eventually.Succeeds(t, func(context.Context) error { // the event follows the status
		if told = append(told, rig.told()...); len(told) == 0 {
			return errors.New("there is no event")
		}
		return nil
	})
	if diff := cmp.Diff([]string{"Normal Uploaded uploaded to acme/k and verified"}, told); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestFailsAndIsRetried(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.Tenant(t, "support")
	rig.start(t)
	pods := rig.pods(t)
	callRecording := rig.apply(t, "by-hand")
	rig.waitFor(t, callRecording, v1alpha1.RecordingPhasePending, v1alpha1.ReasonQueued)
	pods.fail(t)
	callRecording = rig.waitFor(t, callRecording, v1alpha1.RecordingPhaseFailed, v1alpha1.ReasonFailed)
	rig.annotate(t, callRecording, "again")
	rig.waitFor(t, callRecording, v1alpha1.RecordingPhasePending, v1alpha1.ReasonQueued)
	pods.upload(t)
	rig.waitFor(t, callRecording, v1alpha1.RecordingPhaseUploaded, v1alpha1.ReasonUploaded)
	if got := rig.told(); len(got) != 2 || !strings.HasPrefix(got[0], "Warning UploadFailed") ||
		!strings.HasPrefix(got[1], "Normal Uploaded") {
		t.Errorf("events: %q", got)
	}
}

// TestFollowsItsTenant verifies that a CallRecording that waits for its Tenant continues once the Tenant is right, and
// reports a deleted Tenant.
func TestFollowsItsTenant(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.start(t)
	callRecording := rig.apply(
		t, "by-hand", func(o *v1alpha1.CallRecording) { o.Spec.SourceURL = "https://media.example.com/a.mp3" },
	)
	rig.waitFor(t, callRecording, "", v1alpha1.ReasonTenantNotFound)
	tenant := rig.Tenant(t, "support")
	rig.waitFor(t, callRecording, "", v1alpha1.ReasonSourceRefused)
	base := tenant.DeepCopy()
	tenant.Spec.Recordings.AllowedSourceHosts = []string{"*.example.com"}
	if err := rig.Client.Patch(t.Context(), tenant, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
	rig.waitFor(t, callRecording, v1alpha1.RecordingPhasePending, v1alpha1.ReasonQueued)
	if err := rig.Client.Delete(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	rig.waitFor(t, callRecording, v1alpha1.RecordingPhasePending, v1alpha1.ReasonTenantNotFound)
	rig.Tenant(t, "support")
	rig.waitFor(t, callRecording, v1alpha1.RecordingPhasePending, v1alpha1.ReasonQueued)
}

func TestWaitsForItsTenantToBeReady(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	tenant := rig.Tenant(t, "support")
	base := tenant.DeepCopy()
	tenant.Status.ConfigDigest = ""
	if err := rig.Client.Status().Patch(t.Context(), tenant, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
	rig.start(t)
	callRecording := rig.apply(t, "by-hand")
	rig.waitFor(t, callRecording, "", v1alpha1.ReasonTenantNotReady)
	rig.SetDigest(t, tenant, "compiled")
	rig.waitFor(t, callRecording, v1alpha1.RecordingPhasePending, v1alpha1.ReasonQueued)
}

// TestShortenedTTL verifies that a TTL of zero deletes a finished CallRecording that waited for a longer TTL. The row
// stays.
func TestShortenedTTL(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	tenant := rig.Tenant(t, "support")
	rig.start(t)
	callRecording := rig.apply(t, "by-hand")
	rig.waitFor(t, callRecording, v1alpha1.RecordingPhasePending, v1alpha1.ReasonQueued)
	rig.pods(t).upload(t)
	rig.waitFor(t, callRecording, v1alpha1.RecordingPhaseUploaded, v1alpha1.ReasonUploaded)
	base := tenant.DeepCopy()
	tenant.Spec.Recordings.TTLAfterFinished.Duration = 0
	if err := rig.Client.Patch(t.Context(), tenant, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
	eventually.Succeeds(t, func(context.Context) error {
		if now := rig.read(t, callRecording); now != nil {
			return fmt.Errorf("it is still there, %s", now.Status.Phase)
		}
		return nil
	})
	if row, _ := rig.row(t, callRecording); row.State != store.StateUploaded {
		t.Errorf("the row is %s", row.State)
	}
}

// TestFewWritesAndQueries verifies that a recording that is claimed and uploaded between two polls costs one status
// write. At rest nothing is written, and one query a second serves all.
func TestFewWritesAndQueries(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.Tenant(t, "support")
	rig.start(t)
	const n = 12
	all := make([]*v1alpha1.CallRecording, n)
	for i := range all {
		all[i] = rig.apply(
			t,
			fmt.Sprintf("by-hand-%02d", i),
			func(o *v1alpha1.CallRecording) { o.Spec.CallSID = fmt.Sprintf("call-%d", i) },
		)
	}
	for _, o := range all {
		rig.waitFor(t, o, v1alpha1.RecordingPhasePending, v1alpha1.ReasonQueued)
	}
	if got := len(rig.written()); got > n+3 { // a look through a cache that lags is a write in vain
		t.Errorf("%d writes to queue %d", got, n)
	}
	const measured = 1500 * time.Millisecond // the time in which queries are counted
	settled := rig.counted.recordings.Load
	eventually.Succeeds(t, func(context.Context) error { // the first poll that sees them wakes each again
		before := settled()
		time.Sleep(measured)
		if made := settled() - before; made > 3 {
			return fmt.Errorf("%d queries within %s at rest", made, measured)
		}
		return nil
	})
	written := len(rig.written())
	pods := rig.pods(t)
	for range all {
		pods.upload(t)
	}
	for _, o := range all {
		rig.waitFor(t, o, v1alpha1.RecordingPhaseUploaded, v1alpha1.ReasonUploaded)
	}
	// A poll may fall between claim and end of one of them, and see it under way.
	if got := len(rig.written()) - written; got < n || got > n+4 {
		t.Errorf("%d writes to show that %d were uploaded", got, n)
	}
}
