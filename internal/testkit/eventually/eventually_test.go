package eventually

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// recorder is a test that notes how it ends.
type recorder struct {
	testing.TB
	ctx   context.Context
	fatal string
}

func (r *recorder) Helper()                  {}
func (r *recorder) Context() context.Context { return r.ctx }
func (r *recorder) Fatalf(format string, args ...any) {
	r.fatal = fmt.Sprintf(format, args...)
	runtime.Goexit() // as testing.T does
}

// result of a wait.
type result struct {
	Fatal  string
	Checks int
	Took   time.Duration
}

// run waits in a bubble of its own time, and reports how that went.
func run(
	t *testing.T,
	ended bool,
	wait func(t testing.TB, check func(context.Context) error),
	check func(context.Context, int) error,
) (r result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		if ended {
			cancel()
		}
		defer cancel()
		double := &recorder{TB: t, ctx: ctx}
		began := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			wait(double, func(ctx context.Context) error {
				r.Checks++
				return check(ctx, r.Checks)
			})
		}()
		<-done
		r.Fatal, r.Took = double.fatal, time.Since(began)
	})
	return r
}

func TestSucceeds(t *testing.T) {
	unready := errors.New("not ready")
	after := func(n int) func(context.Context, int) error {
		return func(_ context.Context, check int) error {
			if check <= n {
				return fmt.Errorf("check %d: %w", check, unready)
			}
			return nil
		}
	}
	for name, tc := range map[string]struct {
		check func(context.Context, int) error
		ended bool
		want  result
	}{
		"at once": {check: after(0), want: result{Checks: 1}},
		"soon":    {check: after(3), want: result{Checks: 4, Took: 6 * time.Millisecond}},
		"at last": {check: after(10), want: result{Checks: 11, Took: 20 * time.Millisecond}},
		"never": {
			check: after(1000),
			want:  result{Fatal: "not within 1s: check 73: not ready", Checks: 73, Took: time.Second},
		},
		"in cleanups": {check: after(3), ended: true, want: result{Checks: 4, Took: 6 * time.Millisecond}},
		"a server that does not answer": {
			check: func(ctx context.Context, check int) error {
				if check == 1 {
					return unready
				}
				<-ctx.Done()
				return ctx.Err()
			},
			want: result{Fatal: "not within 1s: not ready", Checks: 2, Took: time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := run(t, tc.ended, Within(time.Second).Succeeds, tc.check)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReaches(t *testing.T) {
	wait := func(t testing.TB, check func(context.Context) error) {
		Within(time.Second).Reaches(t, "the door is open", func(ctx context.Context) (bool, string) {
			return check(ctx) == nil, "no key"
		})
	}
	for name, tc := range map[string]struct {
		falses int
		want   result
	}{
		"soon": {falses: 2, want: result{Checks: 3, Took: 4 * time.Millisecond}},
		"never": {
			falses: 1000,
			want:   result{Fatal: "not within 1s: the door is open; last seen: no key", Checks: 73, Took: time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := run(t, false, wait, func(_ context.Context, check int) error {
				if check <= tc.falses {
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

func TestHolds(t *testing.T) {
	for name, tc := range map[string]struct {
		falses int
		want   result
	}{
		"at once": {want: result{Checks: 1}},
		"soon":    {falses: 2, want: result{Checks: 3, Took: 4 * time.Millisecond}},
		"never": {
			falses: 10_000,
			want:   result{Fatal: "not within 30s: the pod is ready", Checks: 200, Took: Patience},
		},
	} {
		t.Run(name, func(t *testing.T) {
			wait := func(t testing.TB, check func(context.Context) error) {
				Holds(t, "the pod is ready", func() bool { return check(t.Context()) == nil })
			}
			got := run(t, false, wait, func(_ context.Context, check int) error {
				if check <= tc.falses {
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

func TestTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unready := errors.New("not ready")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		for name, within := range map[string]time.Duration{
			"its own bound": 50 * time.Millisecond,
			"the caller's":  time.Hour,
		} {
			if err := Within(within).Try(ctx, func(context.Context) error { return unready }); !errors.Is(
				err, unready,
			) {
				t.Errorf("%s: %v, want %v", name, err, unready)
			}
		}
		if err := Within(time.Hour).Try(ctx, func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
	})
}

func TestStays(t *testing.T) {
	for name, tc := range map[string]struct {
		goodChecks int
		ended      bool
		want       result
	}{
		"always":         {goodChecks: 1000, want: result{Checks: 74, Took: time.Second}},
		"not at all":     {want: result{Fatal: "after 0s: gone", Checks: 1}},
		"not to the end": {goodChecks: 73, want: result{Fatal: "after 1s: gone", Checks: 74, Took: time.Second}},
		"in cleanups":    {goodChecks: 1000, ended: true, want: result{Checks: 74, Took: time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			got := run(t, tc.ended, For(time.Second).Stays, func(ctx context.Context, check int) error {
				if check > tc.goodChecks {
					return errors.New("gone")
				}
				return ctx.Err()
			})
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
