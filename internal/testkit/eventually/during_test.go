package eventually

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestDuring verifies that a condition is checked until its time is over, and that the first false ends the test.
func TestDuring(t *testing.T) {
	for name, tc := range map[string]struct {
		during time.Duration
		trues  int
		want   result
	}{
		"for the whole time": {
			during: 640 * time.Millisecond,
			trues:  1000,
			want:   result{Checks: 65, Took: 640 * time.Millisecond},
		},
		"never": {
			during: time.Second,
			want:   result{Fatal: "not for 1s: the door is shut; it ended after 0s", Checks: 1},
		},
		"for a while": {
			during: 640 * time.Millisecond,
			trues:  3,
			want: result{
				Fatal:  "not for 640ms: the door is shut; it ended after 30ms",
				Checks: 4,
				Took:   30 * time.Millisecond,
			},
		},
		"long":    {during: time.Hour, trues: 100_000, want: result{Checks: 14401, Took: time.Hour}},
		"no time": {trues: 1, want: result{Checks: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			wait := func(t testing.TB, check func(context.Context) error) {
				During(tc.during).Holds(t, "the door is shut", func() bool { return check(t.Context()) == nil })
			}
			got := run(t, false, wait, func(_ context.Context, check int) error {
				if check > tc.trues {
					return errors.ErrUnsupported
				}
				return nil
			})
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
