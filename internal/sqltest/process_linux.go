package sqltest

import (
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// as runs a process as the user, if there is one, and ends it with this process.
func as(owner *user.User) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if owner != nil {
		uid, _ := strconv.ParseUint(owner.Uid, 10, 32)
		gid, _ := strconv.ParseUint(owner.Gid, 10, 32)
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return attr
}

// stop ends a server with all of its processes, and with its connections.
func stop(p *os.Process) { _ = p.Signal(syscall.SIGQUIT) }
