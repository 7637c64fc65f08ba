//go:build !unix

package redistest

import (
	"errors"
	"net"
)

func shortenQueue(*net.TCPListener) error { return errors.ErrUnsupported }
