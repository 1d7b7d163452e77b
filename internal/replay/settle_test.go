package replay

import (
	"testing"

	"github.com/caly-dev/caly/internal/store"
)

// TestReplayOfWhatWasApplied checks what is reported of events that a replay leaves as they are.
func TestReplayOfWhatWasApplied(t *testing.T) {
	for name, tc := range map[string]struct {
		done store.Replay
		want Result
	}{
		"applied": {store.Replay{Outcome: store.Applied}, Result{Result: "applied"}},
		"before": {store.Replay{Outcome: store.Duplicate},
			Result{Result: "duplicate", Message: "it was applied before"}},
		"partial, and dead for this version": {store.Replay{Outcome: store.Duplicate, Reason: "stale"},
			Result{
				Result:  "duplicate",
				Reason:  "stale",
				Message: "it was applied before, and stays as it is: this version cannot apply it again",
			}},
		"dead": {store.Replay{Outcome: store.Dead, Reason: "stale"}, Result{Result: "dead", Reason: "stale"}},
	} {
		var got Result
		if got.settle(tc.done); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}
