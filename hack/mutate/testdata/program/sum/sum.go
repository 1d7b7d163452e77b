// Package sum has a function with a test and one without.
package sum

// Sum adds.
func Sum(a, b int) int { return a + b }

// Zero is 0.
func Zero() int { return 0 }
