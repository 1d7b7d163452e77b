//go:build !linux

package bridge

import "syscall"

func limitUnsent(syscall.RawConn) {}
