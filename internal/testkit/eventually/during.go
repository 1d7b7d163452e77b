package eventually

import (
	"testing"
	"time"
)

// checksDuring is about how often During checks its condition.
const checksDuring = 64

// During is a time for which a condition must hold.
type During time.Duration

// Holds checks again and again that ok returns true. It ends the test otherwise: what names the condition, such as "the
// pod stays ready".
func (d During) Holds(t testing.TB, what string, ok func() bool) {
	t.Helper()
	pause := min(max(time.Duration(d)/checksDuring, shortestPause), longestPause)
	for began := time.Now(); ; time.Sleep(pause) {
		if !ok() {
			t.Fatalf("not for %s: %s; it ended after %s", time.Duration(d), what, time.Since(began))
		}
		if time.Since(began) >= time.Duration(d) {
			return
		}
	}
}
