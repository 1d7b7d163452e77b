package bridge

import (
	"testing"

	"github.com/caly-dev/caly/internal/exotel/agentstream"
)

// TestNothingFollowsTheClose checks that a lane takes no frame after the one that closes it, or after the call.
func TestNothingFollowsTheClose(t *testing.T) {
	for name, end := range map[string]func(*lane){
		"closed":   func(l *lane) { l.closeWith(1000, "over") },
		"released": func(l *lane) { l.release() },
	} {
		l := &lane{rate: 16_000, sink: sink{observer: &silent.ToAgent}}
		end(l)
		for _, kind := range []agentstream.Kind{agentstream.Media, agentstream.Mark, agentstream.Clear} {
			if err := l.send(kind, []byte("late"), 1, 0); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(l.queue) != 0 {
			t.Errorf("%s: %d frames wait that nobody may write", name, len(l.queue))
		}
	}
}
