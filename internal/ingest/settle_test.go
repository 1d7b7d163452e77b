package ingest

import (
	"errors"
	"fmt"
	"math/bits"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
)

// faultyStore refuses batches with certain events, by their call.
type faultyStore struct {
	faults map[string]func() error
	tries  int
}

func (f *faultyStore) ingest(events []store.Event) ([]store.Outcome, error) {
	f.tries++
	outcomes := make([]store.Outcome, len(events))
	for i := range events {
		e := &events[i]
		outcomes[i] = store.Applied
		if e.DeadReason != "" {
			outcomes[i] = store.Dead
			continue
		}
		if fault := f.faults[e.CallSID]; fault != nil {
			if err := fault(); !errors.Is(err, store.ErrTooManyRecordings) || len(e.Recordings) > 0 {
				return nil, err
			}
		}
	}
	return outcomes, nil
}

func batchOf(n int) []store.Event {
	events := make([]store.Event, n)
	for i := range events {
		events[i] = store.Event{
			CallSID:    fmt.Sprint("c", i),
			Call:       store.Call{State: store.CallBusy, From: "1"},
			Stage:      store.CallRinging,
			Assumed:    true,
			Legs:       []store.Leg{{Key: "leg"}},
			Recordings: []store.NewRecording{{ID: "r"}},
			Stream:     &store.Stream{SID: "s"},
			Unread:     []store.Unread{{Field: "To", Reason: reason.FieldMalformed}},
		}
	}
	return events
}

// TestSettle checks what becomes of each event of a batch in which some are at fault.
func TestSettle(t *testing.T) {
	refuse := func() error { return &store.ServerError{Code: "23514"} }
	crowded := func() error { return fmt.Errorf("ingest: %w", store.ErrTooManyRecordings) }
	broken := func() error { panic("a defect") }
	down := func() error { return store.ErrUnavailable }
	for name, tc := range map[string]struct {
		events int
		faults map[string]func() error
		want   map[string]string // of the events that are not simply applied
		dead   []string
	}{
		"none":         {events: 5},
		"the only one": {1, map[string]func() error{"c0": refuse}, map[string]string{"c0": "dead"}, []string{"c0"}},
		"the first":    {7, map[string]func() error{"c0": refuse}, map[string]string{"c0": "dead"}, []string{"c0"}},
		"the last":     {7, map[string]func() error{"c6": refuse}, map[string]string{"c6": "dead"}, []string{"c6"}},
		"two neighbors": {8, map[string]func() error{
			"c3": refuse,
			"c4": refuse,
		}, map[string]string{
			"c3": "dead",
			"c4": "dead",
		}, []string{"c3", "c4"}},
		"too many recordings": {4, map[string]func() error{"c2": crowded}, map[string]string{
			"c2": "without recordings"}, nil},
		"a panic": {4, map[string]func() error{"c1": broken}, map[string]string{
			"c1": "the store panicked: a defect",
		}, nil},
		"of the moment": {3, map[string]func() error{"c2": down}, map[string]string{
			"c0": store.ErrUnavailable.Error(),
			"c1": store.ErrUnavailable.Error(),
			"c2": store.ErrUnavailable.Error(),
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			faulty := &faultyStore{faults: tc.faults}
			got, want := map[string]string{}, map[string]string{}
			var dead []string
			original := batchOf(tc.events)
			for i := range original {
				want[original[i].CallSID] = "applied"
			}
			for sid, what := range tc.want {
				want[sid] = what
			}
			err := Settlement{
				Store: faulty.ingest,
				Settled: func(at int, events []store.Event, outcomes []store.Outcome, err error) error {
					for i := range events {
						if e := &events[i]; e.CallSID != original[at+i].CallSID || got[e.CallSID] != "" {
							t.Errorf("place %d has %s, which was %q before", at+i, e.CallSID, got[e.CallSID])
						}
						got[events[i].CallSID] = ending(t, &original[at+i], &events[i], outcomes, i, err)
					}
					return nil
				},
				Dead: func(e *store.Event, _ error) { dead = append(dead, e.CallSID) },
			}.Settle(batchOf(tc.events))
			if err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.dead, dead); diff != "" {
				t.Errorf("reported as dead (-want +got):\n%s", diff)
			}
			if most := 1 + len(tc.faults)*(2*bits.Len(uint(tc.events))+1); faulty.tries > most {
				t.Errorf("%d transactions, want at most %d", faulty.tries, most)
			}
		})
	}
}

// ending is what became of an event, in a word.
func ending(t *testing.T, before, after *store.Event, outcomes []store.Outcome, i int, err error) string {
	t.Helper()
	without := before.WithoutRecordings()
	switch {
	case err != nil:
		return err.Error()
	case outcomes[i] == store.Dead:
		want := store.Event{CallSID: before.CallSID, DeadReason: reason.DeadRefused}
		if diff := cmp.Diff(want, *after); diff != "" {
			t.Errorf("the dead event (-want +got):\n%s", diff)
		}
		return "dead"
	case cmp.Equal(*before, *after):
		return "applied"
	case cmp.Equal(without, *after):
		return "without recordings"
	}
	return cmp.Diff(*before, *after)
}

// TestSettleStops checks that an error of Settled ends it.
func TestSettleStops(t *testing.T) {
	stop := errors.New("stop")
	faulty := &faultyStore{
		faults: map[string]func() error{"c0": func() error { return &store.ServerError{Code: "23514"} }},
	}
	settled := 0
	err := Settlement{
		Store:   faulty.ingest,
		Settled: func(int, []store.Event, []store.Outcome, error) error { settled++; return stop },
		Dead:    func(*store.Event, error) {},
	}.Settle(batchOf(8))
	if !errors.Is(err, stop) || settled != 1 {
		t.Errorf("%v after %d parts, want %v after the first", err, settled, stop)
	}
}
