package agentstream

import (
	"errors"
	"runtime"
	"strings"
	"testing"
)

// TestParseStartBounds checks that a "start" message of the largest size takes little memory.
func TestParseStartBounds(t *testing.T) {
	fill := func(part string) string { return strings.Repeat(part, 250_000/len(part)) }
	const start = `{"event":"start","stream_sid":"s","start":{"call_sid":"c","custom_parameters":`
	for name, tc := range map[string]struct {
		message string
		wantErr error
	}{
		"many parameters":   {start + `{` + fill(`"a":{},`) + `"b":1}}}`, ErrMalformed},
		"deep parameters":   {start + fill(`{"a":`), ErrMalformed},
		"objects":           {start + `[` + fill(`{"":0},`) + `0]}}`, ErrMalformed},
		"a long parameter":  {start + `{"a":"` + fill("b") + `"}}}`, ErrMalformed},
		"a long other name": {`{"event":"start","note":"` + fill("b") + `"}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			message := []byte(tc.message)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := ParseStart(message)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, tc.wantErr) {
				t.Errorf("error %v, want %v", err, tc.wantErr)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 512<<10 {
				t.Errorf("it allocates %d bytes", took)
			}
		})
	}
}
