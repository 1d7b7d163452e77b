package recording

import "time"

// Figures of the retries of one recording. With the twelve attempts of its row the waits span a little over two hours,
// which Exotel may take to publish a recording.
const (
	// FirstWait is the wait after the first failed attempt. Each further one doubles it.
	FirstWait = 30 * time.Second
	// LongestWait bounds the wait between two attempts.
	LongestWait = 15 * time.Minute
	// Window is the time after a recording was queued in which no number of failed attempts ends it.
	Window = 2 * time.Hour
)

// Wait returns the wait before the next attempt of a recording, after a number of failed attempts before this one.
func Wait(failed int) time.Duration {
	wait := FirstWait
	for range failed {
		if wait *= 2; wait >= LongestWait {
			return LongestWait
		}
	}
	return wait
}
