package secret

import (
	"encoding/json"
	"testing"
)

// FuzzSensitive verifies that a secret of any bytes survives a round trip through JSON.
func FuzzSensitive(f *testing.F) {
	f.Add("")
	f.Add("\xff\x00 text")
	f.Fuzz(func(t *testing.T, s string) {
		data, err := json.Marshal(Sensitive(s))
		if err != nil {
			t.Fatal(err)
		}
		var got Sensitive
		if err := json.Unmarshal(data, &got); err != nil || got.Reveal() != s {
			t.Fatalf("%q came back as %q: %v", s, got.Reveal(), err)
		}
	})
}
