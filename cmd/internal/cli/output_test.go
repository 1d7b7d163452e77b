package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

// TestPrintJSON checks that no character reaches a terminal as a command, and that a program reads the text as it was.
func TestPrintJSON(t *testing.T) {
	want := map[string]string{
		"c0 and c1":     "a\x1b[31m\u009b31m\x7f\u0085",
		"direction":     "a\u202e\u2066b",
		"a tag":         "a\U000e0041b",
		"an emoji":      "\U0001f600",
		"other letters": "\u0928\u092e\u0938\u094d\u0924\u0947",
	}
	var printed bytes.Buffer
	if err := PrintJSON(&printed, want); err != nil {
		t.Fatal(err)
	}
	for _, r := range printed.String() {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%U is printed", r)
		}
	}
	if !strings.Contains(printed.String(), "\U0001f600") {
		t.Error("a printable character is escaped")
	}
	var got map[string]string
	if err := json.Unmarshal(printed.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the text read back (-want +got):\n%s", diff)
	}
}
