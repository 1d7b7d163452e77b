// Package bad has a test that fails.
package bad

// One is 1.
func One() int { return 1 }
