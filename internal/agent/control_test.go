package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestControlOfEveryType verifies that names, digits and reasons are read as strings and as numbers, in an object or bare. A value of
// another type says nothing, and costs no message.
func TestControlOfEveryType(t *testing.T) {
	type read struct{ Name, Digit, Duration, Reason loose }
	for text, want := range map[string]read{
		`{"event":"mark","mark":{"name":"a"}}`:                   {Name: "a"},
		`{"event":"mark","mark":{"name":7}}`:                     {Name: "7"},
		`{"event":"mark","name":7}`:                              {Name: "7"},
		`{"event":"mark","mark":"a"}`:                            {Name: "a"},
		`{"event":"mark","mark":{"name":{"a":1}}}`:               {},
		`{"event":"dtmf","dtmf":{"digit":5,"duration":200}}`:     {Digit: "5", Duration: "200"},
		`{"event":"dtmf","dtmf":{"digit":"5","duration":"200"}}`: {Digit: "5", Duration: "200"},
		`{"event":"dtmf","digit":5}`:                             {Digit: "5"},
		`{"event":"dtmf","dtmf":"#"}`:                            {Digit: "#"},
		`{"event":"stop","stop":{"reason":"callended"}}`:         {Reason: "callended"},
		`{"event":"stop","stop":"callended"}`:                    {Reason: "callended"},
		`{"event":"stop","stop":true}`:                           {},
		`{"event":"stop","stop":null}`:                           {},
		`{"event":"stop","stop":[1]}`:                            {},
		`{"event":"stop","reason":4}`:                            {Reason: "4"},
	} {
		c, err := parseControl([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, read{c.Name, c.Digit, c.Duration, c.Reason}); diff != "" {
			t.Errorf("%s: -want +got:\n%s", text, diff)
		}
	}
}
