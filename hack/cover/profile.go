package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// block is statements that run together.
type block struct {
	file        string // from the repository's root
	first, last int    // lines
	statements  int
	covered     bool
	explained   bool
}

// parse reads a profile. A block is covered if one of its lines says so.
func parse(profile string) ([]block, error) {
	lines := strings.Split(strings.TrimSpace(profile), "\n")
	if !strings.HasPrefix(lines[0], "mode: ") {
		return nil, errors.New("it does not begin with a mode")
	}
	found := map[string]block{}
	for i, line := range lines[1:] {
		name, rest, ok := strings.Cut(line, ":")
		var b block
		var firstColumn, lastColumn, count int
		if ok {
			_, err := fmt.Sscanf(
				rest, "%d.%d,%d.%d %d %d", &b.first, &firstColumn, &b.last, &lastColumn, &b.statements, &count,
			)
			ok = err == nil
		}
		if !ok {
			return nil, fmt.Errorf("line %d is not one of a profile: %q", i+2, line)
		}
		b.file = strings.TrimPrefix(name, module)
		position, _, _ := strings.Cut(line, " ")
		b.covered = count > 0 || found[position].covered
		found[position] = b
	}
	blocks := make([]block, 0, len(found))
	for _, b := range found {
		blocks = append(blocks, b)
	}
	slices.SortFunc(blocks, func(a, b block) int {
		return cmp.Or(strings.Compare(a.file, b.file), a.first-b.first, a.last-b.last, a.statements-b.statements)
	})
	return blocks, nil
}

// exception is statements that no test can reach.
type exception struct{ file, text, reason string }

// parseExceptions reads lines of "file | text of the block | reason".
func parseExceptions(list string) (all []exception, err error) {
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.SplitN(line, " | ", 3)
		if len(fields) != 3 || slices.Contains(fields, "") {
			return nil, fmt.Errorf("unreachable.txt: %q is not file | text | reason", line)
		}
		all = append(all, exception{fields[0], fields[1], fields[2]})
	}
	return all, nil
}

// except marks the blocks that the exceptions explain. An exception that explains nothing is out of date.
func except(blocks []block, all []exception, text func(block) (string, error)) ([]block, error) {
	blocks = slices.Clone(blocks)
	for _, e := range all {
		n := 0
		for i, b := range blocks {
			if b.covered || b.file != e.file {
				continue
			}
			lines, err := text(b)
			if err != nil {
				return nil, err
			}
			if strings.Contains(lines, e.text) {
				blocks[i].explained = true
				n++
			}
		}
		if n == 0 {
			return nil, fmt.Errorf(
				"unreachable.txt: %s has no uncovered block with %q; remove the line", e.file, e.text,
			)
		}
	}
	return blocks, nil
}

// sourceReader reads each file once.
type sourceReader struct{ files map[string][]string }

// text is the lines of a block.
func (s sourceReader) text(b block) (string, error) {
	lines, ok := s.files[b.file]
	if !ok {
		data, err := os.ReadFile(b.file)
		if err != nil {
			return "", err
		}
		lines = strings.Split(string(data), "\n")
		s.files[b.file] = lines
	}
	if b.last > len(lines) {
		return "", fmt.Errorf("%s has changed since the profile was written", b.file)
	}
	return strings.Join(lines[b.first-1:b.last], "\n"), nil
}
