package upload

import (
	"fmt"
	"sync"
	"time"
)

// trouble counts faults of the whole tenant. Concurrent transfers meet the same fault together, so it counts episodes:
// after a fault the worker pauses, and only a transfer that began after the pause can be the next episode.
type trouble struct {
	tries int

	mu     sync.Mutex
	number int // of the episode
	row    int // episodes without a success in between
	until  time.Time
	last   *fault
}

// episode returns the number of the current episode. A transfer remembers the number at its start.
func (t *trouble) episode() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.number
}

// add notes a fault met by a transfer that began in the given episode.
func (t *trouble) add(f *fault, episode int, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if until.After(t.until) {
		t.until = until
	}
	t.last = f
	if episode == t.number {
		t.number++
		t.row++
	}
}

// over notes a success.
func (t *trouble) over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.row = 0
}

// pausedUntil returns the time before which the worker claims no recording.
func (t *trouble) pausedUntil() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.until
}

// err is set once the tries are used up: a *configError when a person must correct something.
func (t *trouble) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.row < t.tries {
		return nil
	}
	err := fmt.Errorf("gave up after %d tries: %w", t.row, t.last)
	if t.last.kind == misconfigured {
		return &configError{err}
	}
	return err
}
