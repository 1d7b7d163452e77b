package ratelimit

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/caly-dev/caly/internal/store"
)

func key(n int) hash { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n))) }

// TestMemoryIsBounded checks that a client that tries under ever new keys makes a pod forget keys, and not grow.
func TestMemoryIsBounded(t *testing.T) {
	local := newLocal(time.Now())
	now := time.Now()
	limit := Limit{Requests: 1000, Window: time.Hour}
	for n := range 4 * blockedKeys {
		local.block(key(n), limit, now.Add(time.Hour))
		local.take(key(n), limit, 20, now)
	}
	if w := local.blocked.weight(); w > blockedKeys || w < blockedKeys*9/10 {
		t.Errorf("%d blocked keys are kept, want up to %d", w, blockedKeys)
	}
	if w := local.logs.weight(); w > localHits || w < localHits*9/10 {
		t.Errorf("the logs weigh %d, want up to %d", w, localHits)
	}
	entries := 0
	ordered := 0
	for i := range local.logs.shards {
		entries += len(local.logs.shards[i].entries)
		ordered += local.logs.shards[i].order.Len()
	}
	if entries != ordered || entries > localHits/keyWeight {
		t.Errorf(
			"%d entries in the maps and %d in order, want the same and at most %d",
			entries,
			ordered,
			localHits/keyWeight,
		)
	}
	if local.blockedFor(key(4*blockedKeys-1), limit, now) <= 0 {
		t.Error("the latest was forgotten")
	}
}

// TestMemoryForgetsTheLeastUsed verifies that a block that is looked up often stays in memory during a flood of other
// keys.
func TestMemoryForgetsTheLeastUsed(t *testing.T) {
	local := newLocal(time.Now())
	now := time.Now()
	limit := Limit{Requests: 1, Window: time.Hour}
	local.block(key(-1), limit, now.Add(time.Hour))
	for n := range 2 * blockedKeys {
		local.block(key(n), limit, now.Add(time.Hour))
		if n%100 == 0 && local.blockedFor(key(-1), limit, now) <= 0 {
			t.Fatalf("forgotten after %d others", n)
		}
	}
	local.blockedFor(key(-1), limit, now.Add(time.Hour))
	if before, after := local.blocked.weight(), blockedKeys; before >= after {
		t.Errorf("what is over still takes room: %d", before)
	}
}

// TestLocalLogAgreesWithModel verifies that the pod's own log decides as the database does.
func TestLocalLogAgreesWithModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		start := time.Now()
		local := newLocal(start)
		window := rapid.IntRange(1, 20).Draw(rt, "window")
		var hits []int // when
		at := 0
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			at += rapid.IntRange(0, 8).Draw(rt, "passes")
			now := start.Add(time.Duration(at))
			limit := Limit{Requests: rapid.IntRange(1, 6).Draw(rt, "limit"), Window: time.Duration(window)}
			wanted := rapid.IntRange(1, 4).Draw(rt, "wanted")
			hits = slices.DeleteFunc(hits, func(hit int) bool { return hit+window <= at })
			granted := min(wanted, max(limit.Requests-len(hits), 0))
			for range granted {
				hits = append(hits, at)
			}
			if rapid.Bool().Draw(rt, "granted by the database") && granted > 0 {
				local.note(key(1), limit, granted, now)
				continue
			}
			want := store.HitsTaken{
				Granted: granted,
				Used:    len(hits),
				FreeIn:  time.Duration(hits[max(len(hits)-limit.Requests, 0)] + window - at),
			}
			if diff := cmp.Diff(want, local.take(key(1), limit, wanted, now)); diff != "" {
				rt.Fatalf("-want +got:\n%s", diff)
			}
		}
	})
}

// TestNoteKeepsTheLatest verifies that the log has at most as many hits as the current limit, also after a higher
// limit.
func TestNoteKeepsTheLatest(t *testing.T) {
	start := time.Now()
	local := newLocal(start)
	local.note(key(1), Limit{Requests: 900, Window: time.Hour}, 900, start)
	low := Limit{Requests: 2, Window: time.Hour}
	local.note(key(1), low, 1, start.Add(time.Minute))
	want := store.HitsTaken{Used: 2, FreeIn: time.Hour - 2*time.Minute}
	if diff := cmp.Diff(want, local.take(key(1), low, 1, start.Add(2*time.Minute))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
