//go:build linux

// Package fleet has many calls at once from Exotel's side. It costs so little that what is called is measured, and not the caller: sockets
// that a few threads poll, and frames that are made and compared in place.
package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options of a Fleet. Only Address, Path and Calls must be set.
type Options struct {
	// Address of the server, host:port; Path of the stream.
	Address, Path string
	// Calls at once.
	Calls int
	// Pace is the length of a frame, and the time between two of a call; 20 ms by default.
	Pace time.Duration
	// Threads that talk and listen; 2 by default.
	Threads int
	// Name begins the calls' ids; "fleet" by default.
	Name string
}

// Report of what calls said and heard.
type Report struct {
	// Frames that were sent, and those that came back as they were, each as the next one of its call.
	Sent, Equal int64
	// Wrong are frames that came back and match no expected frame, byte by byte. Missing ones did not come in time, or
	// a later one came first. Skipped ones were not sent: 256 of their call were under way.
	Wrong, Missing, Skipped int64
	// Codes that calls were closed with: 1006 without one.
	Codes map[int]int
	// RoundTrip from a frame's sending to its return, sorted. Late is by how much the slowest send was.
	RoundTrip []time.Duration
	Late      time.Duration
}

// Quantile of the round trips; 0 without any.
func (r Report) Quantile(share float64) time.Duration {
	if len(r.RoundTrip) == 0 {
		return 0
	}
	return r.RoundTrip[min(int(share*float64(len(r.RoundTrip))), len(r.RoundTrip)-1)]
}

// Err tells of frames that did not come back as they were.
func (r Report) Err() error {
	if r.Wrong == 0 && r.Missing == 0 && r.Skipped == 0 && r.Sent > 0 {
		return nil
	}
	return fmt.Errorf(
		"of %d frames %d came back as they were, %d wrong, %d not at all; %d were not sent",
		r.Sent,
		r.Equal,
		r.Wrong,
		r.Missing,
		r.Skipped,
	)
}

// Fleet is calls that are open.
type Fleet struct {
	o       Options
	threads []*thread
}

// Dial opens all calls, up to their start, a few at a time.
func Dial(ctx context.Context, o Options) (*Fleet, error) {
	o.Pace = cmp.Or(o.Pace, 20*time.Millisecond)
	o.Threads = cmp.Or(o.Threads, 2)
	o.Name = cmp.Or(o.Name, "fleet")
	fleet := &Fleet{o: o}
	for range o.Threads {
		t, err := newThread(o)
		if err != nil {
			fleet.Close()
			return nil, err
		}
		fleet.threads = append(fleet.threads, t)
	}
	calls := make([]*call, o.Calls)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	for i := range calls {
		group.Go(func() (err error) { calls[i], err = open(ctx, o, i); return err })
	}
	err := group.Wait()
	for i, c := range calls {
		if c != nil {
			err = errors.Join(err, fleet.threads[i%o.Threads].add(c))
		}
	}
	if err != nil {
		fleet.Close()
		return nil, err
	}
	return fleet, nil
}

// Close drops whatever is open, without a word.
func (f *Fleet) Close() {
	for _, t := range f.threads {
		t.close()
	}
}

// Talk has all calls say something for a time, and waits for as long as grace for what is under way then.
func (f *Fleet) Talk(ctx context.Context, lasts, grace time.Duration) Report {
	return f.all(func(t *thread) { t.talk(ctx, lasts, grace) })
}

// HangUp ends all calls with a stop, and waits for as long as grace until they are closed.
func (f *Fleet) HangUp(ctx context.Context, grace time.Duration) Report {
	return f.all(func(t *thread) { t.hangUp(ctx, grace) })
}

// Listen hears what comes until all calls are closed, or the time is over.
func (f *Fleet) Listen(ctx context.Context, lasts time.Duration) Report {
	return f.all(func(t *thread) { t.await(ctx, lasts, t.ended) })
}

// all threads do something; their reports are added up.
func (f *Fleet) all(do func(*thread)) Report {
	var group sync.WaitGroup
	for _, t := range f.threads {
		group.Go(func() { t.report = Report{Codes: map[int]int{}}; do(t); t.settle() })
	}
	group.Wait()
	sum := Report{Codes: map[int]int{}}
	for _, t := range f.threads {
		report := t.report
		sum.Sent += report.Sent
		sum.Equal += report.Equal
		sum.Wrong += report.Wrong
		sum.Missing += report.Missing
		sum.Skipped += report.Skipped
		sum.Late = max(sum.Late, report.Late)
		sum.RoundTrip = append(sum.RoundTrip, report.RoundTrip...)
		for code, n := range report.Codes {
			sum.Codes[code] += n
		}
	}
	slices.Sort(sum.RoundTrip)
	return sum
}
