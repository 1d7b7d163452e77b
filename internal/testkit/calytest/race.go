//go:build race

package calytest

// raceDetector is true in a test binary with the race detector.
const raceDetector = true
