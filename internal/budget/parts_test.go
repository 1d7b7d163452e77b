package budget

import "testing"

// TestParts checks that one user of a budget leaves the rest to the others.
func TestParts(t *testing.T) {
	parts := New(100).Parts(50)
	share := parts.Of("a").Share(0)
	b := parts.Of("b").Share(0)
	c := parts.Of("c").Share(0)
	if !share.Resize(50) || share.Resize(51) {
		t.Error("a has another bound than its part")
	}
	if again := parts.Of("a").Share(0); again.Resize(1) {
		t.Error("a has two parts")
	}
	if !b.Resize(50) || c.Resize(1) || parts.InUse() != 100 {
		t.Errorf("%d are in use, want all", parts.InUse())
	}
	share.Resize(0)
	if !c.Resize(50) {
		t.Error("c has no room although a left its own")
	}
}
