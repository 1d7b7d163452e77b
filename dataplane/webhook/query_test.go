package webhook

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/budget"
)

func TestSplitQuery(t *testing.T) {
	for name, tc := range map[string]struct{ raw, wantRead, wantKept string }{
		"none":                  {"", "", ""},
		"no secret":             {"CallSid=c1&Status=busy", "CallSid=c1&Status=busy", "CallSid=c1&Status=busy"},
		"token":                 {"CallSid=c1&token=x", "CallSid=c1", "CallSid=c1&token=redacted"},
		"name in other cases":   {"API_KEY=x&Auth_Token=y", "", "API_KEY=redacted&Auth_Token=redacted"},
		"name escaped":          {"%74oken=x", "", "%74oken=redacted"},
		"the tenant's own name": {"magic+word=x&CallSid=c1", "CallSid=c1", "magic+word=redacted&CallSid=c1"},
		"behind a semicolon":    {"a=1;token=x", "a=1;token=x", "broken=redacted"},
		"broken": {"CustomField=50%+off&a=%zz&b=1;2", "CustomField=50%+off&a=%zz&b=1;2",
			"CustomField=50%+off&a=%zz&b=1;2"},
		"secret and broken": {"a%zz=magic+word&x=%zz%74oken%3Dy&u=%zzk:p%40bot",
			"a%zz=magic+word&x=%zz%74oken%3Dy&u=%zzk:p%40bot", "broken=redacted&broken=redacted&broken=redacted"},
		"token that is broken": {"token=%zz&CallSid=c1", "CallSid=c1", "token=redacted&CallSid=c1"},
		"agent's address": {"Stream%5BStreamUrl%5D=wss%3A%2F%2FKEY%3AWORD%40bot.example",
			"Stream%5BStreamUrl%5D=wss%3A%2F%2FKEY%3AWORD%40bot.example", "Stream%5BStreamUrl%5D=wss%3A%2F%2Fredacted%40bot.example"},
		"agent's address, escaped twice": {"a=wss%253A%252F%252FKEY%253AWORD%2540bot.example",
			"a=wss%253A%252F%252FKEY%253AWORD%2540bot.example", "a=wss%3A%2F%2Fredacted%40bot.example"},
		"a mail address, escaped twice": {"a=a%2540example.com", "a=a%2540example.com", "a=a%2540example.com"},
		"agent's address, in JSON": {`Stream={"StreamUrl":"wss://KEY:WORD@bot"}`, `Stream={"StreamUrl":"wss://KEY:WORD@bot"}`,
			"Stream=%7B%22StreamUrl%22%3A%22wss%3A%2F%2Fredacted%40bot%22%7D"},
		"mail address": {"AgentEmail=a@example.com", "AgentEmail=a@example.com", "AgentEmail=a%40example.com"},
	} {
		read, kept := splitQuery(tc.raw, "magic+word")
		if read != tc.wantRead || kept != tc.wantKept {
			t.Errorf("%s: read %q, kept %q; want %q and %q", name, read, kept, tc.wantRead, tc.wantKept)
		}
	}
}

// TestBudget verifies that the memory of large bodies is bounded and returned, and never delays small bodies.
func TestBudget(t *testing.T) {
	b := budget.New(100)
	read := func(n int64) (*received, error) {
		r := &received{share: b.Share(freeMemory), pool: &pool{largest: freeMemory + 100}}
		return r, r.readFrom(io.MultiReader(strings.NewReader(strings.Repeat("a", int(n)))), n+1)
	}
	large, err := read(freeMemory + 99)
	if err != nil || b.InUse() != 100 {
		t.Fatalf("%v, %d bytes in use, want all", err, b.InUse())
	}
	other, err := read(freeMemory + 1)
	if !errors.Is(err, errNoMemory) {
		t.Errorf("beyond the budget: %v", err)
	}
	if _, err := read(firstRead - 1); err != nil || b.InUse() != 100 {
		t.Errorf("a small body: %v, and %d bytes are in use", err, b.InUse())
	}
	if large.charge(1) == nil || b.InUse() != 100 {
		t.Errorf("fields beyond the budget are read, and %d bytes are in use", b.InUse())
	}
	other.free()
	large.free()
	if b.InUse() != 0 {
		t.Errorf("%d bytes are still in use", b.InUse())
	}
}
