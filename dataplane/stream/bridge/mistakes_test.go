package bridge

import (
	"testing"

	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/budget"
)

// TestMistakesAmongGoodFrames verifies that malformed frames of an agent end no call in which the agent also sends good ones.
func TestMistakesAmongGoodFrames(t *testing.T) {
	for _, protocol := range []agent.Protocol{agent.Exotel, agent.Twilio, agent.PCM} {
		t.Run(string(protocol), func(t *testing.T) {
			r, exotel, agentPeer := burstCall(t, protocol, 8000, budget.New(SharedMemory))
			agentPeer.Bytes(speakers[protocol].mark("first"))
			for range 3 * maxRefused {
				agentPeer.Text(`not JSON`)
			}
			agentPeer.Bytes(speakers[protocol].mark("last"))
			if got, err := listen(exotel, 1_000_000, "last"); err != nil || len(got.events) != 2 {
				t.Errorf("closed with %d after %q: %v", got.closed, got.events, err)
			}
			r.cut(nil)
			if end := r.end(); end.ToExotel.Refused != 3*maxRefused {
				t.Errorf("%d were counted", end.ToExotel.Refused)
			}
		})
	}
}
