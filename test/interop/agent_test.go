//go:build interop

package interop

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/g711"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// TestAgents has a library's server as the tenant's agent, called by the other library's client: what either says arrives at the other
// byte by byte, in every protocol and however it is sent.
func TestAgents(t *testing.T) {
	rig := newRig(t)
	for name, o := range map[string]options{
		"exotel":                  {Protocol: "exotel"},
		"in parts":                {Protocol: "exotel", Parts: 3},
		"JSON in binary frames":   {Protocol: "exotel", Binary: true},
		"pings":                   {Protocol: "exotel", Pings: true, Parts: 2},
		"pcm":                     {Protocol: "pcm"},
		"pcm in parts":            {Protocol: "pcm", Parts: 3},
		"twilio":                  {Protocol: "twilio"},
		"twilio in parts":         {Protocol: "twilio", Parts: 2},
		"takes compression":       {Protocol: "exotel", Deflate: true},
		"speaks two subprotocols": {Protocol: "exotel", Subprotocols: []string{"a.example", "b.example"}},
	} {
		for i, l := range libraries(t) {
			t.Run(name+"/"+l.name, func(t *testing.T) {
				agent, url := l.serve(t, o)
				rig.bridge(url, o.Protocol)
				pieces := talk()
				if o.Pings {
					pieces = pieces[:8]
				}
				callSID, call := rig.newCall(pieces)
				toAgent, toClient := translated(o.Protocol, pieces)
				call.Echoes = len(toClient)
				got := libraries(t)[1-i].call(t, call)
				if echoed := media(t, got.Messages); !same(toClient, echoed) {
					t.Errorf("the client heard %d pieces of %d, or other ones", len(echoed), len(pieces))
				}
				if got.Messages = nil; !cmp.Equal(clientReport{Code: 1000, Reason: "call_ended"}, got) {
					t.Errorf("the client: %+v", got)
				}
				saw := agent.saw()
				if heard := decoded(t, saw.Heard); !same(toAgent, heard) {
					t.Errorf("the agent heard %d pieces of %d, or other ones", len(heard), len(pieces))
				}
				if o.Pings && saw.Pongs == 0 || callOf(saw.Start) != callSID {
					t.Errorf("the agent: %d pongs, call %q", saw.Pongs, callOf(saw.Start))
				}
				if n := len(saw.Events); n < 2 || saw.Events[n-1] != "stop" {
					t.Errorf("the agent's events: %q", saw.Events)
				}
				saw.Start = nil
				saw.Events = nil
				saw.Heard = nil
				saw.Pongs = 0
				if diff := cmp.Diff(agentReport{
					Path:   "/agent?of=support",
					Key:    agentKey,
					Code:   1000,
					Reason: "call_ended",
				}, saw); diff != "" {
					t.Errorf("the agent (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff([]row{{"call_ended", true}}, rig.ended(t, callSID)); diff != "" {
					t.Errorf("the session (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// Long audio is translated in pieces of 96,000 bytes of 16-bit audio, or 15,840 codes of mu-law, that Exotel takes.
const (
	pieceOfPCM  = 96_000
	pieceOfULaw = 2 * 15_840
)

// translated is what each side hears of pieces that the agent says again. Those of one sample are as they are.
func translated(protocol string, pieces [][]byte) (toAgent, toClient [][]byte) {
	switch protocol {
	case "pcm":
		for _, piece := range pieces {
			toClient = append(toClient, slices.Collect(slices.Chunk(piece, pieceOfPCM))...)
		}
		return pieces, toClient
	case "twilio":
		for _, piece := range pieces {
			codes := g711.AppendEncode(nil, exotelsim.Samples(piece))
			toAgent = append(toAgent, codes)
			heard := exotelsim.PCM(g711.AppendDecode(nil, codes))
			toClient = append(toClient, slices.Collect(slices.Chunk(heard, pieceOfULaw))...)
		}
		return toAgent, toClient
	}
	return pieces, pieces
}

// callOf finds the call in a start, in any protocol.
func callOf(start map[string]any) string {
	if inner, ok := start["start"].(map[string]any); ok {
		start = inner
	}
	for _, name := range []string{"call_sid", "callSid", "callId"} {
		if sid, ok := start[name].(string); ok {
			return sid
		}
	}
	return ""
}

// TestAgentsCloses verifies that Exotel's flow goes on however an agent closes. The session distinguishes an agent that
// ended the call from an agent that failed.
func TestAgentsCloses(t *testing.T) {
	rig := newRig(t)
	for name, tc := range map[string]struct {
		code   int
		reason string
		want   string
	}{
		"it is done":          {1000, "done", "agent_closed"},
		"a code of its own":   {4001, "so long, ünd fare well", "agent_closed"},
		"it shuts down":       {1001, "", "agent_lost"},
		"it fell over":        {1011, "oops", "agent_lost"},
		"it is overloaded":    {1013, "", "agent_lost"},
		"it heard too much":   {1009, "", "agent_closed"},
		"it forbids the call": {1008, "", "agent_closed"},
	} {
		for i, l := range libraries(t) {
			t.Run(name+"/"+l.name, func(t *testing.T) {
				agent, url := l.serve(t, options{Protocol: "exotel", CloseAfter: 5, Code: tc.code, Reason: tc.reason})
				rig.bridge(url, "exotel")
				callSID, call := rig.newCall(talk()[:5])
				got := libraries(t)[1-i].call(t, call) // whose fifth echo never comes
				if diff := cmp.Diff(clientReport{
					Code:   1000,
					Reason: tc.want,
				}, clientReport{
					Code:   got.Code,
					Reason: got.Reason,
					Error:  got.Error,
				}); diff != "" {
					t.Errorf("the client (-want +got):\n%s", diff)
				}
				if echoed := media(t, got.Messages); !same(talk()[:4], echoed) {
					t.Errorf("the client heard %d pieces, want those of before", len(echoed))
				}
				if saw := agent.saw(); saw.Code != tc.code || len(saw.Heard) != 5 {
					t.Errorf(
						"the agent's close with %d was answered %d, after %d pieces", tc.code, saw.Code, len(saw.Heard),
					)
				}
				if diff := cmp.Diff([]row{{tc.want, true}}, rig.ended(t, callSID)); diff != "" {
					t.Errorf("the session (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// TestSubprotocolOffered verifies that the endpoint selects no subprotocol, which RFC 6455 allows. A client may insist
// on one and leave: its call then ends on both sides.
func TestSubprotocolOffered(t *testing.T) {
	rig := newRig(t)
	for _, l := range libraries(t) {
		t.Run(l.name, func(t *testing.T) {
			agent, url := l.serve(t, options{Protocol: "exotel"})
			rig.bridge(url, "exotel")
			pieces := talk()[:3]
			callSID, call := rig.newCall(pieces)
			call.Subprotocols = []string{"audio.example", "other.example"}
			got := l.call(t, call)
			if l.name == "ws" { // as browsers do
				if got.Error != "Server sent no subprotocol" || agent.saw().Code == 0 {
					t.Errorf("the client: %+v", got)
				}
				eventually.Within(patience).Holds(t, "nothing is left of the call", func() bool {
					return rig.live.Live() == 0
				})
				return
			}
			if got.Subprotocol != "" || got.Code != 1000 || !same(pieces, media(t, got.Messages)) {
				t.Errorf("the client: %+v", got)
			}
			if saw := agent.saw(); saw.Code != 1000 || !slices.Contains(saw.Events, "stop") {
				t.Errorf("the agent: %+v", saw)
			}
			if diff := cmp.Diff([]row{{"call_ended", true}}, rig.ended(t, callSID)); diff != "" {
				t.Errorf("the session (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRefused verifies that a client with a wrong token is refused before the upgrade. The call has no session.
func TestRefused(t *testing.T) {
	rig := newRig(t)
	for _, l := range libraries(t) {
		t.Run(l.name, func(t *testing.T) {
			_, url := l.serve(t, options{Protocol: "exotel"})
			rig.bridge(url, "exotel")
			callSID, call := rig.newCall(talk()[:1])
			call.URL = call.URL[:len(call.URL)-1] + "x"
			if got := l.call(t, call); got.Status != 401 || got.Code == 1000 {
				t.Errorf("the client: %+v", got)
			}
			if rows := rig.ended(t, callSID); len(rows) != 0 {
				t.Errorf("it has sessions: %+v", rows)
			}
		})
	}
}
