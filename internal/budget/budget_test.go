package budget

import (
	"sync"
	"testing"
)

// TestShare verifies that only the bytes beyond a share's free part count, up to the bound. A refused change has no
// effect.
func TestShare(t *testing.T) {
	b := New(100)
	one := b.Share(10)
	two := b.Share(10)
	for i, tc := range []struct {
		share *Share
		bytes int64
		want  bool
		used  int64
	}{
		{&one, 10, true, 0},
		{&one, 11, true, 1},
		{&one, 110, true, 100},
		{&one, 111, false, 100},
		{&two, 10, true, 100},
		{&two, 11, false, 100},
		{&one, 60, true, 50},
		{&two, 60, true, 100},
		{&two, 61, false, 100},
		{&one, 0, true, 50},
		{&two, 5, true, 0},
		{&two, 0, true, 0},
	} {
		if got := tc.share.Resize(tc.bytes); got != tc.want || b.InUse() != tc.used {
			t.Errorf("step %d: %t, and %d are in use; want %t and %d", i, got, b.InUse(), tc.want, tc.used)
		}
	}
}

// TestPart tests that a part is bounded by itself and by the whole, and that a refusal changes neither.
func TestPart(t *testing.T) {
	whole := New(100)
	budget := whole.Part(60)
	b := whole.Part(60)
	one := budget.Share(0)
	two := b.Share(0)
	for i, tc := range []struct {
		share               *Share
		bytes               int64
		want                bool
		wantA, wantB, wantW int64
	}{
		{share: &one, bytes: 61, want: false},
		{share: &one, bytes: 60, want: true, wantA: 60, wantW: 60},
		{share: &two, bytes: 41, want: false, wantA: 60, wantW: 60},
		{share: &two, bytes: 40, want: true, wantA: 60, wantB: 40, wantW: 100},
		{share: &one, bytes: 0, want: true, wantB: 40, wantW: 40},
		{share: &two, bytes: 0, want: true},
	} {
		got := tc.share.Resize(tc.bytes)
		if got != tc.want || budget.InUse() != tc.wantA || b.InUse() != tc.wantB || whole.InUse() != tc.wantW {
			t.Errorf("step %d: %t, %d and %d of %d are in use", i, got, budget.InUse(), b.InUse(), whole.InUse())
		}
	}
}

// TestNoBudget verifies that a nil budget has no bound.
func TestNoBudget(t *testing.T) {
	var b *Budget
	share := b.Share(10)
	if !share.Resize(1<<40) || !share.Resize(0) || b.InUse() != 0 {
		t.Error("a bound was found")
	}
}

// TestTogether verifies that many concurrent shares never hold more than the budget, and return all of it.
func TestTogether(t *testing.T) {
	b := New(1000)
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			share := b.Share(0)
			for n := range 5000 {
				share.Resize(int64(n * (i + 1) % 300))
				if used := b.InUse(); used > 1000+16*300 { // others may be about to find that there is no room
					t.Errorf("%d are in use", used)
				}
			}
			share.Resize(0)
		})
	}
	group.Wait()
	if b.InUse() != 0 {
		t.Errorf("%d are in use in the end", b.InUse())
	}
}
