// Package retention removes rows that nobody can use any more: codes, tokens, login sessions, limits, mail and streams.
package retention

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/store"
)

const (
	// every is the time between two removals.
	every = time.Minute
	// rows bounds the rows of a kind that one removal takes.
	rows = 10_000
	// revocationsKept is longer than any access token lives, with room for clocks that differ.
	revocationsKept = 2 * time.Hour
	// mailKept is for people who look for what became of it.
	mailKept = 7 * 24 * time.Hour
	// streamsKept is for people who look for what became of a call.
	streamsKept = 30 * 24 * time.Hour
	// capturesUnseen is long enough for any pod that could still bring one to its end.
	capturesUnseen = 24 * time.Hour
	// redactedURLs bounds the recordings whose source URLs lose their queries in one removal.
	redactedURLs = 2000
)

// Store is what the operator needs of PostgreSQL to remove rows.
type Store interface {
	SweepHits(ctx context.Context, limit int) (int64, error)
	SweepRevocations(ctx context.Context, keep time.Duration) (int64, error)
	SweepMail(ctx context.Context, after time.Duration, limit int) (int64, error)
	SweepStreams(ctx context.Context, keep time.Duration, limit int) (int64, error)
	SweepCaptures(ctx context.Context, unseen time.Duration, limit int) (int64, error)
	SweepAccounts(ctx context.Context, keep store.Keep, limit int) (int64, error)
	RedactURLs(ctx context.Context, limit int, redact store.Redactor) (events int64, err error)
}

// sweep removes what has expired of a kind.
type sweep struct {
	kind string
	do   func(context.Context) (int64, error)
}

// sweeps returns what is removed, with one bounded statement each.
func sweeps(db Store) []sweep {
	return []sweep{
		{"rate_limits", func(ctx context.Context) (int64, error) { return db.SweepHits(ctx, rows) }},
		{"revocations", func(ctx context.Context) (int64, error) { return db.SweepRevocations(ctx, revocationsKept) }},
		{"mail", func(ctx context.Context) (int64, error) { return db.SweepMail(ctx, mailKept, rows) }},
		{"streams", func(ctx context.Context) (int64, error) { return db.SweepStreams(ctx, streamsKept, rows) }},
		{"captures", func(ctx context.Context) (int64, error) { return db.SweepCaptures(ctx, capturesUnseen, rows) }},
		{"url_queries", func(ctx context.Context) (int64, error) {
			return db.RedactURLs(ctx, redactedURLs, redactURL)
		}},
		{"accounts", func(ctx context.Context) (int64, error) {
			return db.SweepAccounts(ctx, store.DefaultKeep, rows)
		}},
	}
}

// redactURL removes the query of a source URL from a stored event.
func redactURL(e store.RawEvent, source string) (store.RawEvent, bool) {
	request, changed := exotel.RedactURL(exotel.Request{
		ContentType: e.ContentType,
		RawQuery:    e.Query,
		Body:        e.Raw,
	}, source)
	return store.RawEvent{ContentType: e.ContentType, Query: request.RawQuery, Raw: request.Body}, changed
}

// remover removes what has expired.
type remover struct {
	sweeps  []sweep
	removed *prometheus.CounterVec
	failed  *prometheus.CounterVec
	last    prometheus.Gauge
}

// New returns a remover and registers its metrics.
func New(db Store, reg prometheus.Registerer) *remover { return newRemover(sweeps(db), reg) }

func newRemover(list []sweep, reg prometheus.Registerer) *remover {
	opts := prometheus.Opts{Namespace: "caly", Subsystem: "tidy"}
	removed := opts
	failed := opts
	last := opts
	removed.Name = "removed_rows_total"
	removed.Help = "Rows that had expired and were removed, by kind."
	failed.Name = "failures_total"
	failed.Help = "Times that rows of a kind could not be removed; they are tried again a minute later."
	last.Name = "last_success_timestamp_seconds"
	last.Help = "When all that had expired was removed last; 0 in a replica that does not lead."
	remover := &remover{
		sweeps:  list,
		removed: prometheus.NewCounterVec(prometheus.CounterOpts(removed), []string{"kind"}),
		failed:  prometheus.NewCounterVec(prometheus.CounterOpts(failed), []string{"kind"}),
		last:    prometheus.NewGauge(prometheus.GaugeOpts(last)),
	}
	for _, s := range list {
		remover.removed.WithLabelValues(s.kind)
		remover.failed.WithLabelValues(s.kind)
	}
	reg.MustRegister(remover.removed, remover.failed, remover.last)
	return remover
}

// NeedLeaderElection makes it run on the leader alone.
func (*remover) NeedLeaderElection() bool { return true }

// Start removes at once and then at an interval, until ctx is done.
func (r *remover) Start(ctx context.Context) error {
	wait.UntilWithContext(ctx, r.remove, every)
	return nil
}

// remove does all sweeps once. One that fails does not keep the others from their work.
func (r *remover) remove(ctx context.Context) {
	whole := true
	for _, s := range r.sweeps {
		n, err := s.do(ctx)
		r.removed.WithLabelValues(s.kind).Add(float64(n))
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			whole = false
			r.failed.WithLabelValues(s.kind).Inc()
			log.FromContext(ctx).Error(err, "rows that have expired cannot be removed; tried again",
				"kind", s.kind, "after", every)
		}
		if n > 0 {
			log.FromContext(ctx).V(1).Info("removed rows that have expired", "kind", s.kind, "rows", n)
		}
	}
	if whole {
		r.last.SetToCurrentTime()
	}
}
