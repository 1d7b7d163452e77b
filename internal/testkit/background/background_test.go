package background

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// recorder is a test that notes its errors.
type recorder struct {
	testing.TB
	errs     []string
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, args ...any) {
	r.errs = append(r.errs, fmt.Sprintf(format, args...))
}

// TestRun verifies that a part runs until it is stopped or the test ends, and that its error fails the test once.
func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		err  error
		stop bool
		want []string
	}{
		"stopped":         {stop: true},
		"until the end":   {},
		"with an error":   {err: broken, want: []string{"a part in the background ended with broken"}},
		"stopped, broken": {err: broken, stop: true, want: []string{"a part in the background ended with broken"}},
	} {
		t.Run(name, func(t *testing.T) {
			double := &recorder{TB: t}
			began := make(chan struct{})
			ended := false
			stop := Run(double, func(ctx context.Context) error {
				close(began)
				<-ctx.Done()
				ended = true
				return tc.err
			})
			<-began
			if tc.stop {
				stop()
			}
			for _, cleanup := range double.cleanups {
				cleanup()
			}
			if diff := cmp.Diff(tc.want, double.errs); diff != "" || !ended {
				t.Errorf("ended %t, errors (-want +got):\n%s", ended, diff)
			}
		})
	}
}
