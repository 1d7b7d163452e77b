package agentsim

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzPayload verifies that the fast search for a payload finds what a JSON parser finds.
func FuzzPayload(f *testing.F) {
	for _, m := range []string{`{"event":"media","stream_sid":"s1","media":{"chunk":1,"payload":"AAEC"}}`,
		`{"event":"media","media":{"payload":"\u0041"}}`,
		`{"event":"media","x":{"payload":"AAAA"},"media":{"payload":"BBBB"}}`,
		`{"event":"media","x":"\"payload\":\"AAAA\"","media":{}}`,
		`{"event":"media","media":{"payload":""}}`, `{"event":"media-x","media":{"payload":"AAAA"}}`} {
		f.Add([]byte(m))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		var m struct {
			Event string                     `json:"event"`
			Media map[string]json.RawMessage `json:"media"`
		}
		got := payloadOf(frame)
		if json.Unmarshal(frame, &m) != nil || got == nil || m.Event != "media" || m.Media["payload"] == nil {
			return // not of the protocol: an echo may do what it likes
		}
		var want string
		if json.Unmarshal(m.Media["payload"], &want) == nil && want != string(got) {
			t.Errorf("found %q in %q, want %q", got, frame, want)
		}
	})
}

// TestHistoryIsBounded verifies that a server remembers only its last calls.
func TestHistoryIsBounded(t *testing.T) {
	server := start(t, Options{})
	for i := range history + 5 {
		server.leave(&call{Call: Call{Pieces: i}})
	}
	if calls := server.Calls(); len(calls) != history || calls[0].Pieces != 5 || calls[history-1].Pieces != history+4 {
		t.Errorf("%d calls, from %d on", len(calls), calls[0].Pieces)
	}
}

func TestFields(t *testing.T) {
	var m fields
	if err := json.Unmarshal([]byte(`{"a":{"n":16000,"s":"x","t":true},"b":"text"}`), &m); err != nil {
		t.Fatal(err)
	}
	a := m.object("none", "b", "a")
	got := []string{a.text("none", "n"), a.text("s", "n"), a.text("t"), m.object("b").text("x"), m.text("a", "b")}
	if d := cmp.Diff([]string{"16000", "x", "", "", "text"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
