//go:build !linux

package bridge

import "syscall"

// limitUnsent does nothing: only Linux has the socket option that it needs.
func limitUnsent(syscall.RawConn) {}
