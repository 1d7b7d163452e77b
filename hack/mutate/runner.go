package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// result is what became of the tests.
type result string

const (
	caught   result = "caught"   // a test failed
	hung     result = "hung"     // the tests did not end within the bound: noticed, but at a high price
	survived result = "survived" // every test passed
	broken   result = "broken"   // the package did not build, which shows nothing
)

// grace is the time that "go test" has for building, and for ending after its own timeout.
const grace = 3 * time.Minute

// runner tries mutations one at a time.
type runner struct {
	tree    tree
	bound   time.Duration
	out     io.Writer
	healthy map[string]error // of the unchanged tests, by their arguments
	results map[result][]mutation
}

func newRunner(t tree, bound time.Duration, out io.Writer) *runner {
	return &runner{tree: t, bound: bound, out: out, healthy: map[string]error{}, results: map[result][]mutation{}}
}

// try runs the tests with the mutation. If they fail without it too, a failure shows nothing: that is an error.
func (r *runner) try(ctx context.Context, m mutation) error {
	if err := r.baseline(ctx, m); err != nil {
		return err
	}
	var found result
	var output string
	start := time.Now()
	err := r.tree.with(m, func() (err error) {
		found, output, err = r.test(ctx, m)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", m, err)
	}
	r.results[found] = append(r.results[found], m)
	_, _ = fmt.Fprintf(r.out, "%-8s %5.1fs  %s%s\n", found, time.Since(start).Seconds(), m, by(found, output))
	if found == broken {
		_, _ = fmt.Fprintln(r.out, indent(output))
	}
	return nil
}

// baseline runs the tests of a mutation without it, once for all mutations with the same tests.
func (r *runner) baseline(ctx context.Context, m mutation) error {
	key := strings.Join(arguments(m, r.bound), " ")
	err, known := r.healthy[key]
	if !known {
		var found result
		var output string
		if found, output, err = r.test(ctx, m); err == nil && found != survived {
			err = fmt.Errorf("the tests fail without a mutation (go %s):\n%s", key, indent(output))
		}
		r.healthy[key] = err
	}
	return err
}

func arguments(m mutation, bound time.Duration) []string {
	args := []string{"test", "-count=1", "-failfast", "-timeout", bound.String()}
	if m.Run != "" {
		args = append(args, "-run", m.Run)
	}
	return append(args, "./"+m.Test)
}

// test runs the tests of a mutation on the tree as it is.
func (r *runner) test(ctx context.Context, m mutation) (result, string, error) {
	limited, cancel := context.WithTimeout(ctx, r.bound+grace)
	defer cancel()
	cmd := exec.CommandContext(limited, "go", arguments(m, r.bound)...)
	cmd.Dir = r.tree.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that the test and its servers end too
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	data, err := cmd.CombinedOutput()
	output := string(data)
	var failed *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", "", context.Cause(ctx)
	case err == nil && strings.Contains(output, "[no tests to run]"):
		return "", "", fmt.Errorf("no test of %s matches %q", m.Test, m.Run)
	case err == nil && strings.Contains(output, "[no test files]"):
		return "", "", fmt.Errorf("%s has no tests", m.Test)
	case err == nil:
		return survived, output, nil
	case limited.Err() != nil || strings.Contains(output, "panic: test timed out after") ||
		strings.Contains(output, "*** Test killed"):
		return hung, output, nil
	case strings.Contains(output, "[build failed]") || strings.Contains(output, "[setup failed]"):
		return broken, output, nil
	case errors.As(err, &failed):
		return caught, output, nil
	}
	return "", "", err
}

// report prints the survivors and the sums, and returns the exit status.
func (r *runner) report() int {
	for _, kind := range []result{survived, broken} {
		for _, m := range r.results[kind] {
			_, _ = fmt.Fprintf(r.out, "%s: %s (%s, tests of %s)\n", strings.ToUpper(string(kind)), m, m.File, m.Test)
		}
	}
	_, _ = fmt.Fprintf(r.out, "%d caught, %d hung, %d survived, %d broken\n",
		len(r.results[caught]), len(r.results[hung]), len(r.results[survived]), len(r.results[broken]))
	switch {
	case len(r.results[broken]) > 0:
		return statusInvalid
	case len(r.results[survived]) > 0:
		return statusSurvivors
	}
	return statusCaught
}

// by names the first test that noticed.
func by(found result, output string) string {
	if found != caught {
		return ""
	}
	for line := range strings.Lines(output) {
		if name, ok := strings.CutPrefix(line, "--- FAIL: "); ok {
			return " (" + strings.Fields(name)[0] + ")"
		}
	}
	return ""
}

// indent returns the end of an output, which says most.
func indent(output string) string {
	const most = 40
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-most):], "\n    ")
}
