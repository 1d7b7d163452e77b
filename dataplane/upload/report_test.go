package upload

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// A pod is gone before anybody scrapes it; what it counted stays.
func TestRetriesOutliveThePod(t *testing.T) {
	rig := newRig(t)
	_, path := rig.queue("c1", 1000)
	rig.exotel.Set(path, exotelsim.Quirks{TooMany: 1})
	for range 2 { // the second pod finds nothing to do and must not count the first one's again
		if err := rig.run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := rig.db.Operator.RetryTotals(t.Context())
	want := map[string]resilience.Counts{ // each dependency has a total from the start
		dependencyExotel: {Retries: 1, Successful: 1},
		"s3":             {},
		"sts":            {},
		"other":          {},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, totals (-want +got):\n%s", err, diff)
	}
}

// ledger is a queue that takes reports alone, and refuses while err is set.
type ledger struct {
	queue
	err  error
	kept map[string]resilience.Counts
}

func (l *ledger) AddRetries(_ context.Context, _ string, counts map[string]resilience.Counts) error {
	if l.err == nil {
		l.kept = resilience.Sum(l.kept, counts)
	}
	return l.err
}

func TestReportsCatchUp(t *testing.T) {
	registry := quick()
	db := &ledger{err: store.ErrUnavailable}
	worker := newWorker(Options{
		Registry: registry,
		Log:      slog.New(slog.DiscardHandler),
	}, &tenantconfig.Upload{ID: tenant}, db)
	fail := func() {
		_ = registry.Do(
			t.Context(),
			tenant,
			dependencyS3,
			func(context.Context) error { return resilience.Retryable(errors.New("away")) },
		)
	}
	fail()
	worker.reportRetries()
	db.err = nil
	fail()
	worker.reportRetries()
	worker.reportRetries() // nothing new
	want := map[string]resilience.Counts{dependencyS3: {Retries: 4, Failed: 2}}
	if diff := cmp.Diff(want, db.kept); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}
