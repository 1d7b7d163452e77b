// Command mutate measures what the tests notice. It makes small faults, one at a time, in a copy of the tree, and runs
// the tests of one package against each. A fault that passes all of them is a survivor: a test is missing.
//
//	go run ./hack/mutate [--area verify,store] [--only REGEXP] [--bound 5m] [--check]
//
// The faults are in hack/mutate/list, one file for each area. The exit status is 0 if all faults are caught and 1 if
// some survive. It is 2 if the list does not fit the tree: a text is not found exactly once, a mutated package does not
// build, or the tests fail without a fault.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// Exit statuses.
const (
	statusCaught    = 0
	statusSurvivors = 1
	statusInvalid   = 2
)

// options are the command's flags.
type options struct {
	list, areas string
	only        *regexp.Regexp
	bound       time.Duration
	checkOnly   bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

func run(ctx context.Context, args []string, out, problems io.Writer) int {
	options, err := parse(args, problems)
	if err != nil {
		return statusInvalid
	}
	status, err := mutate(ctx, options, out)
	if err != nil {
		_, _ = fmt.Fprintln(problems, "mutate:", err)
		return statusInvalid
	}
	return status
}

func parse(args []string, problems io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("mutate", flag.ContinueOnError)
	flags.SetOutput(problems)
	flags.StringVar(&o.list, "list", "hack/mutate/list", "folder of the mutations")
	flags.StringVar(&o.areas, "area", "", "areas to try, separated by commas (default: all)")
	flags.DurationVar(&o.bound, "bound", 5*time.Minute, "time that the tests of one mutation may take")
	flags.BoolVar(&o.checkOnly, "check", false, "only check that each mutation can be applied")
	only := flags.String("only", "", "regular expression: try only the mutations whose name matches")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	} else {
		o.only, err = regexp.Compile(*only)
	}
	if err != nil {
		_, _ = fmt.Fprintln(problems, "mutate:", err)
	}
	return o, err
}

// mutate copies the working directory's tree, tries the mutations and returns the exit status.
func mutate(ctx context.Context, o options, out io.Writer) (status int, err error) {
	all, err := load(o.list)
	if err != nil {
		return 0, err
	}
	chosen := choose(all, o)
	if len(chosen) == 0 {
		return 0, errors.New("no mutation matches: see the names in " + o.list)
	}
	dir, err := os.MkdirTemp("", "caly-mutate-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	t := tree{dir}
	if err := t.copyFrom(ctx, "."); err != nil {
		return 0, fmt.Errorf("copy the tree: %w", err)
	}
	if err := t.check(all); err != nil {
		return 0, err
	}
	if o.checkOnly {
		_, _ = fmt.Fprintf(out, "%d mutations can be applied\n", len(all))
		return statusCaught, nil
	}
	runner := newRunner(t, o.bound, out)
	for _, m := range chosen {
		if err := runner.try(ctx, m); err != nil {
			return 0, err
		}
	}
	return runner.report(), nil
}

func choose(all []mutation, o options) (chosen []mutation) {
	for _, m := range all {
		inArea := o.areas == "" || strings.Contains(","+o.areas+",", ","+m.area+",")
		if inArea && o.only.MatchString(m.Name) {
			chosen = append(chosen, m)
		}
	}
	return chosen
}
