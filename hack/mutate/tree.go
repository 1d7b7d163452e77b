package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// tree is a copy of the repository's files that may be changed.
type tree struct{ dir string }

// copyFrom copies what git would commit of a repository: tracked files as they are now, and new ones that are not
// ignored.
func (t tree) copyFrom(ctx context.Context, repository string) error {
	names, err := exec.CommandContext(ctx, "git", "-C", repository,
		"ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(names), "\x00"), "\x00") {
		err := copyFile(filepath.Join(repository, name), filepath.Join(t.dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) { // deleted, but not yet for git
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
		return err
	}
	if info.Mode()&os.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

// check returns an error that names every mutation that cannot be applied.
func (t tree) check(list []mutation) error {
	var problems []error
	for _, m := range list {
		if _, _, err := t.mutated(m); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// mutated returns a file's content without and with the mutation.
func (t tree) mutated(m mutation) (original, changed string, err error) {
	data, err := os.ReadFile(filepath.Join(t.dir, m.File))
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", m, err)
	}
	original = string(data)
	if n := strings.Count(original, m.Old); n != 1 {
		return "", "", fmt.Errorf("%s: %s has the text %d times, want once; correct the list: %q", m, m.File, n, m.Old)
	}
	return original, strings.Replace(original, m.Old, m.New, 1), nil
}

// with runs f while the mutation is applied.
func (t tree) with(m mutation, f func() error) (err error) {
	original, changed, err := t.mutated(m)
	if err != nil {
		return err
	}
	path := filepath.Join(t.dir, m.File)
	defer func() { err = errors.Join(err, os.WriteFile(path, []byte(original), 0o600)) }()
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		return err
	}
	return f()
}
