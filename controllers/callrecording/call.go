package callrecording

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
)

// maxLegs is how many legs a CallRecording shows, the last ones. The row has them all.
const maxLegs = 16

// callOutcome is what a CallRecording shows of its call; nil while nothing is known.
func callOutcome(f store.CallFacts) *v1alpha1.CallOutcome {
	if f.Outcome == store.CallUnknown && len(f.Legs) == 0 {
		return nil
	}
	c := &v1alpha1.CallOutcome{Outcome: f.Outcome.String()}
	for _, l := range f.Legs[max(0, len(f.Legs)-maxLegs):] {
		c.Legs = append(c.Legs, callLeg(l))
	}
	return c
}

func callLeg(l store.Leg) v1alpha1.CallLeg {
	leg := v1alpha1.CallLeg{Kind: string(l.Kind), Number: l.Number, Agent: l.Agent, Result: l.Presence.String()}
	if l.Kind != store.LegAgent {
		leg.Result = l.State.String()
		leg.OnCallSeconds = ptr.To(int32(min(l.Seconds, 1<<20))) //nolint:gosec // bounded here
	}
	if !l.At.IsZero() {
		leg.ReportedTime = ptr.To(metav1.NewTime(l.At).Rfc3339Copy())
	}
	return leg
}
