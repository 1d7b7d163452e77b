package server

import (
	"fmt"
	"testing"
)

// TestDiagnosing fills the places of namespaces, which does not keep the platform from its checks.
func TestDiagnosing(t *testing.T) {
	var d diagnosing
	for i := range maxDiagnosed {
		if name := fmt.Sprint("n", i); !d.enter(name) || d.enter(name) {
			t.Errorf("%s: want one place", name)
		}
	}
	if d.enter("beyond") {
		t.Error("there is a place beyond the bound")
	}
	if !d.enter("") || d.enter("") {
		t.Error("want one place for the platform")
	}
	d.leave("n0")
	if !d.enter("beyond") {
		t.Error("a place that was left is not free")
	}
}
