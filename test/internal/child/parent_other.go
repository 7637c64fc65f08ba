//go:build unix && !linux

package child

import (
	"errors"
	"syscall"
)

// DieWithParent does nothing on this system.
func DieWithParent() *syscall.SysProcAttr { return nil }

// standsStill is not supported on this system.
func (p *Process) standsStill() (bool, error) { return false, errors.ErrUnsupported }
