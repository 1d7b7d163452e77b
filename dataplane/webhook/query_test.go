package webhook

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestSplitQuery(t *testing.T) {
	for name, tc := range map[string]struct{ raw, wantRead, wantKept string }{
		"none":                  {"", "", ""},
		"no secret":             {"CallSid=c1&Status=busy", "CallSid=c1&Status=busy", "CallSid=c1&Status=busy"},
		"token":                 {"CallSid=c1&token=x", "CallSid=c1", "CallSid=c1&token=redacted"},
		"name in other cases":   {"API_KEY=x&Auth_Token=y", "", "API_KEY=redacted&Auth_Token=redacted"},
		"name escaped":          {"%74oken=x", "", "%74oken=redacted"},
		"the tenant's own name": {"magic+word=x&CallSid=c1", "CallSid=c1", "magic+word=redacted&CallSid=c1"},
		"behind a semicolon":    {"a=1;token=x", "a=1;token=x", ""},
		"broken":                {"to%zzken=x&a=%zz", "to%zzken=x&a=%zz", ""},
		"agent's address": {"Stream%5BStreamUrl%5D=wss%3A%2F%2FKEY%3AWORD%40bot.example",
			"Stream%5BStreamUrl%5D=wss%3A%2F%2FKEY%3AWORD%40bot.example", "Stream%5BStreamUrl%5D=wss%3A%2F%2Fredacted%40bot.example"},
		"agent's address, in JSON": {`Stream={"StreamUrl":"wss://KEY:WORD@bot"}`, `Stream={"StreamUrl":"wss://KEY:WORD@bot"}`,
			"Stream=%7B%22StreamUrl%22%3A%22wss%3A%2F%2Fredacted%40bot%22%7D"},
		"mail address is no secret": {"AgentEmail=a@example.com", "AgentEmail=a@example.com", "AgentEmail=a%40example.com"},
	} {
		read, kept := splitQuery(tc.raw, "magic+word")
		if read != tc.wantRead || kept != tc.wantKept {
			t.Errorf("%s: read %q, kept %q; want %q and %q", name, read, kept, tc.wantRead, tc.wantKept)
		}
	}
}

// TestBudget : what large bodies hold is bounded, given back, and never in the way of small ones.
func TestBudget(t *testing.T) {
	b := newBudget(100)
	read := func(n int) (*charged, error) {
		c := &charged{Reader: strings.NewReader(strings.Repeat("a", n)), budget: b}
		_, err := io.Copy(io.Discard, io.MultiReader(c)) // without WriterTo
		return c, err
	}
	large, err := read(freeBody + 100)
	if err != nil || b.left.Load() != 0 {
		t.Fatalf("%v, %d bytes left, want none", err, b.left.Load())
	}
	other, err := read(freeBody + 1)
	if !errors.Is(err, errNoMemory) {
		t.Errorf("beyond the budget: %v", err)
	}
	if small, err := read(freeBody); err != nil || small.taken != 0 {
		t.Errorf("a small body: %v, took %d", err, small.taken)
	}
	other.free()
	large.free()
	if b.left.Load() != 100 {
		t.Errorf("%d bytes left, want all", b.left.Load())
	}
}
