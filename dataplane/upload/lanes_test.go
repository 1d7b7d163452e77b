package upload

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// TestLanes hashes many transfers at once, in pieces of every length, some of them abandoned half way: each sum is MD5's own.
func TestLanes(t *testing.T) {
	for name, tc := range map[string]struct{ transfers, most, piece int }{
		"one alone":                 {1, 1 << 20, 32 << 10},
		"fewer than a batch":        {3, 1 << 20, 32 << 10},
		"more than there are lanes": {40, 300_000, 4096},
		"all sizes of pieces":       {16, 500_000, 100_000},
		"single bytes":              {9, 3000, 1},
		"around a buffer's length":  {12, 2 * laneBuffer, laneBuffer},
	} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			all := newLanes()
			defer all.close()
			var wg sync.WaitGroup
			for i := range tc.transfers {
				wg.Go(func() {
					if err := hashOne(all, rand.New(rand.NewPCG(uint64(i), 7)), tc.most, tc.piece); err != nil {
						t.Errorf("transfer %d: %v", i, err)
					}
				})
			}
			wg.Wait()
			if all.open != 0 || len(all.ready) != 0 {
				t.Errorf("%d lanes are open and %d ready after the end", all.open, len(all.ready))
			}
		})
	}
}

func hashOne(all *lanes, rng *rand.Rand, most, piece int) error {
	data := make([]byte, rng.IntN(most+1))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	lane := all.lane()
	defer lane.close()
	abandoned := rng.IntN(4) == 0
	for rest := data; len(rest) > 0; {
		n := min(1+rng.IntN(piece), len(rest))
		if _, err := lane.Write(rest[:n]); err != nil {
			return err
		}
		if rest = rest[n:]; abandoned && len(rest) < len(data)/2 {
			return nil
		}
	}
	want := md5.Sum(data)
	for range 2 { // a sum does not change what it is of
		if got := hex.EncodeToString(lane.sum()); got != hex.EncodeToString(want[:]) {
			return fmt.Errorf("%d bytes: got %s, want %x", len(data), got, want)
		}
	}
	return nil
}

// TestLanesAreUsedAgain verifies that lanes are used again, even when they were abandoned half way. The hash server
// never frees a hasher that was requested.
func TestLanesAreUsedAgain(t *testing.T) {
	noLeak(t)
	all := newLanes()
	defer all.close()
	rng := rand.New(rand.NewPCG(1, 7))
	for idle := range 8 {
		for range idle { // their sources broke off before the first byte
			all.lane().close()
		}
		for i := range 4 {
			if err := hashOne(all, rng, 4*laneBuffer, laneBuffer); err != nil {
				t.Fatalf("transfer %d after %d that were never begun: %v", i, idle, err)
			}
		}
	}
	if len(all.free) != 1 {
		t.Errorf("%d lanes were made for one transfer at a time, want 1", len(all.free))
	}
}

// BenchmarkDigest measures the digests of parallel transfers, as an upload pod has them.
func BenchmarkDigest(b *testing.B) {
	all := newLanes()
	defer all.close()
	block := make([]byte, 32<<10)
	b.SetBytes(int64(len(block)))
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		lane := all.lane()
		defer lane.close()
		for pb.Next() {
			_, _ = lane.Write(block)
		}
	})
}
