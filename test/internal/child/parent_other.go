//go:build unix && !linux

package child

import (
	"errors"
	"syscall"
)

func dieWithParent() *syscall.SysProcAttr { return nil }

// standsStill cannot be told here.
func (p *Process) standsStill() (bool, error) { return false, errors.ErrUnsupported }
