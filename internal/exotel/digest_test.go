package exotel

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestFieldsAreToldApart checks that two lists of fields are written alike only if they are the same: else an event
// could have the key of another one.
func TestFieldsAreToldApart(t *testing.T) {
	for _, pair := range [][2][]string{
		{{"ab", "c"}, {"a", "bc"}},
		{{"a", ""}, {"", "a"}},
		{{"3abc6defghi"}, {"1", "abc", "defghi"}}, // alike without a mark behind the length
		{{"1:a"}, {"a"}},
	} {
		if bytes.Equal(appendFields(nil, pair[0]...), appendFields(nil, pair[1]...)) {
			t.Errorf("%q and %q are written alike", pair[0], pair[1])
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOf(rapid.StringOf(rapid.RuneFrom([]rune("0123:a"))))
		a := list.Draw(t, "a")
		b := list.Draw(t, "b")
		same := slices.Equal(a, b)
		if got := bytes.Equal(appendFields(nil, a...), appendFields(nil, b...)); got != same {
			t.Fatalf("%q and %q are written alike: %v", a, b, got)
		}
	})
}
