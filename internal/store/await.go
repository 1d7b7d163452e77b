package store

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// awaitFirst and awaitMost are the first and the longest pause between two tries to open the database. Each pause
	// is cut at random, so that many pods do not connect at once when the server returns.
	awaitFirst = 250 * time.Millisecond
	awaitMost  = 5 * time.Second
	// awaitLog spaces the log lines of a program that waits.
	awaitLog = time.Minute
)

// Await calls open until it returns something other than ErrUnavailable, or ctx is done. It logs at once and then every
// minute why it waits, and returns the last error of open.
func Await(ctx context.Context, log *slog.Logger, open func(context.Context) error) error {
	began := time.Now()
	var logged time.Time
	for pause := awaitFirst; ; pause = min(2*pause, awaitMost) {
		err := open(ctx)
		if !errors.Is(err, ErrUnavailable) {
			if err == nil && !logged.IsZero() {
				log.Info("the database accepts connections", "after", time.Since(began).Round(time.Second))
			}
			return err
		}
		if logged.IsZero() || time.Since(logged) >= awaitLog {
			logged = time.Now()
			log.Warn("waiting for the database", "since", began.UTC().Format(time.RFC3339), "error", err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause/2 + rand.N(pause/2)): //nolint:gosec // no secret
		}
	}
}
