package main

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestList checks what "make mutate" promises about the list. Whether each mutation still applies only it checks.
func TestList(t *testing.T) {
	list, err := load("list")
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 100 {
		t.Errorf("%d mutations, want at least 100", len(list))
	}
	areas := map[string]bool{}
	for _, m := range list {
		areas[m.area] = true
	}
	want := []string{
		"chart",
		"conditions",
		"identity",
		"ingest",
		"limits",
		"retry",
		"sessions",
		"store",
		"stream",
		"tracing",
		"upload",
		"verify",
	}
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(areas))); d != "" {
		t.Errorf("areas (-want +got):\n%s", d)
	}
}
