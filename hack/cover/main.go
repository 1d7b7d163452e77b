// Command cover prints how much of the critical paths the tests cover, and fails where it is less than the aim.
//
//	go run ./hack/cover [-uncovered] PROFILE
//
// The profile is that of "go test -coverprofile"; it may have a block several times, once for each test binary.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
)

const (
	module = "github.com/caly-dev/caly/"
	// aim is the least part of the statements of an area that tests cover, in percent.
	aim = 95.0
)

// area is a critical path.
type area struct {
	name     string
	packages []string // folders
}

// areas are the critical paths. hack/cover.sh names the packages whose tests cover them.
func areas() []area {
	return []area{
		{"verify", []string{"dataplane/verify"}},
		{"ingest", []string{"internal/ingest"}},
		{"store", []string{"internal/store"}},
		{"uploader", []string{"dataplane/upload"}},
		{"retry and breaker", []string{"internal/resilience"}},
		{"sessions and tokens", []string{
			"dataplane/identity/session",
			"dataplane/token",
			"internal/keyring",
			"internal/refreshtoken",
		}},
		{"limits", []string{
			"dataplane/admission",
			"dataplane/ratelimit",
			"internal/budget",
			"internal/fair",
		}},
		{"stream bridge", []string{"dataplane/stream/bridge"}},
		{"conditions", []string{"internal/conditions"}},
	}
}

func main() {
	uncovered := flag.Bool("uncovered", false, "print the blocks that no test covers")
	flag.Parse()
	if err := run(os.Stdout, flag.Args(), *uncovered); err != nil {
		fmt.Fprintln(os.Stderr, "cover:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, args []string, uncovered bool) error {
	if len(args) != 1 {
		return errors.New("name the profile of go test -coverprofile")
	}
	profile, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	blocks, err := parse(string(profile))
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	list, err := os.ReadFile("hack/cover/unreachable.txt")
	if err != nil {
		return err
	}
	exceptions, err := parseExceptions(string(list))
	if err != nil {
		return err
	}
	sources := sourceReader{files: map[string][]string{}}
	if blocks, err = except(blocks, exceptions, sources.text); err != nil {
		return err
	}
	if uncovered {
		printUncovered(w, blocks, sources.text)
	}
	return report(w, areas(), blocks)
}

// report prints a line for each area. It fails where one has too little.
func report(w io.Writer, areas []area, blocks []block) error {
	var low []string
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "area\tcovered\tstatements\texplained\tpackages")
	for _, a := range areas {
		total := sum(blocks, a.packages)
		_, _ = fmt.Fprintf(table, "%s\t%.1f %%\t%d\t%d\t%s\n",
			a.name, total.percent(), total.statements, total.explained, strings.Join(a.packages, " "))
		if total.statements == 0 || total.percent() < aim {
			low = append(low, a.name)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(low) > 0 {
		return fmt.Errorf("less than %.0f %% of %s is covered: add tests, or explain the statements that no test "+
			"can reach in hack/cover/unreachable.txt; -uncovered prints them", aim, strings.Join(low, ", "))
	}
	return nil
}

// total of an area's statements, without the explained ones.
type total struct{ statements, covered, explained int }

func (s total) percent() float64 {
	if s.statements == 0 {
		return 0
	}
	return 100 * float64(s.covered) / float64(s.statements)
}

func sum(blocks []block, packages []string) (s total) {
	for _, b := range blocks {
		switch {
		case !slices.Contains(packages, filepath.Dir(b.file)):
		case b.explained:
			s.explained += b.statements
		default:
			s.statements += b.statements
			if b.covered {
				s.covered += b.statements
			}
		}
	}
	return s
}

func printUncovered(w io.Writer, blocks []block, text func(block) (string, error)) {
	for _, b := range blocks {
		if b.covered || b.explained {
			continue
		}
		lines, err := text(b)
		if err != nil {
			lines = err.Error()
		}
		_, _ = fmt.Fprintf(w, "%s:%d (%d)\n%s\n", b.file, b.first, b.statements, lines)
	}
}
