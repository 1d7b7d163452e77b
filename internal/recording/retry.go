package recording

import "time"

// Figures of the retries of one recording. The waits span a little over two hours, which Exotel may take to publish a
// recording.
const (
	// MaxAttempts is the number of failed attempts that end a recording once Window is over.
	MaxAttempts = 12
	// firstWait is the wait after the first failed attempt. Each further one doubles it.
	firstWait = 30 * time.Second
	// longestWait bounds the wait between two attempts.
	longestWait = 15 * time.Minute
	// Window is the time after a recording was queued in which no number of failed attempts ends it.
	Window = 2 * time.Hour
)

// Wait returns the wait before the next attempt of a recording, after a number of failed attempts before this one.
func Wait(failed int) time.Duration {
	wait := firstWait
	for range failed {
		if wait *= 2; wait >= longestWait {
			return longestWait
		}
	}
	return wait
}

// WaitsOfLostPods returns the waits before the next attempt of a recording whose upload pod ended without a report, by
// the number of failed attempts before. The first time a recording is due at once: most pods end for another reason.
// The last wait is that of all later attempts.
func WaitsOfLostPods() []time.Duration {
	waits := make([]time.Duration, 1, MaxAttempts)
	for failed := range MaxAttempts - 1 {
		waits = append(waits, Wait(failed))
	}
	return waits
}
