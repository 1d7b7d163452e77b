package exotel

import "testing"

// TestFieldLabels checks that a metric has the labels from its start that FieldLabel gives later.
func TestFieldLabels(t *testing.T) {
	labels := FieldLabels()
	for _, label := range labels {
		if got := FieldLabel(label); got != label {
			t.Errorf("%s becomes %s", label, got)
		}
	}
	if len(labels) < 20 {
		t.Errorf("%d labels", len(labels))
	}
}
