package upload

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// unreachable is a queue whose database does not answer.
type unreachable struct{ queue }

func (unreachable) Heartbeat(context.Context, string, []string, time.Duration) ([]string, error) {
	return nil, store.ErrUnavailable
}

// TestLeaseExpiresWhileTheDatabaseIsDown checks that a transfer ends when its lease does: without a heartbeat another
// worker may have the recording then. It does not end earlier.
func TestLeaseExpiresWhileTheDatabaseIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lease = 30 * time.Second
		options := Options{
			Owner:    "test",
			Lease:    lease,
			Registry: quick(),
			Log:      slog.New(slog.DiscardHandler),
		}.withDefaults()
		worker := newWorker(options, &tenantconfig.Upload{ID: tenant}, unreachable{})
		transfer, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		worker.leases.add("recording", lease, cancel)
		done := make(chan struct{})
		go worker.heartbeats(done)
		time.Sleep(lease - time.Second)
		if err := context.Cause(transfer); err != nil {
			t.Errorf("the transfer ended with %v before its lease", err)
		}
		time.Sleep(lease/3 + 2*time.Second) // the heartbeat after the lease
		if err := context.Cause(transfer); !errors.Is(err, errLeaseLost) {
			t.Errorf("the transfer ended with %v, want %v", err, errLeaseLost)
		}
		close(done)
		synctest.Wait()
	})
}
