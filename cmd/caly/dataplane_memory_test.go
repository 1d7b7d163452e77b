package main

import (
	"math"
	"runtime"
	"strconv"
	"testing"
	"testing/fstest"

	"github.com/caly-dev/caly/internal/password"
)

// container is a file system that tells of a memory limit as control groups of version 2 do.
func container(limit int64) fstest.MapFS {
	return fstest.MapFS{
		"proc/self/cgroup":         {Data: []byte("0::/\n")},
		"sys/fs/cgroup/memory.max": {Data: []byte(strconv.FormatInt(limit, 10) + "\n")},
	}
}

// TestHashMemory checks the memory of hashes, and the hashes that run at once on a machine with 96 CPUs.
func TestHashMemory(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(96))
	for name, tc := range map[string]struct {
		flag         int64
		root         fstest.MapFS
		runtimeLimit int64
		want         int64
		wantSlots    int
	}{
		"the chart's 512 MiB": {
			root:         container(512 << 20),
			runtimeLimit: 512 << 20 / 10 * 9,
			want:         (512<<20/10*9 - 144<<20) / 4,
			wantSlots:    4,
		},
		"the container's limit alone": {
			root:         container(1 << 30),
			runtimeLimit: math.MaxInt64,
			want:         220 << 20,
			wantSlots:    11,
		},
		"GOMEMLIMIT alone":    {runtimeLimit: 1 << 30, want: 220 << 20, wantSlots: 11},
		"the smaller of both": {root: container(16 << 30), runtimeLimit: 1 << 30, want: 220 << 20, wantSlots: 11},
		"no limit":            {runtimeLimit: math.MaxInt64, want: password.DefaultMemory, wantSlots: 6},
		"a limit below the budgets": {
			root:         container(128 << 20),
			runtimeLimit: math.MaxInt64,
			want:         19 << 20,
			wantSlots:    1,
		},
		"64 GiB: half of the CPUs": {
			root:         container(64 << 30),
			runtimeLimit: math.MaxInt64,
			want:         (64<<30 - 144<<20) / 4,
			wantSlots:    48,
		},
		"the flag's, whatever is read": {
			flag:         40 << 20,
			root:         container(64 << 30),
			runtimeLimit: math.MaxInt64,
			want:         40 << 20,
			wantSlots:    2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := hashMemory(tc.flag, tc.root, tc.runtimeLimit)
			if slots := password.NewHasher(password.Options{Memory: got}).Slots(); got != tc.want ||
				slots != tc.wantSlots {
				t.Errorf("%d bytes and %d slots, want %d and %d", got, slots, tc.want, tc.wantSlots)
			}
		})
	}
}

func TestHashMemoryFlag(t *testing.T) {
	for given, wrong := range map[int64]bool{0: false, 19 << 20: false, 1 << 30: false, -1: true, 19<<20 - 1: true} {
		o := apiOptions{
			mode:       "production",
			issuer:     "https://localhost",
			audience:   "caly",
			tenantFrom: []string{"path"},
			hashMemory: given,
		}
		if _, err := o.settings(); (err != nil) != wrong {
			t.Errorf("--password-hash-memory=%d: %v, want an error: %v", given, err, wrong)
		}
	}
}
