package recording

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWait(t *testing.T) {
	for failed, want := range map[int]time.Duration{
		-1:      30 * time.Second,
		0:       30 * time.Second,
		1:       time.Minute,
		4:       8 * time.Minute,
		5:       15 * time.Minute,
		1 << 30: 15 * time.Minute,
	} {
		if diff := cmp.Diff(want, Wait(failed)); diff != "" {
			t.Errorf("Wait(%d) mismatch (-want +got):\n%s", failed, diff)
		}
	}
}

// TestAttemptsSpanTheWindow shows that the waits of a recording's attempts last until the window ends.
func TestAttemptsSpanTheWindow(t *testing.T) {
	var all time.Duration
	for failed := range MaxAttempts - 1 {
		all += Wait(failed)
	}
	if all*4/5 > Window || all < Window*3/4 {
		t.Errorf("the waits of %d attempts last %s, want about %s", MaxAttempts, all, Window)
	}
}

func TestWaitsOfLostPods(t *testing.T) {
	want := []time.Duration{
		0, 30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute,
		15 * time.Minute, 15 * time.Minute, 15 * time.Minute, 15 * time.Minute, 15 * time.Minute,
	}
	if diff := cmp.Diff(want, WaitsOfLostPods()); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
}
