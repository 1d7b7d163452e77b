package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
)

func (f *fixture) uploadState(t *testing.T, tenant string) store.UploadState {
	t.Helper()
	list, err := f.Operator.UploadStates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.Tenant == tenant {
			return s
		}
	}
	return store.UploadState{}
}

// TestUploadState follows a queue: due, failed, uploaded since, and drained.
func TestUploadState(t *testing.T) {
	fixture := newFixture(t)
	ctx := t.Context()
	if got := fixture.uploadState(t, acme); got != (store.UploadState{}) {
		t.Errorf("an empty queue has the state %+v", got)
	}
	ids := fixture.enqueue(t, acme, 3)
	fixture.enqueue(t, globex, 1)
	near := cmpopts.EquateApproxTime(10 * time.Second)
	now := time.Now()
	want := store.UploadState{Tenant: acme, DueSince: now}
	if diff := cmp.Diff(want, fixture.uploadState(t, acme), near); diff != "" {
		t.Errorf("queued (-want +got):\n%s", diff)
	}
	if _, err := fixture.upload.Claim(ctx, "w", 3, time.Minute); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids[:2] {
		code := []string{"StorageUnavailable", "StorageAccessDenied"}[i]
		if err := fixture.upload.RetryLater(ctx, "w", id, store.LaterAttempt{
			At:      now.Add(time.Hour),
			Code:    code,
			Message: "403: no",
			Counted: true,
		}); err != nil {
			t.Fatal(err)
		}
	}
	want = store.UploadState{
		Tenant:       acme,
		FailedAt:     now,
		FailedCode:   "StorageAccessDenied",
		FailedError:  "403: no",
		FailedQueued: now,
	}
	got := fixture.uploadState(t, acme)
	if diff := cmp.Diff(want, got, near); diff != "" {
		t.Errorf("failed (-want +got):\n%s", diff)
	}
	sha := "0000000000000000000000000000000000000000000000000000000000000000"
	if err := fixture.upload.Complete(ctx, "w", ids[2], store.Result{Bucket: "b", Key: "k", SHA256: sha}); err != nil {
		t.Fatal(err)
	}
	if after := fixture.uploadState(t, acme); !after.UploadedAt.After(got.FailedAt) {
		t.Errorf("uploaded at %s, want a time after the failure at %s", after.UploadedAt, got.FailedAt)
	}
	if other := fixture.uploadState(t, globex); !other.FailedAt.IsZero() || !other.UploadedAt.IsZero() {
		t.Errorf("another tenant's state is %+v", other)
	}
	fixture.Exec(
		t, `UPDATE recordings SET lease_owner = 'gone', lease_until = now() - interval '1 s' WHERE tenant = $1`, globex,
	)
	if _, err := fixture.Operator.ReapLeases(ctx); err != nil {
		t.Fatal(err)
	}
	if uploadState := fixture.uploadState(t, globex); uploadState.FailedCode != reason.LeaseExpired ||
		uploadState.FailedAt.IsZero() {
		t.Errorf("after a pod died the state is %+v", uploadState)
	}
}

// TestUploadStateOfALongQueue verifies that the upload state of a long queue is read quickly, and includes the last
// failure.
func TestUploadStateOfALongQueue(t *testing.T) {
	fixture := newFixture(t)
	fixture.Exec(t, `INSERT INTO recordings (tenant, id, call_sid, source_url)
		SELECT $1, lpad(to_hex(i), 16, '0'), 'c' || i, 'https://recordings.exotel.com/' ||
			i FROM generate_series(1, 20000) i`, acme)
	fixture.Exec(t,
		`UPDATE recordings SET available_at = now() + interval '1 minute', last_error_at = now(),
			last_error_code = 'StorageFull'
		WHERE tenant = $1 AND id = lpad(to_hex(77), 16, '0')`, acme)
	start := time.Now()
	got := fixture.uploadState(t, acme)
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("took %s", took)
	}
	if got.FailedCode != "StorageFull" || got.DueSince.IsZero() {
		t.Errorf("the state is %+v", got)
	}
}
