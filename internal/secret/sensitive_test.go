package secret

import (
	"encoding/json"
	"testing"
)

// FuzzSensitive : a secret of any bytes comes back as it was.
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
