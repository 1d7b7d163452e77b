//go:build !linux

package dbconn

import "syscall"

// boundUnacked does nothing: the bound exists on Linux alone.
func boundUnacked(string, string, syscall.RawConn) error { return nil }
