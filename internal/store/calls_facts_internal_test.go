package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// TestLegFacts verifies that legs survive a round trip through the database, for any texts.
func TestLegFacts(t *testing.T) {
	pgtest.SameOnEachServer(t)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	full := Leg{
		Kind:     "leg",
		Key:      "leg:0",
		Number:   "+919800000001",
		Agent:    "a@example.com",
		State:    CallBusy,
		Called:   true,
		Seconds:  40,
		Presence: PresenceFree,
		At:       at,
	}
	talked := full
	talked.State = CallCompleted // two parties who talked complete a call
	for name, tc := range map[string]struct {
		legs, want []Leg
	}{
		"none":        {},
		"bare":        {legs: []Leg{{Kind: "dial", Key: "dial:/"}}, want: []Leg{{Kind: "dial", Key: "dial:/"}}},
		"every field": {legs: []Leg{full}, want: []Leg{talked}},
		"two": {
			legs: []Leg{{Kind: "leg", Key: "leg:1", Number: "b"}, {Kind: "leg", Key: "leg:0", Number: "a"}},
			want: []Leg{{Kind: "leg", Key: "leg:0", Number: "a"}, {Kind: "leg", Key: "leg:1", Number: "b"}},
		},
		"hostile texts": {
			legs: []Leg{{Kind: "dial", Key: "dial:\"},\"x\":{", Number: "\\\"\n\x01<>&\u2028", Agent: "प्रिया"}},
			want: []Leg{{Kind: "dial", Key: "dial:\"},\"x\":{", Number: "\\\"\n\x01<>&\u2028", Agent: "प्रिया"}},
		},
		"invalid UTF-8": {
			legs: []Leg{{Kind: "leg", Key: "leg:0", Number: "\xff"}},
			want: []Leg{{Kind: "leg", Key: "leg:0", Number: "\ufffd"}},
		},
		"endless talk": {
			legs: []Leg{{Kind: "leg", Key: "leg:0", Seconds: 1 << 40}},
			want: []Leg{{Kind: "leg", Key: "leg:0", State: CallCompleted, Seconds: maxSeconds}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := legsOf(legFacts(&Event{Legs: tc.legs, SaidAt: at}))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("legs (-want +got):\n%s", diff)
			}
		})
	}
}
