package tenantapi

import (
	"encoding/base64"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/outcome"
	"github.com/caly-dev/caly/internal/store"
)

func TestCursor(t *testing.T) {
	for _, p := range []store.Position{
		{At: time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC), ID: "c-1_A"},
		{At: time.UnixMicro(0).UTC(), ID: "jane+x@acme.example"},
		{At: time.UnixMicro(maxMicros).UTC(), ID: strings.Repeat("a", 254)},
		{At: time.UnixMicro(1).UTC(), ID: "a|b"},
	} {
		s := formatCursor(p)
		if got, ok := parseCursor(s); !ok || !got.At.Equal(p.At) || got.ID != p.ID || len(s) > 512 {
			t.Errorf("%v came back as %v, %v from %q", p, got, ok, s)
		}
	}
	raw := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for name, s := range map[string]string{
		"empty":             "",
		"not base64":        "!!",
		"padded":            base64.URLEncoding.EncodeToString([]byte("1|aa")),
		"standard alphabet": "MXw_Pz8+",
		"loose bits":        "MXxhYR",
		"a line break":      raw("1|aa") + "\n",
		"no id":             raw("1|"),
		"no bar":            raw("1"),
		"no time":           raw("|a"),
		"a sign":            raw("+1|a"),
		"a zero in front":   raw("01|a"),
		"negative":          raw("-1|a"),
		"beyond all years":  raw("253402300800000000|a"),
		"beyond int64":      raw("99999999999999999999|a"),
		"a blank":           raw("1|a b"),
		"NUL":               raw("1|a\x00"),
		"no UTF-8":          raw("1|a\xff"),
		"beyond ASCII":      raw("1|ä"),
		"too long":          raw("1|" + strings.Repeat("a", 255)),
		"JSON":              raw(`{"at":1}`),
	} {
		if position, ok := parseCursor(s); ok {
			t.Errorf("%s: %q was read as %v", name, s, position)
		}
	}
}

// FuzzCursor verifies that a parsed cursor is written back unchanged, and has only values that PostgreSQL accepts.
func FuzzCursor(f *testing.F) {
	f.Add(formatCursor(store.Position{At: time.UnixMicro(1).UTC(), ID: "c1"}))
	f.Add("MXxh")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		position, ok := parseCursor(s)
		if !ok {
			return
		}
		if again := formatCursor(position); again != s {
			t.Fatalf("%q is written again as %q", s, again)
		}
		if position.At.Year() < 1970 || position.At.Year() > 9999 || position.ID == "" || len(position.ID) > 254 ||
			strings.ContainsFunc(position.ID, func(r rune) bool { return r < '!' || r > '~' }) {
			t.Fatalf("%q was read as %v", s, position)
		}
	})
}

// TestEnumsAreWhole verifies that the values in the enum tags equal those of their packages. A tag cannot refer to
// them.
func TestEnumsAreWhole(t *testing.T) {
	sorted := func(list []string) []string { return slices.Sorted(slices.Values(list)) }
	for name, tc := range map[string]struct {
		of   any
		want []string
	}{
		"State": {callsQuery{}, outcome.Names()},
	} {
		field, _ := reflect.TypeOf(tc.of).FieldByName(name)
		if diff := cmp.Diff(sorted(tc.want), sorted(strings.Split(field.Tag.Get("enum"), ","))); diff != "" {
			t.Errorf("%T.%s (-want +got):\n%s", tc.of, name, diff)
		}
	}
	answer, _ := reflect.TypeFor[Call]().FieldByName("State")
	if diff := cmp.Diff(outcome.Names(), strings.Split(answer.Tag.Get("enum"), ",")); diff != "" {
		t.Errorf("states of an answer (-want +got):\n%s", diff)
	}
}
