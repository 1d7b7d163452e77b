package main

import (
	"testing"

	"github.com/caly-dev/caly/internal/store"
)

// TestReplayOfWhatWasApplied checks what is reported of events that a replay leaves as they are.
func TestReplayOfWhatWasApplied(t *testing.T) {
	for name, tc := range map[string]struct {
		done store.Replay
		want replayResult
	}{
		"applied": {store.Replay{Outcome: store.Applied}, replayResult{Result: "applied"}},
		"before": {store.Replay{Outcome: store.Duplicate},
			replayResult{Result: "duplicate", Message: "it was applied before"}},
		"partial, and dead for this version": {store.Replay{Outcome: store.Duplicate, Reason: "stale"},
			replayResult{
				Result:  "duplicate",
				Reason:  "stale",
				Message: "it was applied before, and stays as it is: this version cannot apply it again",
			}},
		"dead": {store.Replay{Outcome: store.Dead, Reason: "stale"}, replayResult{Result: "dead", Reason: "stale"}},
	} {
		var got replayResult
		if got.settle(tc.done); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}
