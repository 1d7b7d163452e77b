package main

import (
	"slices"
	"strings"
	"testing"
)

// TestShape checks each figure on one small file.
func TestShape(t *testing.T) {
	source := `package p

// Documented has a comment.
// +kubebuilder:` + strings.Repeat("-", 141) + `
func Documented(a, b, c, d, e, f int) {
	x := 1
	y, name := 2, 3
	_, _, _ = x, y, name
}

func bare() {
	_ = map[string]int{
		"a": 1, "b": 2,
	}
	_ = map[string]int{
		"a": 1,
		"b": 2,
	}
	_ = "` + strings.Repeat("-", 121) + `"
	p.Documented(1)
}

type Unused struct{}
`
	shape := newShape()
	if err := shape.add("dir/p.go", []byte(source)); err != nil {
		t.Fatal(err)
	}
	for figure, want := range map[string]string{
		"lines over 120 columns":                         "4.5 % (1 of 22)",
		"lines over 140 columns":                         "0.0 % (0 of 22)",
		"keyed literals with several keys on a line":     "50.0 % (1 of 2)",
		"one-letter locals":                              "66.7 % (2 of 3)",
		"parallel assignments":                           "33.3 % (2 of 6)",
		"production functions without a doc comment":     "50.0 % (1 of 2)",
		"exported names that no selector names":          "1 of 2",
		"production functions with over five parameters": "1, at most 6 (dir/p.go:Documented)",
		"lines of a function: median, p90, max":          "11, 11, 11 (dir/p.go:bare)",
	} {
		if row := "| " + figure + " | " + want + " |"; !strings.Contains(shape.String(), row) {
			t.Errorf("no row %q in\n%s", row, shape)
		}
	}
}

// TestLists checks that the lists name each place that the figures count.
func TestLists(t *testing.T) {
	source := "package p\n\ntype Unused struct{}\n\nfunc f() {\n\ta, b := 1, 2\n\t_, _ = a, b\n}\n"
	shape := newShape()
	if err := shape.add("dir/p.go", []byte(source)); err != nil {
		t.Fatal(err)
	}
	if got, want := shape.unused(), []string{"dir/p.go:3: Unused"}; !slices.Equal(got, want) {
		t.Errorf("names %q, want %q", got, want)
	}
	if got, want := shape.parallel, []string{"dir/p.go:6", "dir/p.go:7"}; !slices.Equal(got, want) {
		t.Errorf("assignments %q, want %q", got, want)
	}
}

// TestShapeOfNothing checks that a tree without files has figures too.
func TestShapeOfNothing(t *testing.T) {
	if got := newShape().String(); !strings.Contains(got, "| lines over 120 columns | 0.0 % (0 of 0) |") {
		t.Error(got)
	}
}
