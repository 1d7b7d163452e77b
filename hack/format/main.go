// Command format puts each key of a keyed literal on a line of its own, if the literal has several lines or a line over
// 120 columns. It puts each key of a log line that has several lines on one line with its value, and joins the
// arguments of calls that golines put on a line each where they fit on one. It formats the Go
// files that git does not ignore, without generated ones. It breaks no other lines: golines does.
//
//	go run ./hack/format           format
//	go run ./hack/format --check   list the files that are not formatted, and fail
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	check := slices.Contains(os.Args[1:], "--check")
	paths, err := files()
	if err != nil {
		fail(err)
	}
	changed := false
	for _, path := range paths {
		different, err := formatFile(path, check)
		if err != nil {
			fail(fmt.Errorf("%s: %w", path, err))
		}
		if different && check {
			fmt.Println(path)
		}
		changed = changed || different
	}
	if changed && check {
		fail(errors.New("these files are not formatted: run make fmt"))
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "format:", err)
	os.Exit(1)
}

// files returns the Go files that git does not ignore, tracked or not, and no program generates.
func files() ([]string, error) {
	out, err := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "*.go").Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	return slices.DeleteFunc(strings.Fields(string(out)), func(path string) bool {
		_, err := os.Stat(path)
		return err != nil || strings.Contains(path, "zz_generated") || strings.Contains(path, "applyconfiguration/") ||
			strings.Contains(path, "/testdata/")
	}), nil
}

// formatFile formats a file, unless it only checks. It reports whether that changes the file.
func formatFile(path string, check bool) (changed bool, err error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	formatted, err := format(source)
	if err != nil || bytes.Equal(source, formatted) {
		return false, err
	}
	if check {
		return true, nil
	}
	return true, os.WriteFile(path, formatted, 0o644) //nolint:gosec // source code
}
