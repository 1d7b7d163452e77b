package budget

import "testing"

// TestParts checks that one user of a budget leaves the rest to the others.
func TestParts(t *testing.T) {
	p := New(100).Parts(50)
	a, b, c := p.Of("a").Share(0), p.Of("b").Share(0), p.Of("c").Share(0)
	if !a.Resize(50) || a.Resize(51) {
		t.Error("a has another bound than its part")
	}
	if again := p.Of("a").Share(0); again.Resize(1) {
		t.Error("a has two parts")
	}
	if !b.Resize(50) || c.Resize(1) || p.InUse() != 100 {
		t.Errorf("%d are in use, want all", p.InUse())
	}
	a.Resize(0)
	if !c.Resize(50) {
		t.Error("c has no room although a left its own")
	}
}
