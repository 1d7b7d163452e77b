package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// queued is all that the database has of a recording in the queue, as text.
func (f *fixture) queued(t *testing.T, id string) string {
	t.Helper()
	return pgtest.Value[string](t, f.Server, `SELECT r::text FROM recordings r WHERE id = $1`, id)
}

// TestLostLease checks that an owner whose lease was taken over changes nothing of the recording.
func TestLostLease(t *testing.T) {
	fixture := newFixture(t)
	id := fixture.enqueue(t, acme, 1)[0]
	if recs, err := fixture.upload.Claim(t.Context(), "first", 1, time.Minute); err != nil || len(recs) != 1 {
		t.Fatalf("claimed %v, %v", recs, err)
	}
	fixture.Exec(t, `UPDATE recordings SET lease_owner = 'second'`)
	before := fixture.queued(t, id)
	for name, tc := range map[string]struct {
		act     func(ctx context.Context) error
		wantErr error
	}{
		"RetryLater": {func(ctx context.Context) error {
			return fixture.upload.RetryLater(ctx, "first", id, store.LaterAttempt{
				At:      time.Now(),
				Code:    "Code",
				Message: "message",
				Counted: true,
			})
		}, store.ErrLeaseLost},
		"Fail": {func(ctx context.Context) error {
			return fixture.upload.Fail(ctx, "first", id, "Code", "message")
		}, store.ErrLeaseLost},
		"Release": {func(ctx context.Context) error {
			return fixture.upload.Release(ctx, "first", []string{id})
		}, nil},
		"Complete": {func(ctx context.Context) error {
			return fixture.upload.Complete(ctx, "first", id, store.Result{Bucket: "b", Key: "k", SHA256: "s"})
		}, store.ErrLeaseLost},
		"MarkUploadStarted": {func(ctx context.Context) error {
			return fixture.upload.MarkUploadStarted(ctx, "first", id)
		}, store.ErrLeaseLost},
		"Heartbeat": {func(ctx context.Context) error {
			held, err := fixture.upload.Heartbeat(ctx, "first", []string{id}, time.Hour)
			if len(held) > 0 {
				t.Errorf("the first owner still holds %v", held)
			}
			return err
		}, nil},
	} {
		if err := tc.act(t.Context()); !errors.Is(err, tc.wantErr) {
			t.Errorf("%s: %v, want %v", name, err, tc.wantErr)
		}
		if fixture.Number(t, `SELECT count(*) FROM recordings WHERE id = $1`, id) != 1 {
			t.Fatalf("%s: the recording is no longer in the queue", name)
		}
		if d := cmp.Diff(before, fixture.queued(t, id)); d != "" {
			t.Errorf("%s changed the row (-before +after):\n%s", name, d)
		}
	}
}

// TestTakeoverCountsAnAttempt checks that a recording whose owner died costs one of its attempts: else one that kills
// each upload pod would be tried for ever.
func TestTakeoverCountsAnAttempt(t *testing.T) {
	fixture := newFixture(t)
	fixture.enqueue(t, acme, 1)
	for attempts, owner := range []string{"first", "second", "third"} {
		recs, err := fixture.upload.Claim(t.Context(), owner, 1, time.Minute)
		if err != nil || len(recs) != 1 {
			t.Fatalf("%s claimed %v, %v", owner, recs, err)
		}
		if recs[0].Attempts != attempts {
			t.Errorf("after %d dead owners the recording has %d attempts", attempts, recs[0].Attempts)
		}
		fixture.Exec(t, `UPDATE recordings SET lease_until = now() - interval '1 second'`)
	}
}

// TestErrorsAreBounded checks that a row does not hold all that another host says.
func TestErrorsAreBounded(t *testing.T) {
	fixture := newFixture(t)
	ids := fixture.enqueue(t, acme, 2)
	if recs, err := fixture.upload.Claim(t.Context(), "owner", 2, time.Minute); err != nil || len(recs) != 2 {
		t.Fatalf("claimed %v, %v", recs, err)
	}
	message := strings.Repeat("é", 5000)
	later := fixture.upload.RetryLater(t.Context(), "owner", ids[0], store.LaterAttempt{
		At:      time.Now(),
		Code:    "Code",
		Message: message,
	})
	failed := fixture.upload.Fail(t.Context(), "owner", ids[1], "Code", message)
	if later != nil || failed != nil {
		t.Fatal(later, failed)
	}
	keys := []store.RecordingKey{{Tenant: acme, ID: ids[0]}, {Tenant: acme, ID: ids[1]}}
	recs, err := fixture.Operator.Recordings(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		rec := recs[key]
		if n := len(rec.LastError); n == 0 || n > 1000 || !utf8.ValidString(rec.LastError) {
			t.Errorf("the error of a recording that is %s has %d bytes, want 1 to 1000 of valid UTF-8", rec.State, n)
		}
	}
}
