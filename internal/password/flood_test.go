package password

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"
)

// TestFloodOfLogins checks that a flood of logins on a machine with 96 CPUs takes no more memory than a container of
// 512 MiB leaves to hashing. Slots that count CPUs alone made it 48 x 19 MiB.
func TestFloodOfLogins(t *testing.T) {
	const (
		share = 80 << 20
		limit = 256 << 20 // of the runtime, which it aims at: the share, and garbage
		bound = 384 << 20
	)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(96))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(limit))
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as the data plane
	hasher := NewHasher(Options{Memory: share, Wait: time.Minute})
	peak := watchHeap(t)
	var flood sync.WaitGroup
	for range 96 {
		flood.Go(func() {
			if _, _, err := hasher.Verify(context.WithoutCancel(t.Context()), good, ""); err != nil &&
				!errors.Is(err, ErrBusy) {
				t.Error(err)
			}
		})
	}
	flood.Wait()
	if got := peak(); got > bound {
		t.Errorf("the heap took %d MiB with %d slots, want at most %d MiB", got>>20, hasher.Slots(), bound>>20)
	} else {
		t.Logf("the heap took %d MiB with %d slots", got>>20, hasher.Slots())
	}
}

// watchHeap samples the bytes of heap objects until the returned function is called, which returns the largest sample.
func watchHeap(t *testing.T) (peak func() uint64) {
	t.Helper()
	stop := make(chan struct{})
	done := make(chan uint64)
	go func() {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		most := uint64(0)
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for {
			metrics.Read(sample)
			most = max(most, sample[0].Value.Uint64())
			select {
			case <-stop:
				done <- most
				return
			case <-ticker.C:
			}
		}
	}()
	return func() uint64 {
		close(stop)
		return <-done
	}
}
