// Package outcome decides what became of a call from all that was said of it and of its legs.
//
// Each statement has a weight, and the greatest weight decides. The greatest of some numbers is the same for every
// order and repetition, so the outcome is too. The database stores the greatest weight that it saw and compares
// numbers: this package alone knows the rule.
package outcome

import (
	"slices"
	"time"
)

// State is what a call or a leg has come to. The numbers are stored.
type State int16

// States. All from Completed on end a call.
const (
	Unknown State = iota
	Queued
	Ringing
	InProgress
	Completed
	Busy
	NoAnswer
	Failed
	Canceled
)

// names of the states, by their numbers.
var names = []string{"unknown", "queued", "ringing", "in-progress", "completed", "busy", "no-answer", "failed",
	"canceled"}

// Names returns the names of all states, by their numbers.
func Names() []string { return slices.Clone(names) }

// String returns the state's name.
func (s State) String() string {
	if s < 0 || int(s) >= len(names) {
		return names[Unknown]
	}
	return names[s]
}

// Named returns the state of that name, and Unknown for any other name.
func Named(name string) State { return State(max(slices.Index(names, name), 0)) } //nolint:gosec // one of nine

// Final reports whether the state ends a call.
func (s State) Final() bool { return s >= Completed }

// Statement is what one event says of a call, or of one of its legs.
type Statement struct {
	// Whole is true for a statement about the whole call, and false for one about a leg.
	Whole bool
	State State
	// At is when it was said; zero if the event names no time.
	At time.Time
	// Talked is true if two parties talked. That completes a call, whatever the state says.
	Talked bool
	// Assumed is true if the event says that the call has ended, and not how: its state is Completed. Every statement
	// with a result counts more.
	Assumed bool
}

// Weight is a statement's place among all others. 0 says nothing.
//
// The highest bits are the class, then comes the time in seconds, then the state.
type Weight int64

// Classes of statements, each above all before it. A state that ends nothing has no time: a call goes through those
// states in one order. Stored weights hold these numbers.
const (
	classOldOpen  = iota // stored by a version that knew states only
	classLegOpen         // a leg rings or is on the call
	classLegFinal        // a leg has ended without talk
	classOpen            // the call has not ended
	classOldFinal        // stored by a version that knew states only: of a call or a leg
	classFinal           // the call has ended
	classTalked          // two parties talked
)

const (
	stateBits  = 4
	timeBits   = 40
	classShift = stateBits + timeBits
	maxSecond  = 1<<timeBits - 2 // completed adds one
)

// Weight returns the statement's weight.
func (s Statement) Weight() Weight {
	final := s.State.Final()
	switch {
	case s.Talked:
		return weigh(classTalked, 0, Completed)
	case s.State == Unknown:
		return 0
	case s.Whole && final && s.Assumed:
		return weigh(classFinal, 0, s.State)
	case s.Whole && s.State == Completed:
		// One second more than it was said, so that completed counts among the statements of one second. Exotel does
		// not let a completed call fail, but may send the failure of a leg as that of the call. The layout of stored
		// weights stays the same.
		return weigh(classFinal, second(s.At)+1, s.State)
	case s.Whole && final:
		return weigh(classFinal, second(s.At), s.State)
	case s.Whole:
		return weigh(classOpen, 0, s.State)
	case final:
		return weigh(classLegFinal, second(s.At), s.State)
	}
	return weigh(classLegOpen, 0, s.State)
}

// Old returns the weight of a call's state that a version without weights stored or sends. caly_old_weight of the
// database does the same.
func Old(s State, talked bool) Weight {
	switch {
	case talked:
		return weigh(classTalked, 0, Completed)
	case s.Final():
		return weigh(classOldFinal, 0, s)
	}
	return weigh(classOldOpen, 0, s)
}

func weigh(class, second int64, s State) Weight {
	return Weight(class<<classShift | second<<stateBits | int64(s))
}

func second(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return min(max(t.Unix(), 0), maxSecond)
}

// State returns what the statement says.
func (w Weight) State() State { return State(w & (1<<stateBits - 1)) }

// EndKnown is the least weight of a statement about the whole call after which nothing better is expected of Exotel.
const EndKnown = Weight(classFinal << classShift)

// Ranks of an event, by what it speaks of. Where events give different values for a field of the call, such as its
// numbers, the value of the event with the greatest rank stays. Versions before this one stored ranks of up to 8.
const (
	RankOther = 9 + iota
	RankLegOpen
	RankLegFinal
	RankOpen
	RankFinal
)

// Rank returns the rank of an event from its statement about the whole call and the weight of those about legs.
func Rank(whole Statement, legs Weight) int16 {
	switch {
	case whole.State.Final():
		return RankFinal
	case whole.State != Unknown:
		return RankOpen
	case legs.State().Final():
		return RankLegFinal
	case legs != 0:
		return RankLegOpen
	}
	return RankOther
}
