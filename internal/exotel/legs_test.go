package exotel

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// popup is what Exotel sends while an agent is rung, from frappe/erpnext
// (erpnext/erpnext_integrations/exotel_test_data.py in later versions: tests/exotel_test_data.py). The agent is busy,
// not the call.
const popup = "CallSid=c1&CallFrom=09999999991&CallTo=09999999980&Direction=incoming&" +
	"Created=Wed,+23+Feb+2022+12:31:59" +
	"&From=09999999991&To=09999999988&CurrentTime=2022-02-23+12:32:02&DialWhomNumber=09999999999&Status=busy&" +
	"EventType=Dial" +
	"&AgentEmail=agent@acme.example"

// dialEnd is the Passthru after the Connect applet of the same test data.
const dialEnd = "CallSid=c1&CallFrom=09999999991&CallTo=09999999980&Direction=incoming&ForwardedFrom=null&" +
	"DialCallDuration=17" +
	"&StartTime=2022-02-23+12:31:58&EndTime=1970-01-01+05:30:00&DialCallStatus=completed&CallType=completed" +
	"&DialWhomNumber=09999999999&ProcessStatus=null&flow_id=228040&tenant_id=67291&CurrentTime=2022-02-23+12:32:25" +
	"&Legs[0][Number]=09999999999&Legs[0][Type]=single&Legs[0][OnCallDuration]=10&" +
	"Legs[0][CauseCode]=NORMAL_CLEARING&Legs[0][Cause]=16"

// ofFacts leaves out what the tests of this file compare.
var ofFacts = cmpopts.IgnoreFields(Event{}, "About", "Legs", "SaidAt")

func TestLegs(t *testing.T) {
	agent := func(presence string) []Leg {
		return []Leg{{
			Kind:     LegAgent,
			Key:      "agent:agent@acme.example",
			Number:   "09999999999",
			Agent:    "agent@acme.example",
			Presence: presence,
		}}
	}
	dial := func(flow, number string, s State, seconds int) Leg {
		return Leg{
			Kind:    LegDial,
			Key:     "dial:" + flow + "/" + sameLine(number),
			Number:  number,
			State:   s,
			Called:  true,
			Seconds: seconds,
		}
	}
	again := func(flow, number string, attempt int, s State, seconds int) Leg {
		leg := dial(flow, number, s, seconds)
		leg.Key += "/#" + strconv.Itoa(attempt)
		return leg
	}
	listed := func(key, number string, s State, called bool, seconds int) Leg {
		return Leg{Kind: LegListed, Key: key, Number: number, State: s, Called: called, Seconds: seconds}
	}
	for name, tc := range map[string]struct {
		kind, fields string
		about        Subject
		state        State
		want         []Leg
	}{
		"an agent is rung":       {KindPassthru, popup, AboutAgent, StateUnknown, agent("busy")},
		"on the route of status": {KindStatus, popup, AboutAgent, StateUnknown, agent("busy")},
		"an agent is free": {KindPassthru, strings.NewReplacer("=busy", "=Free", "=Dial", "=Terminal").Replace(popup),
			AboutAgent, StateUnknown, agent("free")},
		"a popup that is answered": {KindPassthru, strings.Replace(popup, "=Dial", "=Answered", 1),
			AboutAgent, StateUnknown, agent("busy")},
		"an answered popup of a number": {KindPassthru,
			"CallSid=c1&EventType=Answered&Status=busy&DialWhomNumber=0991",
			AboutAgent, StateUnknown, []Leg{{Kind: LegAgent, Key: "agent:0991", Number: "0991", Presence: "busy"}}},
		"a ringing popup of nobody": {KindStatus, "CallSid=c1&EventType=ringing&Status=busy",
			AboutAgent, StateUnknown, []Leg{{Kind: LegAgent, Key: "agent:", Presence: "busy"}}},
		"an event of a Connect applet": {KindPassthru,
			"CallSid=c1&EventType=completed&DialCallStatus=no-answer&DialWhomNumber=0991&flow_id=7",
			AboutLeg, StateNoAnswer, []Leg{dial("7", "0991", StateNoAnswer, 0)}},
		"a call's end with a dial's result": {KindStatus, "CallSid=c1&EventType=terminal&DialCallStatus=busy",
			AboutCall, StateBusy, []Leg{dial("", "", StateBusy, 0)}},
		"a stage that is busy": {KindPassthru,
			"CallSid=c1&CallStatus=busy&CallType=completed&DialWhomNumber=0991&flow_id=7",
			AboutStage, StateBusy,
			[]Leg{dial("7", "0991", StateCompleted, 0)}},
		"free, of nobody": {KindStatus, "CallSid=c1&Status=free",
			AboutAgent, StateUnknown, []Leg{{Kind: LegAgent, Key: "agent:", Presence: "free"}}},
		"a busy call": {KindStatus, "CallSid=c1&EventType=terminal&Status=busy&To=0912",
			AboutCall, StateBusy, nil},
		"a busy dial": {KindPassthru, "CallSid=c1&CallStatus=busy&DialCallStatus=busy&DialWhomNumber=0991&flow_id=7",
			AboutStage, StateBusy, []Leg{dial("7", "0991", StateBusy, 0)}},
		"a dial's end": {KindPassthru, dialEnd,
			AboutLeg, StateCompleted, []Leg{dial("228040", "09999999999", StateCompleted, 10)}},
		"as a status": {KindStatus, dialEnd,
			AboutLeg, StateCompleted, []Leg{dial("228040", "09999999999", StateCompleted, 10)}},
		"client-hangup": {KindPassthru, "CallSid=c1&CallType=client-hangup&DialWhomNumber=0991&flow_id=7",
			AboutCall, StateUnknown, []Leg{dial("7", "0991", StateCanceled, 0)}},
		"incomplete": {KindPassthru, "CallSid=c1&CallType=Incomplete&flow_id=7",
			AboutCall, StateUnknown, []Leg{dial("7", "", StateNoAnswer, 0)}},
		"voicemail": {KindPassthru, "CallSid=c1&CallType=voicemail&flow_id=7",
			AboutCall, StateUnknown, []Leg{dial("7", "", StateNoAnswer, 0)}},
		"call-attempt": {KindPassthru, "CallSid=c1&CallType=call-attempt&flow_id=7",
			AboutCall, StateUnknown, nil},
		"completed by CallType": {KindPassthru, "CallSid=c1&CallType=completed&DialWhomNumber=0991&flow_id=7",
			AboutCall, StateUnknown, []Leg{dial("7", "0991", StateCompleted, 0)}},
		"incomplete before the dial": {KindPassthru,
			"CallSid=c1&CallStatus=ringing&CallType=incomplete&DialWhomNumber=&flow_id=7",
			AboutStage, StateRinging, nil},
		"completed, and the call goes on": {KindPassthru,
			"CallSid=c1&CallStatus=in-progress&CallType=completed&DialWhomNumber=0991&flow_id=7",
			AboutStage, StateInProgress, []Leg{dial("7", "0991", StateUnknown, 0)}},
		"client-hangup, and the call goes on": {KindPassthru,
			"CallSid=c1&CallStatus=inprogress&CallType=client-hangup&flow_id=7", AboutStage, StateInProgress, nil},
		"completed, and the agent talks": {KindPassthru, "CallSid=c1&CallStatus=in-progress&CallType=completed" +
			"&DialWhomNumber=0991&flow_id=7&Legs[0][OnCallDuration]=3",
			AboutStage, StateInProgress, []Leg{dial("7", "0991", StateCompleted, 3)}},
		"completed, and the call is answered": {KindPassthru,
			"CallSid=c1&EventType=answered&CallType=completed&DialWhomNumber=0991&flow_id=7",
			AboutCall, StateInProgress, []Leg{dial("7", "0991", StateUnknown, 0)}},
		"incomplete, and an agent is dialled": {KindPassthru,
			"CallSid=c1&EventType=Dial&CallType=incomplete&DialWhomNumber=0991&flow_id=7",
			AboutCall, StateUnknown, []Leg{dial("7", "0991", StateUnknown, 0)}},
		"a dial's result in a call that goes on": {KindPassthru,
			"CallSid=c1&CallStatus=in-progress&CallType=completed&DialCallStatus=completed&DialWhomNumber=0991" +
				"&flow_id=7",
			AboutStage, StateInProgress, []Leg{dial("7", "0991", StateCompleted, 0)}},
		"the first of two agents is free": {KindPassthru, strings.NewReplacer("=busy", "=free", "=Dial", "=Terminal",
			"&AgentEmail=agent@acme.example", "").Replace(popup),
			AboutAgent, StateUnknown, []Leg{{
				Kind:     LegAgent,
				Key:      "agent:+919999999999",
				Number:   "09999999999",
				Presence: "free",
			}}},
		"DialCallStatus over CallType": {KindPassthru,
			"CallSid=c1&CallType=incomplete&DialCallStatus=busy&DialWhomNumber=0991&flow_id=7",
			AboutLeg, StateBusy, []Leg{dial("7", "0991", StateBusy, 0)}},
		"a hunt group": {KindPassthru, "CallSid=c1&DialCallStatus=completed&DialWhomNumber=09222222222&flow_id=7" +
			"&Legs[0][Number]=09111111111&Legs[0][OnCallDuration]=0&Legs[0][CauseCode]=USER_BUSY&" +
			"Legs[2][Number]=%2B919222222222&Legs[2][OnCallDuration]=40",
			AboutLeg, StateCompleted, []Leg{dial("7", "09111111111", StateBusy, 0), dial("7", "+919222222222",
				StateCompleted, 40)}},
		"a number outside the list": {KindPassthru,
			"CallSid=c1&DialCallStatus=no-answer&DialWhomNumber=09333333333&flow_id=7" +
				"&Legs[0][Number]=09111111111&Legs[1][Number]=09222222222&Legs[1][CauseCode]=RING_TIMEOUT",
			AboutLeg, StateNoAnswer,
			[]Leg{dial("7", "09111111111", StateUnknown, 0), dial("7", "09222222222", StateNoAnswer, 0), dial("7",
				"09333333333", StateNoAnswer, 0)}},
		"a number dialled twice": {KindPassthru, "CallSid=c1&DialCallStatus=completed&DialWhomNumber=0991&flow_id=7" +
			"&Legs[0][Number]=0991&Legs[0][CauseCode]=USER_BUSY&Legs[1][Number]=0991&Legs[1][OnCallDuration]=40",
			AboutLeg, StateCompleted,
			[]Leg{dial("7", "0991", StateBusy, 0), again("7", "0991", 2, StateCompleted, 40)}},
		"a number dialled twice without causes": {KindPassthru,
			"CallSid=c1&DialCallStatus=busy&DialWhomNumber=0991&flow_id=7" +
				"&Legs[0][Number]=0991&Legs[1][Number]=0991",
			AboutLeg, StateBusy,
			[]Leg{dial("7", "0991", StateUnknown, 0), again("7", "0991", 2, StateBusy, 0)}},
		"legs without numbers": {KindPassthru, "CallSid=c1&DialCallStatus=no-answer&flow_id=7" +
			"&Legs[0][CauseCode]=USER_BUSY&Legs[1][CauseCode]=RING_TIMEOUT&Legs[2][CauseCode]=USER_BUSY",
			AboutLeg, StateNoAnswer,
			[]Leg{dial("7", "", StateBusy, 0), again("7", "", 2, StateNoAnswer, 0), again("7", "", 3, StateBusy, 0)}},
		"one number in two spellings": {KindPassthru, "CallSid=c1&DialCallStatus=busy&flow_id=7" +
			"&DialWhomNumber=09222222222&Legs[0][Number]=09222222222&Legs[1][Number]=%2B919222222222",
			AboutLeg, StateBusy, []Leg{dial("7", "09222222222", StateUnknown, 0),
				again("7", "+919222222222", 2, StateBusy, 0)}},
		"legs of a whole call": {KindStatus,
			"CallSid=c1&EventType=terminal&Status=no-answer&Direction=outbound-api&From=0987&To=0912" +
				"&Legs[0][Status]=completed&Legs[0][OnCallDuration]=41" +
				"&Legs[1][Status]=no-answer&Legs[1][OnCallDuration]=0",
			AboutCall, StateNoAnswer,
			[]Leg{listed("leg:0", "0987", StateCompleted, false, 41), listed("leg:1", "0912", StateNoAnswer, true,
				0)}},
		"an answered leg without a status": {KindStatus,
			"CallSid=c1&Status=completed&Direction=incoming&From=0987&To=0912&Legs[1][OnCallDuration]=12",
			AboutCall,
			StateCompleted, []Leg{listed("leg:1", "", StateCompleted, true, 12)}},
		"a stage of the flow": {KindPassthru, "CallSid=c1&CallStatus=in-progress",
			AboutStage, StateInProgress, nil},
		"a stage on the route of status": {KindStatus, "CallSid=c1&CallStatus=in-progress",
			AboutStage, StateInProgress, nil},
		"a status on the route of Passthru": {KindPassthru, "CallSid=c1&EventType=terminal&Status=no-answer",
			AboutCall, StateNoAnswer, nil},
		"an invalid index": {KindStatus,
			"CallSid=c1&Status=busy&Legs[x][Status]=completed&Legs[99999][Status]=completed&Legs[2=busy",
			AboutCall, StateBusy, nil},
	} {
		t.Run(name, func(t *testing.T) {
			event, err := ParseEvent(tc.kind, Request{
				Body:        []byte(tc.fields),
				ContentType: "application/x-www-form-urlencoded",
			}, time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			if event.About != tc.about || event.State != tc.state {
				t.Errorf("about %v, state %q; want %v, %q", event.About, event.State, tc.about, tc.state)
			}
			if d := cmp.Diff(tc.want, event.Legs); d != "" {
				t.Errorf("legs (-want +got):\n%s", d)
			}
		})
	}
}

// TestSaidAt verifies that CurrentTime does not order events, because Exotel sends another one with each delivery of an
// event.
func TestSaidAt(t *testing.T) {
	for fields, want := range map[string]string{
		"CurrentTime=2024-01-15+14:30:45&Created=2024-01-15+14:00:00":     "0001-01-01T00:00:00Z",
		"CurrentTime=2024-01-15+14:30:45&DateUpdated=2024-01-15+14:31:00": "2024-01-15T14:31:00Z",
		"EndTime=2024-01-15+14:29:00":                                     "2024-01-15T14:29:00Z",
	} {
		event, err := ParseEvent(KindPassthru, Request{RawQuery: "CallSid=c1&" + fields}, time.UTC)
		if err != nil || event.SaidAt.Format(time.RFC3339) != want {
			t.Errorf("%s: %v, %v; want %s", fields, event.SaidAt, err, want)
		}
	}
}

// TestLegStatesOfADial has one fact for each key: the states of the first two legs are about the whole call.
func TestLegStatesOfADial(t *testing.T) {
	for fields, want := range map[string][]State{
		"DialWhomNumber=09999999999&CallStatus=completed":                           {""},
		"DialWhomNumber=09999999999&DialCallStatus=busy&Legs[0][OnCallDuration]=10": {StateBusy},
		"Status=completed": {StateCompleted, StateNoAnswer},
	} {
		event, err := ParseEvent(KindStatus, form("CallSid=c1&Leg1Status=completed&Leg2Status=no-answer&"+fields), ist)
		if err != nil {
			t.Fatal(err)
		}
		var got []State
		keys := map[string]bool{}
		for _, l := range event.Legs {
			got, keys[l.Key] = append(got, l.State), true
		}
		if d := cmp.Diff(want, got); d != "" || len(keys) != len(got) {
			t.Errorf("%s: %d keys, states (-want +got):\n%s", fields, len(keys), d)
		}
	}
}
