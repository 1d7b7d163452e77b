package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// TestHungServer checks that no statement waits longer than its bound for a server that hangs, for callers without a
// deadline of their own. PgBouncer keeps the connections of its clients open, for query_wait_timeout (120 s) or, once
// a statement is sent, without end.
func TestHungServer(t *testing.T) {
	pgtest.SameOnEachServer(t)
	const within = 1*time.Second + 10*time.Second
	for name, pooled := range map[string]bool{"through PgBouncer": true, "directly": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pg := pgtest.NewServer(t, pgtest.Bin15(t), false)
			migrate(t, pg)
			address := pg.Address()
			if pooled {
				address = pg.PgBouncer(t, "transaction", "")
			}
			oper := openBounded(t, pgtest.At(t, pg.OperatorDSN, address), store.OpenOperator)
			uploadURL := storetest.UploadDSN(t, oper, acme, "password")
			live := openBounded(t, pgtest.At(t, pg.DataplaneDSN, address), store.OpenDataplane)
			upload := openBounded(t, uploadURL, store.OpenUpload)
			paths := hangPaths(oper, live, upload, uploadURL)
			resume := pg.Hang(t)
			var running sync.WaitGroup
			for name, run := range paths {
				running.Go(func() {
					began := time.Now()
					err := run(context.Background())
					took := time.Since(began)
					if !errors.Is(err, store.ErrUnavailable) || took > within+4*time.Second {
						t.Errorf("%s: %v after %s, want that the database is unavailable", name, err, took)
					}
				})
			}
			running.Wait()
			resume()
			for name, run := range paths {
				eventually.Within(20*time.Second).Succeeds(t, func(ctx context.Context) error {
					if err := run(ctx); err != nil {
						return fmt.Errorf("%s after the server went on: %w", name, err)
					}
					return nil
				})
			}
		})
	}
}

func openBounded[DB interface{ Close() }](t *testing.T, dsn string, connect opening[DB]) DB {
	t.Helper()
	db, err := connect(t.Context(), dsn, store.Options{StatementTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// hangPaths are statements of each program and of each form: one row, rows, a batch, a transaction.
func hangPaths(
	oper *store.Operator, live *store.Dataplane, upload *store.Upload, uploadURL string,
) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"operator, rows": func(ctx context.Context) error {
			_, err := oper.Unviewed(ctx, acme, store.Wanted{Limit: 1, Queued: true})
			return err
		},
		"operator, no rows": func(ctx context.Context) error { return oper.EnsureHistoryPartitions(ctx, 1) },
		"data plane, transaction": func(ctx context.Context) error {
			_, _, err := live.Calls(ctx, acme, store.CallFilter{Page: store.Page{Limit: 1}})
			return err
		},
		"data plane, batch": func(ctx context.Context) error {
			_, err := live.Ingest(ctx, newEvent(acme, store.NewID(), "terminal", store.CallCompleted, ""))
			return err
		},
		"data plane, one row": live.Writable,
		"data plane, ping":    live.Ping,
		"upload pod, claim": func(ctx context.Context) error {
			_, err := upload.Claim(ctx, "pod", 1, time.Minute)
			return err
		},
		"upload pod, start": func(ctx context.Context) error {
			db, err := store.OpenUpload(ctx, uploadURL, store.Options{StatementTimeout: time.Second})
			if err == nil {
				db.Close()
			}
			return err
		},
	}
}
