package main

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/caly-dev/caly/internal/store"
)

// Rows that nobody can use any more are removed every tidyEvery, so many of a kind at a time.
const (
	tidyEvery = time.Minute
	tidyRows  = 10_000
	// revocationsKept is longer than any access token lives, with room for clocks that differ.
	revocationsKept = 2 * time.Hour
	// mailKept is for people who look for what became of it.
	mailKept = 7 * 24 * time.Hour
	// streamsKept is for people who look for what became of a call.
	streamsKept = 30 * 24 * time.Hour
)

// keepTidy removes what has expired: codes, tokens, sessions, limits, mail and streams that are done with.
func keepTidy(db *store.DB) manager.RunnableFunc {
	return func(ctx context.Context) error {
		wait.UntilWithContext(ctx, func(ctx context.Context) { tidy(ctx, db) }, tidyEvery)
		return nil
	}
}

func tidy(ctx context.Context, db *store.DB) {
	var removed int64
	for _, sweep := range []func() (int64, error){
		func() (int64, error) { return db.SweepHits(ctx, tidyRows) },
		func() (int64, error) { return db.SweepRevocations(ctx, revocationsKept) },
		func() (int64, error) { return db.SweepMail(ctx, mailKept, tidyRows) },
		func() (int64, error) { return db.SweepStreams(ctx, streamsKept, tidyRows) },
		func() (int64, error) { return db.SweepAccounts(ctx, store.DefaultKeep, tidyRows) },
	} {
		n, err := sweep()
		removed += n
		if err != nil {
			if ctx.Err() == nil {
				log.FromContext(ctx).Error(err, "remove rows that have expired; tried again", "after", tidyEvery)
			}
			return
		}
	}
	log.FromContext(ctx).V(1).Info("removed rows that have expired", "rows", removed)
}
