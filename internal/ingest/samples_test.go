package ingest_test

import (
	"testing"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/ingest"
	"github.com/caly-dev/caly/internal/outcome"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
)

// TestSamples applies what Exotel sends of some calls, in each order of two.
func TestSamples(t *testing.T) {
	const (
		popup    = "CallSid=c1&Status=busy&EventType=Dial&AgentEmail=a@acme.example&DialWhomNumber=0911"
		answered = "CallSid=c1&DialCallStatus=completed&CallType=completed&flow_id=2&DialWhomNumber=0912" +
			"&Legs[0][OnCallDuration]=40"
		missed = "CallSid=c1&DialCallStatus=no-answer&CallType=incomplete&flow_id=1&DialWhomNumber=0911"
		first  = "CallSid=c1&EventType=terminal&Status=no-answer&Legs[0][Status]=completed" +
			"&Legs[0][OnCallDuration]=15" +
			"&Legs[1][Status]=no-answer"
	)
	for name, tc := range map[string]struct {
		sent []string
		want outcome.State
	}{
		"an agent was busy": {
			[]string{popup, answered, "CallSid=c1&EventType=terminal&Status=completed"},
			outcome.Completed,
		},
		"an agent was busy, and nothing else is known": {
			[]string{popup},
			outcome.Unknown,
		},
		"an agent who answered is busy": {
			[]string{"CallSid=c1&Status=busy&EventType=Answered&DialWhomNumber=0911",
				"CallSid=c1&EventType=terminal&Status=completed"},
			outcome.Completed,
		},
		"a dial ends while the call goes on": {
			[]string{"CallSid=c1&EventType=completed&DialCallStatus=no-answer&flow_id=1&DialWhomNumber=0911",
				"CallSid=c1&EventType=answered&Status=in-progress"},
			outcome.InProgress,
		},
		"the second applet": {
			[]string{missed, answered},
			outcome.Completed,
		},
		"nobody answered": {
			[]string{popup, missed},
			outcome.NoAnswer,
		},
		"the caller hung up": {
			[]string{popup, "CallSid=c1&CallType=client-hangup&flow_id=1"},
			outcome.Canceled,
		},
		"voicemail": {
			[]string{"CallSid=c1&CallType=voicemail&flow_id=1"},
			outcome.NoAnswer,
		},
		"a menu alone": {
			[]string{"CallSid=c1&CallType=call-attempt"},
			outcome.Unknown,
		},
		"only the calling party was on the line": {
			[]string{first},
			outcome.NoAnswer,
		},
		"a leg talked, and the call says no-answer": {
			[]string{first, answered},
			outcome.Completed,
		},
		"an agent is free before the end": {
			[]string{"CallSid=c1&EventType=Terminal&Status=free", missed},
			outcome.NoAnswer,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, backwards := range []bool{false, true} {
				var events []store.Event
				for _, fields := range tc.sent {
					event := ingest.Build(acme, recording.SourcePolicy{}, ingest.Delivery{
						Kind:       exotel.KindPassthru,
						Fields:     exotel.Request{RawQuery: fields},
						ReceivedAt: callStart,
					})
					if backwards {
						events = append([]store.Event{event}, events...)
					} else {
						events = append(events, event)
					}
				}
				if got, _ := applied(events); got != tc.want {
					t.Errorf("backwards %v: outcome %s, want %s", backwards, got, tc.want)
				}
			}
		})
	}
}
