package reconcile

import (
	"errors"
	"fmt"
	"time"

	"github.com/caly-dev/caly/internal/conditions"
)

// Stop ends a reconcile before its last step. It is an error for the sake of the steps, and not a fault.
type Stop struct {
	// Reason and Message of the conditions; empty if it sets none.
	Reason, Message string
	// After is when the object is reconciled again. 0: once it changes, or what it depends on.
	After time.Duration

	ending ending
}

// ending is how a Stop ends a reconcile.
type ending int

const (
	done ending = iota
	retry
	stalled
	abandon
)

// Stalled stops until a person changes something.
func Stalled(reason, format string, args ...any) *Stop {
	return &Stop{ending: stalled, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Retry stops until another attempt may succeed.
func Retry(after time.Duration, reason, format string, args ...any) *Stop {
	return &Stop{ending: retry, After: after, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Done stops with the conditions as the steps have set them.
func Done(after time.Duration) *Stop { return &Stop{ending: done, After: after} }

// Abandon stops without a write: the object was deleted, or it has changed since it was read.
func Abandon(after time.Duration) *Stop { return &Stop{ending: abandon, After: after} }

// Again returns the same Stop with another After.
func (s *Stop) Again(after time.Duration) *Stop {
	other := *s
	other.After = after
	return &other
}

// Error returns the message.
func (s *Stop) Error() string {
	if s.Message == "" {
		return "the reconcile has ended"
	}
	return s.Message
}

// IsStalled reports whether only a person can help.
func (s *Stop) IsStalled() bool { return s.ending == stalled }

// Abandons reports whether nothing is written.
func (s *Stop) Abandons() bool { return s.ending == abandon }

// StopOf returns the Stop that an error is or wraps.
func StopOf(err error) (*Stop, bool) {
	var stop *Stop
	ok := errors.As(err, &stop)
	return stop, ok
}

// mark sets the conditions that the Stop asks for.
func (s *Stop) mark(o Object) {
	switch s.ending {
	case stalled:
		conditions.MarkStalled(o, s.Reason, s.Message)
	case retry:
		conditions.MarkReconciling(o, s.Reason, s.Message)
	case done, abandon:
	}
}
