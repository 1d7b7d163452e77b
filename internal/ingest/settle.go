package ingest

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/caly-dev/caly/internal/store"
)

// Settlement stores a batch of events so that one that cannot be stored as it is does not keep out the others.
type Settlement struct {
	// Store stores events in one transaction. Its errors are those of store.IngestBatch.
	Store func(events []store.Event) ([]store.Outcome, error)
	// Settled is called once for each part of the batch, with the part's place in the batch. An error is not the fault
	// of one of its events, or the part is one event. Settle ends with the error that Settled returns.
	Settled func(at int, events []store.Event, outcomes []store.Outcome, err error) error
	// Dead is called for an event that PostgreSQL refuses, before it is stored as a dead one.
	Dead func(e *store.Event, err error)
}

// PanicError is a panic of the store. One event of the batch may be its cause.
type PanicError struct {
	Value any
	Stack []byte
}

// Error returns what the panic was.
func (e *PanicError) Error() string { return fmt.Sprintf("the store panicked: %v", e.Value) }

// Settle stores events. If a batch is refused because of something in it, each half is tried by itself, until the event
// at fault is alone. That event is then stored without its recordings or as a dead one.
func (s Settlement) Settle(events []store.Event) error { return s.settle(0, events) }

func (s Settlement) settle(at int, events []store.Event) error {
	outcomes, err := s.try(events)
	why := store.DeadReason(err)
	var broken *PanicError
	switch {
	case len(events) > 1 && (why != "" || errors.As(err, &broken)):
		half := len(events) / 2
		if err := s.settle(at, events[:half]); err != nil {
			return err
		}
		return s.settle(at+half, events[half:])
	case why != "" && events[0].DeadReason == "":
		events[0] = s.bury(events[0], why, err)
		return s.settle(at, events)
	}
	return s.Settled(at, events, outcomes, err)
}

// try calls Store and returns a panic of it as an error.
func (s Settlement) try(events []store.Event) (outcomes []store.Outcome, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return s.Store(events)
}

// bury returns an event that PostgreSQL refuses without its recordings, if those are why, or else as a dead one without
// what was read from it.
func (s Settlement) bury(e store.Event, why string, err error) store.Event {
	if errors.Is(err, store.ErrTooManyRecordings) && len(e.Recordings) > 0 {
		return e.WithoutRecordings()
	}
	s.Dead(&e, err)
	e.DeadReason = why
	e.Call = store.Call{}
	e.Recordings = nil
	e.Stream = nil
	e.Unread = nil
	e.Stage = store.CallUnknown
	e.Assumed = false
	e.Legs = nil
	return e
}
