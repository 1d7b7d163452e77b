package dbconn

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// boundUnacked sets the socket's bound on data that the peer does not acknowledge. Without it the kernel tries for a
// quarter of an hour.
func boundUnacked(network, _ string, c syscall.RawConn) (err error) {
	if network == "unix" {
		return nil
	}
	controlled := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedTimeout.Milliseconds()))
	})
	return errors.Join(err, controlled)
}
