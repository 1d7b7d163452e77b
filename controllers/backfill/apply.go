package backfill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
	"github.com/caly-dev/caly/internal/ingest"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tracing"
)

// totalWithin bounds the statement that adds to the totals.
const totalWithin = 5 * time.Second

// Results of calls, as the tenants' totals and their metric name them.
const (
	totalFound        = "found"
	totalFoundPartial = "found_partial" // without a field, or with a recording that was rejected
	totalLeftOut      = "left_out"      // it could not be used
)

// add makes an event of a call; of nil, and of one of another account, it makes none.
func (n *run) add(found []store.Event, c *calldetails.Call) []store.Event {
	if c == nil {
		return found
	}
	event, err := ingest.FromCall(n.config, n.r.Sources, c, c.Raw)
	if err != nil {
		n.leaveOut(err)
		return found
	}
	return append(found, event)
}

// apply applies events as webhooks are applied.
func (n *run) apply(ctx context.Context, found []store.Event) error {
	if len(found) == 0 {
		return nil
	}
	// Rows of a Tenant that is being deleted would be left behind.
	if ok, err := n.r.stillWanted(ctx, n.tenant); err != nil || !ok {
		return errors.Join(err, errStopped)
	}
	return n.ingest(ctx, found)
}

// ingest stores events. One that PostgreSQL refuses is stored as a dead one.
func (n *run) ingest(ctx context.Context, found []store.Event) (err error) {
	ctx, span := n.trace(ctx)
	defer span.End()
	ctx, commit := ingest.Trace(ctx, found)
	defer func() { ingest.EndTrace(commit, err) }()
	return ingest.Settlement{
		Store: func(events []store.Event) ([]store.Outcome, error) { return n.r.Store.IngestBatch(ctx, events) },
		Settled: func(_ int, events []store.Event, outcomes []store.Outcome, err error) error {
			if err == nil {
				n.tally(events, outcomes)
			}
			return err
		},
		Dead: func(e *store.Event, err error) {
			n.leaveOut(fmt.Errorf("call %s is stored as a dead event: %w", e.CallSID, err))
		},
	}.Settle(found)
}

// trace begins the trace of calls that were missing. The trace goes on with the uploads of their recordings.
func (n *run) trace(ctx context.Context) (context.Context, trace.Span) {
	if !n.r.Tracer.Wants(trace.SpanContext{}) {
		return ctx, tracing.Off
	}
	return n.r.Tracer.Root(ctx, "backfill calls", time.Now(),
		trace.WithAttributes(tracing.Tenant.String(n.tenant.ID())))
}

// tally counts the events that were new. Duplicates are what webhooks had delivered.
func (n *run) tally(found []store.Event, outcomes []store.Outcome) {
	for i, o := range outcomes {
		if o != store.Applied {
			continue
		}
		n.found++
		n.r.Metrics.found.Inc()
		if len(found[i].Unread) > 0 {
			n.partial++
		}
		for _, u := range found[i].Unread {
			n.r.Metrics.unread.WithLabelValues(exotel.FieldLabel(u.Field), u.Reason).Inc()
		}
	}
}

// total adds what the run found and could not use to the tenant's totals, which outlive this process. It does so for a run
// that was stopped, too.
func (n *run) total(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), totalWithin)
	defer cancel()
	err := n.r.Store.AddBackfill(ctx, n.tenant.ID(), map[string]int64{
		totalFound:        int64(n.found - n.partial),
		totalFoundPartial: int64(n.partial),
		totalLeftOut:      int64(n.left),
	})
	if err != nil {
		logger := log.FromContext(ctx)
		logger.Error(err, "what the run found is missing in the metrics of the tenant", "tenant", n.tenant.ID())
	}
}

// incomplete is what a condition says about calls that were applied without some of their fields.
func (n *run) incomplete() string {
	if n.partial == 0 {
		return ""
	}
	return fmt.Sprintf(". Of %d calls a field could not be read or a recording was rejected: see caly events "+
		"list --partial --tenant %s",
		n.partial, n.tenant.ID())
}
