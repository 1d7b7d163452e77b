// Package memlimit reads the memory limit that the container, or any other control group, sets this process.
package memlimit

import (
	"bytes"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
)

// none is the smallest number that is not a limit. Version 1 of control groups writes the largest number of pages where
// no limit is set.
const none = 1 << 62

// maxFile bounds what is read of a file, in bytes.
const maxFile = 64 << 10

// Read returns the smallest memory limit, in bytes, that a control group of this process has, version 1 or 2, and
// math.MaxInt64 if there is none. root is the root of the file system: os.DirFS("/").
//
// A container sees its own group as the root, or the path that the group has on the host. So the group's path is tried,
// and each parent of it.
func Read(root fs.FS) int64 {
	limit := int64(math.MaxInt64)
	for _, group := range groups(root) {
		for dir := group.path; ; dir = path.Dir(dir) {
			limit = min(limit, readLimit(root, path.Join(group.mount, dir, group.file)))
			if dir == "." {
				break
			}
		}
	}
	return limit
}

// group is a control group, and where its limit is.
type group struct {
	mount, path, file string
}

// groups returns the groups of the process that can limit memory, and the roots where none can be read.
func groups(root fs.FS) []group {
	found := []group{
		{mount: "sys/fs/cgroup", path: ".", file: "memory.max"},
		{mount: "sys/fs/cgroup/memory", path: ".", file: "memory.limit_in_bytes"},
	}
	text, err := readSome(root, "proc/self/cgroup")
	if err != nil {
		return found
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3) // hierarchy, controllers, path
		if len(fields) != 3 {
			continue
		}
		dir := strings.TrimPrefix(path.Clean("/"+fields[2]), "/")
		switch {
		case dir == "": // the root, which is there already
		case fields[0] == "0" && fields[1] == "":
			found = append(found, group{mount: "sys/fs/cgroup", path: dir, file: "memory.max"})
		case slices.Contains(strings.Split(fields[1], ","), "memory"):
			found = append(found, group{mount: "sys/fs/cgroup/memory", path: dir, file: "memory.limit_in_bytes"})
		}
	}
	return found
}

// readLimit returns the limit that a file holds. It returns math.MaxInt64 for a file that does not exist or does not
// hold a number.
func readLimit(root fs.FS, name string) int64 {
	text, err := readSome(root, name)
	if err != nil {
		return math.MaxInt64
	}
	limit, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil || limit <= 0 || limit >= none { // "max", or version 1's number for it
		return math.MaxInt64
	}
	return limit
}

func readSome(root fs.FS, name string) ([]byte, error) {
	file, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return io.ReadAll(io.LimitReader(file, maxFile))
}
