package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

func TestAwait(t *testing.T) {
	pgtest.SameOnEachServer(t)
	refused := errors.New("wrong password")
	for name, tc := range map[string]struct {
		away      time.Duration
		then      error
		bound     time.Duration
		want      error
		wantLines int // that say that it waits
		wantTries int // at most
	}{
		"at once":       {then: nil, wantTries: 1},
		"wrong at once": {then: refused, want: refused, wantTries: 1},
		"read-only":     {away: time.Second, wantLines: 1, wantTries: 6},
		"ten minutes":   {away: 10 * time.Minute, wantLines: 10, wantTries: 260},
		"wrong later":   {away: 90 * time.Second, then: refused, want: refused, wantLines: 2, wantTries: 60},
		"bounded, longer": {
			away:      time.Hour,
			bound:     2 * time.Minute,
			want:      store.ErrUnavailable,
			wantLines: 2,
			wantTries: 70,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tc.bound > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.bound)
					defer cancel()
				}
				var said bytes.Buffer
				began := time.Now()
				tries := 0
				err := store.Await(ctx, slog.New(slog.NewTextHandler(&said, nil)), func(context.Context) error {
					tries++
					if time.Since(began) < tc.away {
						return fmt.Errorf("db:5432: %w: connection refused", store.ErrReadOnly)
					}
					return tc.then
				})
				if !errors.Is(err, tc.want) {
					t.Errorf("got %v, want %v", err, tc.want)
				}
				if tries > tc.wantTries {
					t.Errorf("%d tries, want at most %d", tries, tc.wantTries)
				}
				lines := strings.Count(said.String(), "waiting for the database")
				if lines < tc.wantLines-1 || lines > tc.wantLines {
					t.Errorf("%d lines, want %d: %s", lines, tc.wantLines, said.String())
				}
				if waited := time.Since(began); tc.bound == 0 && waited > tc.away+awaitPause {
					t.Errorf("it returns %s after the end", waited-tc.away)
				}
			})
		})
	}
}

// awaitPause is the longest pause between two tries.
const awaitPause = 5 * time.Second

// TestAwaitServer opens a database whose server starts later.
func TestAwaitServer(t *testing.T) {
	pg := pgtest.New(t)
	pg.StopFast(t)
	opened := make(chan error, 1)
	go func() {
		opened <- store.Await(t.Context(), slog.New(slog.DiscardHandler), func(ctx context.Context) error {
			db, err := store.OpenDataplane(ctx, pg.DataplaneDSN, store.Options{})
			if err == nil {
				db.Close()
			}
			return err
		})
	}()
	select {
	case err := <-opened:
		t.Fatalf("it does not wait: %v", err)
	case <-time.After(time.Second):
	}
	pg.Start(t)
	select {
	case err := <-opened:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it does not see that the server has started")
	}
}
