//go:build !linux

package sqltest

import (
	"os"
	"os/user"
	"syscall"
)

// as leaves the process as it is: these systems cannot end it with this one.
func as(*user.User) *syscall.SysProcAttr { return nil }

func stop(p *os.Process) { _ = p.Kill() }
