package pgtest

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// double is a test of a name that notes how it ends.
type double struct {
	testing.TB
	name, skipped, fatal string
}

func (d *double) Helper()      {}
func (d *double) Name() string { return d.name }
func (d *double) Skip(args ...any) {
	d.skipped = fmt.Sprint(args...)
	runtime.Goexit() // as testing.T does
}

func (d *double) Fatalf(format string, args ...any) {
	d.fatal = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// run calls f as a test of a name.
func run(t *testing.T, name string, f func(testing.TB)) *double {
	t.Helper()
	test := &double{TB: t, name: name}
	done := make(chan struct{})
	go func() { defer close(done); f(test) }()
	<-done
	return test
}

// TestSameOnEachServer checks that no test of the shared server can be left out: the first run refuses it the server.
func TestSameOnEachServer(t *testing.T) {
	t.Setenv(againVariable, "")
	if got := run(t, "TestPure", SameOnEachServer); got.skipped != "" {
		t.Errorf("the first run skips it: %s", got.skipped)
	}
	for name, refused := range map[string]bool{
		"TestPure":       true,
		"TestPure/a/b":   true,
		"TestPureToo":    false,
		"TestOther/a":    false,
		"TestO/TestPure": false,
	} {
		got := run(t, name, checkAllowed)
		if strings.Contains(got.fatal, "uses the shared server") != refused {
			t.Errorf("%s uses the shared server: %q, want that it is refused: %v", name, got.fatal, refused)
		}
	}
	if got := run(t, "TestPure", func(t testing.TB) { New(t) }); got.fatal == "" {
		t.Error("New gives it a database")
	}
	t.Setenv(againVariable, "1")
	if got := run(t, "TestPure", SameOnEachServer); got.skipped == "" {
		t.Error("the second run does not skip it")
	}
}
