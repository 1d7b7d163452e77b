package recording

import (
	"strings"
	"testing"
	"time"
)

// TestCaptureKey verifies that the key of a capture is below the tenant's prefix for any call SID, and differs from
// each recording of Exotel.
func TestCaptureKey(t *testing.T) {
	began := time.Date(2026, 3, 9, 23, 30, 0, 0, time.FixedZone("", -3600))
	for callSID, want := range map[string]string{
		"c1":                     "acme/support/2026/03/10/c1/capture-s1.wav",
		"":                       "acme/support/2026/03/10/unknown/capture-s1.wav",
		"../../globex":           "acme/support/2026/03/10/------globex/capture-s1.wav",
		"a\x00नम":                "acme/support/2026/03/10/a---/capture-s1.wav",
		strings.Repeat("x", 500): "acme/support/2026/03/10/" + strings.Repeat("x", 64) + "/capture-s1.wav",
	} {
		got, err := CaptureKey("acme/support", "{{.Date}}/{{.CallSID}}/{{.RecordingID}}",
			KeyInput{CallSID: callSID, RecordingID: "s1", Queued: began})
		if err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", callSID, got, err, want)
		}
	}
	if _, err := CaptureKey("acme/support", "{{.Nothing}}", KeyInput{}); err == nil {
		t.Error("an invalid template made a key")
	}
	if a, b := CaptureID("s1"), CaptureID("s2"); len(a) != 16 || a == b || a == ID("s1", "s1") {
		t.Errorf("ids %s and %s", a, b)
	}
}
