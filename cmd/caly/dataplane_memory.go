package main

import (
	"io/fs"
	"math"

	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/dataplane/stream/capture"
	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/memlimit"
	"github.com/caly-dev/caly/internal/password"
)

// budgets is the memory that webhooks, streams and captures may take at once, in bytes, next to hashing.
const budgets = webhook.SharedMemory + bridge.SharedMemory + capture.SharedMemory

// shareOfHashing is the part of the memory beyond the budgets that hashes may take: a quarter. The rest is for the
// streams themselves, for the program, and for garbage.
const shareOfHashing = 4

// minHashMemory is the smallest --password-hash-memory, in bytes: what one hash takes.
var minHashMemory = int64(password.Default.Memory) << 10

// hashMemory returns the memory that hashes of passwords may take at once, in bytes. It is what the flag says, else a
// part of the smaller of two limits: that of the container, read below root, and that of the runtime, which GOMEMLIMIT
// sets. One hash always has room.
func hashMemory(flag int64, root fs.FS, runtimeLimit int64) int64 {
	if flag > 0 {
		return flag
	}
	limit := min(memlimit.Read(root), runtimeLimit)
	if limit == math.MaxInt64 {
		return password.DefaultMemory
	}
	return max((limit-budgets)/shareOfHashing, minHashMemory)
}
