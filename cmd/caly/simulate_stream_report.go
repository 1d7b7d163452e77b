package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/simulator/exotelsim"
)

// outcome of one call.
type outcome struct {
	exotelsim.Report
	err error
}

// early tells that the stream did not last as long as it was to.
func (o outcome) early() bool { return o.err == nil && !o.HungUp }

// String is a call's line.
func (o outcome) String() string {
	if o.err != nil {
		return "call " + o.CallSID + " failed: " + o.err.Error()
	}
	s := fmt.Sprintf("call %s: %s", o.CallSID, figures{o.Sent, o.Received, o.Echo, o.Latency, o.Gaps})
	if o.Invalid > 0 {
		s += fmt.Sprintf(", %d invalid messages (%s)", o.Invalid, o.Problem)
	}
	s += fmt.Sprintf(", closed with %d", o.Code)
	if o.early() {
		s += " before its time"
	}
	return s
}

// figures of one call, or of all.
type figures struct {
	sent, received exotelsim.Traffic
	echo           exotelsim.Echo
	latency, gaps  []time.Duration
}

// String returns the report of one line.
func (f figures) String() string {
	return fmt.Sprintf(
		"sent %d frames (%d bytes), received %d (%d): %d equal, %d wrong, %d lost, %d missing, %d extra; latency "+
			"p50 %s p99 %s; %d gaps, longest %s",
		f.sent.Frames,
		f.sent.Bytes,
		f.received.Frames,
		f.received.Bytes,
		f.echo.Equal,
		f.echo.Wrong,
		f.echo.Lost,
		f.echo.Missing,
		f.echo.Extra,
		quantile(f.latency, 0.5),
		quantile(f.latency, 0.99),
		len(f.gaps),
		quantile(f.gaps, 1),
	)
}

// add adds the counts of one call. Latencies are merged, not averaged.
func (f *figures) add(r exotelsim.Report) {
	f.sent.Frames += r.Sent.Frames
	f.sent.Bytes += r.Sent.Bytes
	f.received.Frames += r.Received.Frames
	f.received.Bytes += r.Received.Bytes
	f.echo.Equal += r.Echo.Equal
	f.echo.Wrong += r.Echo.Wrong
	f.echo.Lost += r.Echo.Lost
	f.echo.Missing += r.Echo.Missing
	f.echo.Extra += r.Echo.Extra
	f.latency = append(f.latency, r.Latency...)
	f.gaps = append(f.gaps, r.Gaps...)
}

// quantile is the smallest value that a share of them does not exceed; 0 of none.
func quantile(list []time.Duration, share float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	i := int(share*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)].Round(10 * time.Microsecond)
}

// total of all calls.
type total struct {
	figures
	calls, failed, early, broken, invalid int
	late                                  time.Duration
	codes                                 map[int]int
}

// totalOf adds up. With an echo expected, a call that did not get all of it back is broken.
func totalOf(outcomes []outcome, echoed bool) total {
	s := total{calls: len(outcomes), codes: map[int]int{}}
	for _, o := range outcomes {
		if o.err != nil {
			s.failed++
			continue
		}
		s.add(o.Report)
		s.codes[o.Code]++
		s.invalid += o.Invalid
		s.late = max(s.late, o.Late)
		if o.early() {
			s.early++
		}
		if echoed && !o.Echo.Whole() {
			s.broken++
		}
	}
	return s
}

// String is the line of all calls.
func (s total) String() string {
	codes := make([]string, 0, len(s.codes))
	for _, code := range slices.Sorted(maps.Keys(s.codes)) {
		codes = append(codes, fmt.Sprintf("%d with %d", s.codes[code], code))
	}
	return fmt.Sprintf("%d calls, %d failed, %d ended early, %d incomplete: %s; closed: %s; sender at most %s late",
		s.calls, s.failed, s.early, s.broken, s.figures, strings.Join(codes, ", "), s.late.Round(10*time.Microsecond))
}

// err tells of what must not be.
func (s total) err() error {
	var problems []string
	for _, p := range []struct {
		n    int
		what string
	}{
		{s.failed, "calls could not be opened"},
		{s.early, "calls ended before their time"},
		{s.broken, "calls did not get back what they sent"},
		{s.invalid, "messages were none that Exotel understands"}} {
		if p.n > 0 {
			problems = append(problems, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	if problems == nil {
		return nil
	}
	return errors.New(strings.Join(problems, "; "))
}
