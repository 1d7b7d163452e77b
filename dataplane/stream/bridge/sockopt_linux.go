package bridge

import "syscall"

// unsentLimit is how much the kernel may hold that it has not sent. What waits longer waits with us, where a clear takes it back and
// the budget sees it; a kernel would keep minutes of audio for a peer that stalls.
const unsentLimit = 32 << 10

// tcpNotSentLowat is TCP_NOTSENT_LOWAT, which package syscall does not name.
const tcpNotSentLowat = 25

// limitUnsent bounds the unsent bytes in the kernel's buffer, so that old audio waits where it can be dropped.
func limitUnsent(c syscall.RawConn) {
	_ = c.Control(func(fd uintptr) {
		// No harm where it fails, on sockets that are not TCP.
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, unsentLimit)
	})
}
