package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/internal/exotel"
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
	// capturesUnseen is long enough for any pod that could still bring one to its end.
	capturesUnseen = 24 * time.Hour
	// redactedURLs bounds the recordings whose source URLs lose their queries in one sweep.
	redactedURLs = 2000
)

// sweep removes what has expired of a kind.
type sweep struct {
	kind string
	do   func(context.Context) (int64, error)
}

func sweeps(db *store.Operator) []sweep {
	return []sweep{
		{"rate_limits", func(ctx context.Context) (int64, error) { return db.SweepHits(ctx, tidyRows) }},
		{"revocations", func(ctx context.Context) (int64, error) { return db.SweepRevocations(ctx, revocationsKept) }},
		{"mail", func(ctx context.Context) (int64, error) { return db.SweepMail(ctx, mailKept, tidyRows) }},
		{"streams", func(ctx context.Context) (int64, error) { return db.SweepStreams(ctx, streamsKept, tidyRows) }},
		{"captures", func(ctx context.Context) (int64, error) { return db.SweepCaptures(ctx, capturesUnseen, tidyRows) }},
		{"url_queries", func(ctx context.Context) (int64, error) {
			return db.RedactURLs(ctx, redactedURLs, redactURL)
		}},
		{"accounts", func(ctx context.Context) (int64, error) { return db.SweepAccounts(ctx, store.DefaultKeep, tidyRows) }},
	}
}

// redactURL removes the query of a source URL from a stored event.
func redactURL(e store.RawEvent, source string) (store.RawEvent, bool) {
	r, changed := exotel.RedactURL(exotel.Request{ContentType: e.ContentType, RawQuery: e.Query, Body: e.Raw}, source)
	return store.RawEvent{ContentType: e.ContentType, Query: r.RawQuery, Raw: r.Body}, changed
}

// tidier removes what has expired: codes, tokens, sessions, limits, mail and streams that are done with.
type tidier struct {
	sweeps  []sweep
	removed *prometheus.CounterVec
	failed  *prometheus.CounterVec
	last    prometheus.Gauge
}

func newTidier(list []sweep, reg prometheus.Registerer) *tidier {
	t := &tidier{sweeps: list,
		removed: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "caly", Subsystem: "tidy", Name: "removed_rows_total",
			Help: "Rows that had expired and were removed, by kind."}, []string{"kind"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "caly", Subsystem: "tidy", Name: "failures_total",
			Help: "Times that rows of a kind could not be removed; they are tried again a minute later."}, []string{"kind"}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "caly", Subsystem: "tidy", Name: "last_success_timestamp_seconds",
			Help: "When all that had expired was removed last; 0 in a replica that does not lead."})}
	for _, s := range list {
		t.removed.WithLabelValues(s.kind)
		t.failed.WithLabelValues(s.kind)
	}
	reg.MustRegister(t.removed, t.failed, t.last)
	return t
}

// keep tidies until ctx is done.
func (t *tidier) keep(ctx context.Context) error {
	wait.UntilWithContext(ctx, t.tidy, tidyEvery)
	return nil
}

// tidy does all sweeps once. One that fails does not keep the others from their work.
func (t *tidier) tidy(ctx context.Context) {
	whole := true
	for _, s := range t.sweeps {
		n, err := s.do(ctx)
		t.removed.WithLabelValues(s.kind).Add(float64(n))
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			whole = false
			t.failed.WithLabelValues(s.kind).Inc()
			log.FromContext(ctx).Error(err, "rows that have expired cannot be removed; tried again", "kind", s.kind, "after", tidyEvery)
		}
		if n > 0 {
			log.FromContext(ctx).V(1).Info("removed rows that have expired", "kind", s.kind, "rows", n)
		}
	}
	if whole {
		t.last.SetToCurrentTime()
	}
}
