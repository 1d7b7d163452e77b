package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// quick bounds what another tenant waits for while lists hang. The lists hang for as long as the test runs, so the
// bound is generous.
const quick = 3 * time.Second

// lockCalls holds a lock on which every list of calls waits, until the test ends.
func lockCalls(t *testing.T, pg *pgtest.Server) *pgx.Conn {
	t.Helper()
	admin, err := pgx.Connect(t.Context(), pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close(context.Background()) })
	if _, err := admin.Exec(t.Context(), `BEGIN; LOCK TABLE calls IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	return admin
}

// hangingLists starts more lists of a tenant than the pool has connections. They end with the test.
func hangingLists(t *testing.T, db *store.Dataplane, tenant string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var lists sync.WaitGroup
	for range 40 {
		lists.Go(func() { _, _, _ = db.Calls(ctx, tenant, store.CallFilter{}) })
	}
	t.Cleanup(func() { cancel(); lists.Wait() })
}

// hanging waits until lists wait for the lock, and returns how many.
func hanging(t *testing.T, admin *pgx.Conn, want int) (n int) {
	t.Helper()
	eventually.Succeeds(t, func(ctx context.Context) error {
		if err := admin.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND
			wait_event_type = 'Lock'`).Scan(&n); err != nil {
			return err
		}
		if n < want {
			_, err := admin.Exec(ctx, `SELECT pg_stat_clear_snapshot()`)
			return errors.Join(err, fmt.Errorf("%d lists wait, want %d", n, want))
		}
		return nil
	})
	return n
}

// TestSlowListsDelayNoCall hangs all lists of one tenant. Calls, heartbeats, limits and API requests of another
// tenant go on.
func TestSlowListsDelayNoCall(t *testing.T) {
	pg := pgtest.New(t)
	o := poolOptions{ingest: 2, live: 2, api: 16, statementTimeout: time.Minute}
	db, err := openPools(t.Context(), pg.DataplaneDSN, o, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.close)
	admin := lockCalls(t, pg)
	hangingLists(t, db.api, "globex/sales")
	if n := hanging(t, admin, 4); n != 4 {
		t.Errorf("one tenant holds %d of 16 connections, want a quarter", n)
	}
	ref := store.StreamRef{Tenant: "acme/support", ID: store.NewID()}
	for _, step := range []struct {
		name string
		do   func(ctx context.Context) error
	}{
		{"admit a call", func(ctx context.Context) error {
			return db.live.AdmitStream(ctx, ref.Tenant, store.NewStream{ID: ref.ID, Pod: "a"}, 10)
		}},
		{"heartbeat", func(ctx context.Context) error {
			_, err := db.live.HeartbeatStreams(ctx, []store.StreamBeat{{StreamRef: ref}})
			return err
		}},
		{"rate limit", func(ctx context.Context) error {
			take := store.HitTake{Tenant: ref.Tenant, Wanted: 1, Max: 1, Window: time.Minute, Timeout: time.Minute}
			_, err := db.limits.TakeHits(ctx, take)
			return err
		}},
		{"API request", func(ctx context.Context) error {
			_, err := db.api.ListUsers(ctx, ref.Tenant, store.UserCursor{}, 10)
			return err
		}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), quick)
		start := time.Now()
		if err := step.do(ctx); err != nil {
			t.Errorf("%s: %v after %s", step.name, err, time.Since(start))
		}
		cancel()
	}
}

// TestTenantBeyondItsShareIsBusy rejects the requests of a tenant for which neither a connection nor a waiting place
// is free.
func TestTenantBeyondItsShareIsBusy(t *testing.T) {
	pg := pgtest.New(t)
	options := store.Options{MaxConns: 8, Shared: true, MaxWaiting: 38}
	db, err := store.OpenDataplane(t.Context(), pg.DataplaneDSN, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	admin := lockCalls(t, pg)
	hangingLists(t, db, "globex/sales") // two hold connections, 38 wait
	hanging(t, admin, 2)
	eventually.Succeeds(t, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		start := time.Now()
		_, _, err := db.Calls(ctx, "globex/sales", store.CallFilter{})
		cancel()
		if errors.Is(err, store.ErrTenantBusy) && time.Since(start) < 10*time.Millisecond {
			return nil
		}
		return fmt.Errorf("the 41st list: %w after %s", err, time.Since(start))
	})
}

// TestListEndsAtItsTimeout ends a hanging list in the database, not only in the pod.
func TestListEndsAtItsTimeout(t *testing.T) {
	pg := pgtest.New(t)
	o := poolOptions{ingest: 2, live: 2, api: 2, statementTimeout: 50 * time.Millisecond}
	db, err := openPools(t.Context(), pg.DataplaneDSN, o, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.close)
	lockCalls(t, pg)
	if _, _, err := db.api.Calls(t.Context(), "acme/support", store.CallFilter{}); !errors.Is(
		err, store.ErrUnavailable,
	) {
		t.Errorf("a list beyond the timeout: %v", err)
	}
}

// TestPoolFlags rejects pools without room for work.
func TestPoolFlags(t *testing.T) {
	for _, arg := range []string{
		"--db-ingest-connections=1",
		"--db-live-connections=0",
		"--db-api-connections=100000",
		"--api-statement-timeout=0",
	} {
		result := execute(t, "dataplane", "--work-namespace=w", arg)
		var exit *cli.ExitError
		if !errors.As(result.err, &exit) || exit.Code != cli.ExitUsage {
			t.Error(fmt.Errorf("%s: %w", arg, result.err))
		}
	}
}
