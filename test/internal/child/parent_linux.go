package child

import "syscall"

// dieWithParent lets a worker end with this process, even when that is killed. It is in a process group of its own: a group that is
// left without a shell gets SIGCONT, and a worker that is paused would go on.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
