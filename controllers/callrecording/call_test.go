package callrecording

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
)

func TestCallOutcome(t *testing.T) {
	at := ptr.To(metav1.NewTime(noon).Rfc3339Copy())
	got := callOutcome(store.CallFacts{
		Outcome: store.CallCompleted,
		Legs: []store.Leg{
			{Kind: store.LegDial, Number: "0911", State: store.CallNoAnswer, At: noon},
			{Kind: store.LegAgent, Agent: "a@acme.example", Presence: store.PresenceFree},
			{Kind: store.LegDial, Number: "0912", State: store.CallCompleted, Seconds: 40},
		},
	})
	want := &v1alpha1.CallOutcome{
		Outcome: "completed",
		Legs: []v1alpha1.CallLeg{
			{Kind: "dial", Number: "0911", Result: "no-answer", OnCallSeconds: ptr.To[int32](0), ReportedTime: at},
			{Kind: "agent", Agent: "a@acme.example", Result: "free"},
			{Kind: "dial", Number: "0912", Result: "completed", OnCallSeconds: ptr.To[int32](40)},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("call (-want +got):\n%s", d)
	}
	if got := callOutcome(store.CallFacts{}); got != nil {
		t.Errorf("an unknown call shows %+v, want nothing", got)
	}
	var many store.CallFacts
	for i := range 64 {
		many.Legs = append(many.Legs, store.Leg{Kind: store.LegDial, Number: fmt.Sprint(i)})
	}
	if got := callOutcome(many); len(got.Legs) != 16 || got.Legs[15].Number != "63" || got.Outcome != "unknown" {
		t.Errorf("of many legs it shows %+v, want the last 16", got)
	}
}

// TestCallIsShown verifies that a CallRecording shows the outcome and the legs of its call, from the call's row.
func TestCallIsShown(t *testing.T) {
	rig := newSubject(t)
	rig.Tenant(t, "support")
	callRecording := rig.apply(t, "shown")
	rig.PG.Exec(t, `INSERT INTO calls (tenant, call_sid, state, legs) VALUES ($1, 'call-1', 4,
		'{"dial:7/1": {"number": "0912", "weight": 4, "seconds": 40, "called": true,
			"at": "2026-03-01T12:00:00Z"}}')`, callRecording.TenantID())
	now, _ := rig.reconcile(t, callRecording)
	want := &v1alpha1.CallOutcome{
		Outcome: "completed",
		Legs: []v1alpha1.CallLeg{{
			Kind:          "dial",
			Number:        "0912",
			Result:        "completed",
			OnCallSeconds: ptr.To[int32](40),
			ReportedTime:  ptr.To(metav1.NewTime(noon).Rfc3339Copy()),
		}},
	}
	if d := cmp.Diff(want, now.Status.Call); d != "" {
		t.Errorf("call (-want +got):\n%s", d)
	}
}
