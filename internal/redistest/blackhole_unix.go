//go:build unix

package redistest

import (
	"net"
	"syscall"
)

// shortenQueue makes the queue of connections that wait to be accepted as short as the system
// allows.
func shortenQueue(listener *net.TCPListener) error {
	raw, err := listener.SyscallConn()
	if err != nil {
		return err
	}
	var refused error
	if err := raw.Control(func(fd uintptr) { refused = syscall.Listen(int(fd), 0) }); err != nil {
		return err
	}
	return refused
}
