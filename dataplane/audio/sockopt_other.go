//go:build !linux

package audio

import "syscall"

func limitUnsent(syscall.RawConn) {}
