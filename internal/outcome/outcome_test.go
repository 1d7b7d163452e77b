package outcome_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/caly-dev/caly/internal/outcome"
)

func at(second int64) time.Time {
	if second == 0 {
		return time.Time{}
	}
	return time.Unix(1_790_000_000+second, 0)
}

func whole(s outcome.State, second int64) outcome.Statement {
	return outcome.Statement{Whole: true, State: s, At: at(second)}
}

func leg(s outcome.State, second int64) outcome.Statement {
	return outcome.Statement{State: s, At: at(second)}
}

// greatest is the outcome as the database decides it: the state of the greatest weight.
func greatest(weights ...outcome.Weight) outcome.State { return slices.Max(append(weights, 0)).State() }

func TestOutcome(t *testing.T) {
	talk := outcome.Statement{State: outcome.Completed, Talked: true}
	for name, tc := range map[string]struct {
		statements []outcome.Statement
		want       outcome.State
	}{
		"nothing": {nil, outcome.Unknown},
		"unknown words": {[]outcome.Statement{whole(outcome.Unknown, 9), leg(outcome.Unknown, 9)},
			outcome.Unknown},
		"the life of a call": {[]outcome.Statement{whole(outcome.InProgress, 1), whole(outcome.Ringing,
			5)}, outcome.InProgress},
		"the call over a leg": {[]outcome.Statement{whole(outcome.NoAnswer, 1), leg(outcome.Busy, 9)},
			outcome.NoAnswer},
		"a call that goes on over a leg": {[]outcome.Statement{whole(outcome.InProgress, 0), leg(outcome.NoAnswer,
			9)}, outcome.InProgress},
		"an ended leg over a ringing one": {[]outcome.Statement{leg(outcome.NoAnswer, 1), leg(outcome.Ringing, 9)},
			outcome.NoAnswer},
		"the later leg": {[]outcome.Statement{leg(outcome.NoAnswer, 1), leg(outcome.Busy, 2)},
			outcome.Busy},
		"the later statement": {[]outcome.Statement{whole(outcome.Failed, 1), whole(outcome.Completed,
			2)}, outcome.Completed},
		"no time is lowest": {[]outcome.Statement{whole(outcome.Canceled, 0), whole(outcome.Completed,
			1)}, outcome.Completed},
		"the same second, the more exact": {[]outcome.Statement{whole(outcome.NoAnswer, 1), whole(outcome.Busy, 1)},
			outcome.NoAnswer},
		"the same second, completed": {[]outcome.Statement{whole(outcome.Canceled, 1), whole(outcome.Completed, 1)},
			outcome.Completed},
		"the same second, late in time": {[]outcome.Statement{whole(outcome.Failed, 1<<50),
			whole(outcome.Completed, 1<<50)}, outcome.Completed},
		"failed a second later": {[]outcome.Statement{whole(outcome.Failed, 2), whole(outcome.Completed, 1)},
			outcome.Failed},
		"completed, both at no time": {[]outcome.Statement{whole(outcome.Busy, 0), whole(outcome.Completed, 0)},
			outcome.Completed},
		"an assumed result gives way": {[]outcome.Statement{whole(outcome.Busy, 0),
			{Whole: true, State: outcome.Completed, At: at(9), Assumed: true}}, outcome.Busy},
		"a stage that is completed over none": {[]outcome.Statement{leg(outcome.Completed, 1), leg(outcome.NoAnswer,
			1)},
			outcome.NoAnswer},
		"final over open, whatever time": {[]outcome.Statement{whole(outcome.Completed, 1),
			whole(outcome.InProgress, 9)}, outcome.Completed},
		"talk over a later no-answer":      {[]outcome.Statement{talk, leg(outcome.NoAnswer, 9)}, outcome.Completed},
		"talk over the call's own failure": {[]outcome.Statement{talk, whole(outcome.Failed, 9)}, outcome.Completed},
		"talk without a word": {[]outcome.Statement{{Talked: true}, whole(outcome.InProgress, 1)},
			outcome.Completed},
		"before 1970 and after 36000": {[]outcome.Statement{{Whole: true, State: outcome.Busy, At: time.Unix(-9, 0)},
			{Whole: true, State: outcome.Failed, At: time.Unix(1<<50, 0)}}, outcome.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			var weights []outcome.Weight
			for _, s := range tc.statements {
				weights = append(weights, s.Weight())
			}
			if got := greatest(weights...); got != tc.want {
				t.Errorf("outcome %d, want %d", got, tc.want)
			}
		})
	}
}

// TestOld verifies that a state of an older version yields to each statement that knows more, and to no other.
func TestOld(t *testing.T) {
	for name, tc := range map[string]struct {
		old  outcome.State
		said outcome.Statement
		want outcome.State
	}{
		"busy for ever, then Call Details": {outcome.Busy, whole(outcome.Completed, 0), outcome.Completed},
		"no-answer for ever, then talk": {outcome.NoAnswer, outcome.Statement{Talked: true},
			outcome.Completed},
		"completed, then a late answered":       {outcome.Completed, whole(outcome.InProgress, 9), outcome.Completed},
		"completed, then a late dial":           {outcome.Completed, leg(outcome.NoAnswer, 9), outcome.Completed},
		"in progress, then ringing":             {outcome.InProgress, whole(outcome.Ringing, 9), outcome.Ringing},
		"ringing, then a dial":                  {outcome.Ringing, leg(outcome.NoAnswer, 9), outcome.NoAnswer},
		"a leg's busy, then the call's failure": {outcome.Busy, whole(outcome.Failed, 1), outcome.Failed},
	} {
		if got := greatest(outcome.Old(tc.old, false), tc.said.Weight()); got != tc.want {
			t.Errorf("%s: outcome %d, want %d", name, got, tc.want)
		}
	}
}

func statements(r *rapid.T) []outcome.Statement {
	return rapid.SliceOfN(rapid.Custom(func(r *rapid.T) outcome.Statement {
		said := outcome.Statement{
			Whole:   rapid.Bool().Draw(r, "whole"),
			State:   outcome.State(rapid.IntRange(0, 8).Draw(r, "state")),
			At:      at(rapid.Int64Range(0, 4).Draw(r, "at")),
			Talked:  rapid.IntRange(0, 9).Draw(r, "talked") == 0,
			Assumed: rapid.IntRange(0, 4).Draw(r, "assumed") == 0,
		}
		if said.Assumed { // an event that ends the call without a result: no other statement is assumed
			said.Whole = true
			said.State = outcome.Completed
		}
		return said
	}), 0, 8).Draw(r, "statements")
}

// counts reports whether a statement counts more than another one of its class.
func counts(s, other outcome.Statement) bool {
	switch completes := s.Whole && s.State == outcome.Completed; {
	case !s.State.Final():
		return s.State > other.State
	case s.Whole && s.Assumed != other.Assumed:
		return other.Assumed
	case !s.At.Equal(other.At) && (!s.Whole || !s.Assumed):
		return s.At.After(other.At)
	case s.State == other.State:
		return false
	case completes || s.Whole && other.State == outcome.Completed:
		return completes && !s.Assumed
	}
	return s.State > other.State
}

// decide is the rule as a person would write it: by searching the statements class by class.
func decide(list []outcome.Statement) outcome.State {
	for _, s := range list {
		if s.Talked {
			return outcome.Completed
		}
	}
	for _, class := range []struct{ whole, final bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
		best := outcome.Statement{}
		for _, s := range list {
			if s.State == outcome.Unknown || s.Whole != class.whole || s.State.Final() != class.final {
				continue
			}
			if best.State == outcome.Unknown || counts(s, best) {
				best = s
			}
		}
		if best.State != outcome.Unknown {
			return best.State
		}
	}
	return outcome.Unknown
}

// TestRule compares the weights with the rule in words, over many histories in many orders, with repetitions.
func TestRule(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		list := statements(r)
		var weights []outcome.Weight
		for _, s := range list {
			weights = append(weights, s.Weight())
		}
		want := decide(list)
		for range 4 {
			shuffled := weights
			if len(weights) > 0 {
				again := rapid.SliceOfN(rapid.SampledFrom(weights), 0, 3).Draw(r, "again")
				shuffled = rapid.Permutation(append(again, weights...)).Draw(r, "order")
			}
			if got := greatest(shuffled...); got != want {
				r.Fatalf("%+v end as %d, want %d", list, got, want)
			}
		}
	})
}

func TestRank(t *testing.T) {
	busy := leg(outcome.Busy, 1).Weight()
	for _, tc := range []struct {
		whole outcome.State
		legs  outcome.Weight
		want  int16
	}{
		{outcome.Completed, busy, outcome.RankFinal}, {outcome.InProgress, busy, outcome.RankOpen}, {outcome.Unknown,
			busy, outcome.RankLegFinal},
		{outcome.Unknown, leg(outcome.Ringing, 0).Weight(), outcome.RankLegOpen}, {outcome.Unknown, 0,
			outcome.RankOther},
	} {
		if got := outcome.Rank(whole(tc.whole, 1), tc.legs); got != tc.want {
			t.Errorf("%+v has rank %d, want %d", tc, got, tc.want)
		}
	}
}

func TestNames(t *testing.T) {
	for state, name := range map[outcome.State]string{
		outcome.Unknown:    "unknown",
		outcome.InProgress: "in-progress",
		outcome.NoAnswer:   "no-answer",
		outcome.Canceled:   "canceled",
		9:                  "unknown",
		-1:                 "unknown",
	} {
		if got := state.String(); got != name {
			t.Errorf("state %d is called %s, want %s", state, got, name)
		}
		if back := outcome.Named(name); back != state && name != "unknown" {
			t.Errorf("%s is state %d, want %d", name, back, state)
		}
	}
	if outcome.Named("nonsense") != outcome.Unknown {
		t.Error("an unknown name has a state")
	}
}
