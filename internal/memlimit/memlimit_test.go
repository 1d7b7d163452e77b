package memlimit

import (
	"math"
	"os"
	"testing"
	"testing/fstest"
)

func TestRead(t *testing.T) {
	const self, v2, v1 = "proc/self/cgroup", "sys/fs/cgroup/", "sys/fs/cgroup/memory/"
	for name, tc := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"nothing to read": {want: math.MaxInt64},
		"version 2, own namespace": {
			files: map[string]string{self: "0::/\n", v2 + "memory.max": "536870912\n"},
			want:  512 << 20,
		},
		"version 2, no limit": {
			files: map[string]string{self: "0::/\n", v2 + "memory.max": "max\n"},
			want:  math.MaxInt64,
		},
		"version 2, the host's": {
			files: map[string]string{self: "0::/a/b\n", v2 + "a/b/memory.max": "1048576"},
			want:  1 << 20,
		},
		"version 2, a parent's": {
			files: map[string]string{self: "0::/a/b\n", v2 + "a/memory.max": "1048576", v2 + "a/b/memory.max": "max"},
			want:  1 << 20,
		},
		"version 2, path from host": {
			files: map[string]string{self: "0::/../../a\n", v2 + "memory.max": "1048576"},
			want:  1 << 20,
		},
		"version 1, in a container": {
			files: map[string]string{
				self:                         "9:cpu:/x\n4:memory:/kubepods/pod1/c1\n0::/\n",
				v1 + "memory.limit_in_bytes": "268435456\n",
			},
			want: 256 << 20,
		},
		"version 1, the host's": {
			files: map[string]string{
				self:                           "4:hugetlb,memory:/a\n",
				v1 + "a/memory.limit_in_bytes": "268435456\n",
				v1 + "memory.limit_in_bytes":   "9223372036854771712\n",
			},
			want: 256 << 20,
		},
		"version 1, no limit": {
			files: map[string]string{self: "4:memory:/a\n", v1 + "a/memory.limit_in_bytes": "9223372036854771712\n"},
			want:  math.MaxInt64,
		},
		"another controller's": {
			files: map[string]string{self: "4:memorylike:/a\n", v1 + "a/memory.limit_in_bytes": "1048576\n"},
			want:  math.MaxInt64,
		},
		"not a number":      {files: map[string]string{v2 + "memory.max": "half\n"}, want: math.MaxInt64},
		"zero":              {files: map[string]string{v2 + "memory.max": "0\n"}, want: math.MaxInt64},
		"negative":          {files: map[string]string{v2 + "memory.max": "-1\n"}, want: math.MaxInt64},
		"no list of groups": {files: map[string]string{v2 + "memory.max": "1048576\n"}, want: 1 << 20},
		"a malformed list": {
			files: map[string]string{self: "\n:\n::\nx", v2 + "memory.max": "1048576\n"},
			want:  1 << 20,
		},
		"the smaller of versions": {
			files: map[string]string{v2 + "memory.max": "2097152\n", v1 + "memory.limit_in_bytes": "1048576\n"},
			want:  1 << 20,
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			for file, text := range tc.files {
				root[file] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := Read(root); got != tc.want {
				t.Errorf("%d, want %d", got, tc.want)
			}
		})
	}
}

// TestReadHere checks that the files of the machine that runs the tests can be read.
func TestReadHere(t *testing.T) {
	if got := Read(os.DirFS("/")); got <= 0 {
		t.Errorf("the limit is %d", got)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("0::/a/b\n", "max")
	f.Add("4:memory:/../a\n", "9223372036854771712")
	f.Fuzz(func(t *testing.T, groups, limit string) {
		root := fstest.MapFS{
			"proc/self/cgroup":                             {Data: []byte(groups)},
			"sys/fs/cgroup/memory.max":                     {Data: []byte(limit)},
			"sys/fs/cgroup/memory/memory.limit_in_bytes":   {Data: []byte(limit)},
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": {Data: []byte(limit)},
		}
		if got := Read(root); got <= 0 {
			t.Errorf("the limit is %d", got)
		}
	})
}
